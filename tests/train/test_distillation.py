"""Where the frozen model would look: what the teacher says, and that a look learns it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dualsight.inference.talk_vlm import SMALL, Call, TalkBatch, new_policy
from dualsight.models.janus_core import IGNORE
from dualsight.models.vismem import VisMem, VisMemConfig
from dualsight.train.distillation import Leaning, leaning, lesson_loss, look_loss, shared_out, token_loss
from tests.models.tiny_vlms import FAMILIES, prompts, take, tiny_vlm

CONFIG = VisMemConfig(queries=2, short=2, long=3, width=16, heads=2, rank=4)


@pytest.fixture(scope="module")
def memory() -> VisMem:
    torch.manual_seed(0)
    return VisMem(new_policy(SMALL), [6], CONFIG)


@pytest.fixture(scope="module")
def shown():
    """Talks whose image is shown again behind the last delimiter, up to the answer, which is the last label."""
    rng = np.random.default_rng(0)
    batch = TalkBatch(SMALL)([SMALL.task.sample(4, rng) for _ in range(3)], rng, again={3: SMALL.visual_tokens})
    end = int(batch["answers"][3])
    ids, labels = batch["input_ids"][:, :end], torch.full((3, end), IGNORE)
    labels[:, -1] = batch["input_ids"][:, end]
    there = torch.ones_like(ids)
    return {"input_ids": ids, "attention_mask": there, "labels": labels, "pixel_values": batch["pixel_values"]}


def test_what_an_answer_leans_on_is_the_squared_gradient_of_its_logit(memory, shown):
    """By hand: visual tokens are put in, and differentiated with respect to. The first image is out of reach."""
    told, tokens, known = leaning(memory, **shown)
    assert told.shape == (3, 2 * SMALL.visual_tokens) and (told >= 0).all()
    assert not told[:, : SMALL.visual_tokens].any()
    torch.testing.assert_close(told.sum(-1), torch.ones(3))
    vlm, ids = memory.vlm, shown["input_ids"]
    seen = torch.stack(list(vlm.model.get_image_features(pixel_values=shown["pixel_values"]).pooler_output)).detach()
    again = seen[1::2].clone().requires_grad_()
    places = memory.parts.shows(ids).nonzero()[:, 1].view(3, 2, -1)
    embedded = vlm.get_input_embeddings()(ids).detach()
    for row in range(3):
        embedded[row, places[row, 0]] = seen[2 * row]
        embedded[row, places[row, 1]] = again[row]
    logits = vlm.lm_head(vlm.model.language_model(inputs_embeds=embedded, use_cache=False).last_hidden_state[:, -1])
    answers = shown["labels"][:, -1]
    logits.gather(1, answers[:, None]).sum().backward()
    assert again.grad is not None
    squares = again.grad.square().sum(-1)
    second = slice(SMALL.visual_tokens, None)
    torch.testing.assert_close(told[:, second], squares / squares.sum(1, keepdim=True), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(tokens[:, second], again.detach())
    assert known.tolist() == (logits.argmax(-1) == answers).tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_teacher_reads_any_vlm_and_leaves_it_as_it_was(family):
    """Rows of different lengths, padded; each as it is alone."""
    torch.manual_seed(0)
    memory = VisMem(tiny_vlm(family), [5], CONFIG)
    batch = prompts(family, memory.vlm, [[7, 8, 9, 5], [11, 5]])
    labels = torch.full_like(batch["input_ids"], IGNORE)
    labels[:, -1] = torch.tensor([8, 9])
    told, seen, known = leaning(memory, labels=labels, **batch)
    assert ((known >= 0) & (known <= 1)).all()
    torch.testing.assert_close(told.sum(-1), torch.ones(2))
    assert seen.shape[:2] == told.shape == (2, int(memory.parts.shows(batch["input_ids"]).sum(1).max()))
    text = ("input_ids", "attention_mask", "mm_token_type_ids")
    there = batch["attention_mask"][1].bool()
    vision = take(family, {k: v for k, v in batch.items() if k not in text}, 1)
    one = {name: batch[name][1:, there] for name in text if name in batch} | vision
    alone = leaning(memory, labels=labels[1:, there], **one)
    torch.testing.assert_close(alone[0][0], told[1, : alone[0].shape[1]], rtol=1e-3, atol=1e-5)
    assert all(p.grad is None for p in memory.parameters())
    assert not memory.parts.text.layers[0]._forward_pre_hooks


def test_what_is_leant_on_is_shared_out_among_latents():
    """One token to all, several one after another, and next to nothing of what is hardly leant on."""
    told = torch.tensor(
        [[0.06, 0.9, 0.04, 0.0, 0.0], [0.2, 0.01, 0.34, 0.001, 0.449], [0.3, 0.2, 0.2, 0.2, 0.1], [0.0] * 5]
    )
    for latents, expected in (
        (4, [[1, 1, 1, 1], [0, 2, 2, 4], [0, 1, 2, 3]]),
        (6, [[1] * 6, [0, 0, 2, 2, 4, 4], [0, 1, 1, 2, 3, 3]]),
        (2, [[1, 1], [0, 4], [1, 3]]),
    ):
        wanted = shared_out(told, latents)
        assert wanted[:3].argmax(-1).tolist() == expected
        assert (wanted[:3].sum(-1) == 1).all() and not wanted[3].any()
    assert shared_out(torch.full((1, 3), 1 / 3), 3).argmax(-1).tolist() == [[0, 1, 2]], "all alike"
    assert shared_out(torch.tensor([[1.0]]), 2).tolist() == [[[1.0], [1.0]]], "an image of one token"


def test_a_look_is_taught_by_cross_entropy_by_hand():
    look = torch.tensor([[[0.5, 0.5], [0.25, 0.75]], [[0.9, 0.1], [0.9, 0.1]]])
    wanted = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert float(look_loss(look, wanted)) == pytest.approx(-(np.log(0.5) + np.log(0.75)) / 2), "one row is told"
    assert float(look_loss(look, torch.zeros(2, 2, 2))) == 0


def test_a_latent_is_taught_to_be_its_token_by_hand():
    seen = torch.tensor([[[0.0, 2.0], [2.0, 2.0]], [[0.0, 0.0], [2.0, 0.0]]])  # 2 from their mean, squared
    wanted = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])
    latents = torch.tensor([[[0.0, 2.0], [1.0, 2.0]], [[9.0, 9.0], [9.0, 9.0]]])
    known, wrong = torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1.0])
    assert float(token_loss(latents, wanted, seen, known)) == pytest.approx((0 + 1) / 2 / 2)
    assert float(token_loss(latents, wanted, seen, wrong)) == 0, "of an answer that the model gives wrongly"
    assert float(token_loss(latents, torch.zeros(2, 2, 2), seen, known)) == 0


@pytest.mark.parametrize(
    ("kind", "relook", "all_of_it"), [("short", True, False), ("short", False, True), ("long", True, True)]
)
def test_latents_are_taught_what_to_be_where_the_model_knows(memory, kind, relook, all_of_it):
    looks, latents, seen = torch.rand(2, 2, 3), torch.rand(2, 2, 4), torch.rand(2, 3, 4)
    told, memory = torch.eye(3)[:2], VisMem(memory.vlm, [6], replace(CONFIG, relook=relook))
    wanted = shared_out(told, 2)
    for known in (torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0])):
        loss = lesson_loss(memory, kind, looks, latents, Leaning(told, seen, known))
        tokens = token_loss(latents, wanted, seen, known) if all_of_it else torch.zeros(())
        torch.testing.assert_close(loss, look_loss(looks, wanted) + tokens)
        assert bool(tokens) == (all_of_it and bool(known.any()))


@pytest.mark.parametrize(("kind", "relook"), [("short", True), ("short", False), ("long", True)])
def test_a_look_learns_where_to_look(kind, relook):
    """A second look, and slots in the encoder and in the decoder."""
    torch.manual_seed(0)
    memory = VisMem(new_policy(SMALL), [6], replace(CONFIG, relook=relook))
    rng = np.random.default_rng(0)
    talks = [SMALL.task.sample(4, rng) for _ in range(3)]
    batch = TalkBatch(SMALL, memory)(talks, rng, calls=[Call(1, kind), Call(3, kind)])
    told = torch.nn.functional.one_hot(torch.tensor([1, 3, 5]), SMALL.visual_tokens).float()
    wanted = shared_out(told, memory.latents(kind))
    optimiser = torch.optim.AdamW([p for p in memory.parameters() if p.requires_grad], 1e-2)
    inputs = (batch["input_ids"], batch["attention_mask"], len(SMALL.image))
    for _ in range(60):
        looks: list[torch.Tensor] = []
        with memory.builder.centre.by_batch(3):
            memory.score(*inputs, looks=looks, pixel_values=batch["pixel_values"])
        loss = look_loss(looks[-1], wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (looks[-1].argmax(-1) == torch.tensor([1, 3, 5])[:, None]).all()
