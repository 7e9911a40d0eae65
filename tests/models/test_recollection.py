"""A memory around a navigator: what is trained is what is run, and the navigator stays what it was."""

from dataclasses import replace

import pytest
import torch

from dualsight.models.janus_vln import TINY, EpisodeBatch, JanusVLN
from dualsight.models.janus_vln_config import TextConfig, VisionConfig
from dualsight.models.recollection import Recollection, RecollectionConfig

CONFIG = replace(
    TINY,
    vision=VisionConfig(2, 32, 48, 2, window_size=28, fullatt_block_indexes=(1,)),
    text=TextConfig(64, 48, 64, 3, 4, 2, mrope_section=(2, 2, 2)),
    fusion="none",
    image_width=56,
    image_height=56,
    initial=2,
    recent=3,
    max_prompt=10,
    action_slots=1,
)
STEPS, FIRST = 12, 6
"""Frames of a walk, and the step at which the first one has been lost."""


def make(**changes) -> Recollection:
    torch.manual_seed(0)
    navigator = JanusVLN(CONFIG)
    memory = Recollection(navigator, RecollectionConfig(width=32, heads=2, **changes)).eval()
    for parameter in [*navigator.parameters(), *memory.parameters()]:
        torch.nn.init.normal_(parameter, std=0.3)
    return memory


@pytest.fixture(scope="module")
def batch() -> EpisodeBatch:
    torch.manual_seed(1)
    previous = torch.randint(7, 11, (3, STEPS, 1))
    previous[:, 0] = -1
    prompts = torch.randint(0, 64, (3, 9))
    frames = torch.rand(3, STEPS, 3, 56, 56)
    return EpisodeBatch(prompts, torch.tensor([9, 4, 6]), previous, torch.full((3,), STEPS), frames)


@torch.no_grad()
def streamed(memory: Recollection, batch: EpisodeBatch) -> torch.Tensor:
    """Scores at every step at which something was lost, (B, Q, V), frame by frame."""
    navigator, capacity = memory.navigator, memory.config.capacity
    dual = navigator.start(navigator.new_memory(3), batch.prompts, batch.prompt_lengths)
    images, scores = [], []
    for step in range(STEPS):
        output = navigator.step(batch.frames[:, step], dual, batch.previous[:, step])
        images.append(output.image)
        before = dual.semantic.state_dict()["store"].clone()
        if lost := images[CONFIG.initial : max(CONFIG.initial, step - CONFIG.recent)][-capacity:]:
            tokens = torch.cat(lost, 1)
            padded = torch.cat([torch.full_like(tokens, 9.0), tokens], 1)  # what is not there does not matter
            there = torch.arange(padded.shape[1]).expand(3, -1) >= tokens.shape[1]
            scores.append(memory.recall(output, padded, there))
            assert torch.equal(dual.semantic.state_dict()["store"], before)
    return torch.stack(scores, 1)


@pytest.mark.parametrize("changes", [{}, {"capacity": 2}, {"sighted": False}])
@torch.no_grad()
def test_a_streamed_walk_equals_the_training_pass(batch, changes):
    memory = make(**changes)
    laid, thought = memory.think(batch)
    scores = memory.score(laid, thought, torch.arange(FIRST, STEPS))
    torch.testing.assert_close(streamed(memory, batch), scores, atol=1e-5, rtol=1e-5)
    plain = memory.navigator.forward_episodes(batch)[:, FIRST:]
    torch.testing.assert_close(memory.navigator.lm_head(thought)[:, FIRST:], plain, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(scores, plain, atol=1e-2)


@torch.no_grad()
def test_lost_frames_matter_and_kept_ones_do_not_enter_the_memory(batch):
    memory = make()
    laid, thought = memory.think(batch)
    steps = torch.tensor([8])  # frames 2, 3 and 4 are lost
    scores = memory.score(laid, thought, steps)
    for frame in range(STEPS):
        image = laid.image.clone()
        image[:, frame] += 1.0
        changed = not torch.allclose(memory.score(laid._replace(image=image), thought, steps), scores, atol=1e-6)
        assert changed == (2 <= frame <= 4), f"frame {frame}"


def test_of_the_look_nothing_enters_at_first_and_its_share_is_learnt(batch):
    """Untrained, only what queries say differs from walk to walk, at a tenth; the first gradient reaches ``trust``."""
    memory = make()
    torch.nn.init.zeros_(memory.trust)
    thought, lost = torch.randn(4, 48), torch.randn(4, 6, 48)
    there = torch.ones(4, 6, dtype=torch.bool)
    with torch.no_grad():
        memory.relook.share.zero_()
    assert torch.equal(memory.form(thought, lost, there), memory.start.expand(4, -1, -1))
    laid, known = memory.think(batch)
    memory.score(laid, known, torch.arange(FIRST, STEPS)).square().mean().backward()
    assert memory.trust.grad.abs().min() > 0


@torch.no_grad()
def test_without_sight_every_walk_is_remembered_alike(batch):
    memory = make(sighted=False)
    laid, thought = memory.think(batch)
    steps = torch.arange(FIRST, STEPS)
    others = laid._replace(image=laid.image.roll(1, 0))
    assert torch.equal(memory.score(laid, thought, steps), memory.score(others, thought, steps))


@torch.no_grad()
def test_blank_latents_and_noise_are_not_what_was_formed(batch):
    memory = make()
    laid, thought = memory.think(batch)
    steps = torch.tensor([FIRST, STEPS - 1])
    own, blank, noise = (memory.score(laid, thought, steps, content) for content in ("own", "blank", "noise"))
    assert not torch.allclose(own, blank, atol=1e-3) and not torch.allclose(own, noise, atol=1e-3)
    others = laid._replace(image=laid.image.roll(1, 0))
    assert torch.equal(memory.score(others, thought, steps, "blank"), blank)


def test_only_the_memory_learns(batch):
    memory = make()
    laid, thought = memory.think(batch)
    memory.score(laid, thought, torch.arange(FIRST, STEPS)).square().mean().backward()
    assert all(p.grad is None and not p.requires_grad for p in memory.navigator.parameters())
    missing = [name for name, p in memory.named_parameters() if p.grad is None or not p.grad.any()]
    assert not missing
    assert not any(name.startswith("navigator") for name in memory.state_dict())


def test_what_cannot_be_is_said(batch):
    memory = make()
    laid, thought = memory.think(batch)
    with pytest.raises(ValueError, match="no frame has left the window"):
        memory.score(laid, thought, torch.tensor([FIRST - 1, FIRST]))
    with pytest.raises(ValueError, match="one token long"):
        Recollection(JanusVLN(replace(CONFIG, action_slots=2)))
    with pytest.raises(ValueError, match="the release reads sampled frames again"):
        Recollection(JanusVLN(replace(CONFIG, behaviour="release")))
