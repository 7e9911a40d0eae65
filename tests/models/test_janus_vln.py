"""The equalities the model stands on: streamed == trained, batch == alone, memory as a value."""

from dataclasses import replace

import pytest
import torch

from dualsight.models.janus_vln import TINY, EpisodeBatch, JanusVLN
from dualsight.models.janus_vln_config import TextConfig, VisionConfig

SMALL = replace(
    TINY,
    vision=VisionConfig(2, 32, 48, 2, window_size=28, fullatt_block_indexes=(1,)),
    text=TextConfig(64, 48, 64, 3, 4, 2, mrope_section=(2, 2, 2)),
    vggt=replace(
        TINY.vggt, image_size=56, patch_size=14, embed_dim=24, depth=3, num_heads=2, dino_depth=1, dino_heads=2
    ),
    merger_hidden=40,
    image_width=56,
    image_height=56,
    initial=2,
    recent=3,
    max_prompt=10,
    action_slots=2,
)
STEPS = 12


def make(**changes) -> JanusVLN:
    torch.manual_seed(0)
    model = JanusVLN(replace(SMALL, **changes)).eval()
    for parameter in model.parameters():  # far from zero, so that every path matters
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture(scope="module")
def model() -> JanusVLN:
    return make()


@pytest.fixture(scope="module")
def batch() -> EpisodeBatch:
    torch.manual_seed(1)
    previous = torch.randint(7, 11, (3, STEPS, 2))
    previous[torch.rand(3, STEPS) < 0.5, 0] = -1  # some actions are one token long
    previous[:, 0] = -1
    return EpisodeBatch(
        prompts=torch.randint(0, 64, (3, 9)),
        prompt_lengths=torch.tensor([9, 4, 6]),
        previous=previous,
        lengths=torch.tensor([12, 7, 10]),
        frames=torch.rand(3, STEPS, 3, 56, 56),
    )


def rows_of(batch: EpisodeBatch, row: int) -> EpisodeBatch:
    steps, tokens = batch.lengths[row], batch.prompt_lengths[row]
    return EpisodeBatch(
        batch.prompts[row : row + 1, :tokens],
        batch.prompt_lengths[row : row + 1],
        batch.previous[row : row + 1, :steps],
        batch.lengths[row : row + 1],
        batch.frames[row : row + 1, :steps],
    )


def stream(model: JanusVLN, batch: EpisodeBatch) -> torch.Tensor:
    memory = model.start(model.new_memory(len(batch.prompts)), batch.prompts, batch.prompt_lengths)
    steps = range(batch.frames.shape[1])
    return torch.stack([model.step(batch.frames[:, t], memory, batch.previous[:, t]).logits for t in steps], dim=1)


def assert_same(actual, expected, lengths):
    for row, steps in enumerate(lengths):
        torch.testing.assert_close(actual[row, :steps], expected[row, :steps], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("fusion", ["add", "concat", "cross_attention", "none"])
@torch.no_grad()
def test_streamed_equals_the_training_pass_with_eviction(batch, fusion):
    model = make(fusion=fusion)
    assert_same(stream(model, batch), model.forward_episodes(batch), batch.lengths)


@torch.no_grad()
def test_a_padded_batch_equals_each_episode_alone(model, batch):
    together = model.forward_episodes(batch)
    for row in range(3):
        alone = model.forward_episodes(rows_of(batch, row))
        torch.testing.assert_close(together[row, : batch.lengths[row]], alone[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(stream(model, rows_of(batch, row)), alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_sessions_that_start_at_different_times_equal_each_alone(model, batch):
    """Row r starts at time 3 r; sessions that have not begun or are over sit the step out."""
    memory, logits = model.new_memory(3), torch.zeros(3, STEPS, 64)
    for time in range(20):
        for row in range(3):
            if time == 3 * row:
                tokens = batch.prompt_lengths[row]
                model.start(memory, batch.prompts[row : row + 1, :tokens], tokens[None], rows=[row])
        rows = [row for row in range(3) if 0 <= time - 3 * row < batch.lengths[row]]
        own = [min(max(time - 3 * row, 0), STEPS - 1) for row in range(3)]
        output = model.step(batch.frames[range(3), own], memory, batch.previous[range(3), own], rows)
        for row in rows:
            logits[row, own[row]] = output.logits[row]
    assert_same(logits, model.forward_episodes(batch), batch.lengths)


@torch.no_grad()
def test_a_new_episode_in_one_row_leaves_the_others_alone(model, batch):
    expected = stream(model, batch)
    memory = model.start(model.new_memory(3), batch.prompts, batch.prompt_lengths)
    for t in range(STEPS):
        if t == 5:
            model.start(memory, batch.prompts[1:2], batch.prompt_lengths[1:2], rows=[1])
        own = [t, t if t < 5 else t - 5, t]
        logits = model.step(batch.frames[range(3), own], memory, batch.previous[range(3), own]).logits
        torch.testing.assert_close(logits, expected[range(3), own], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_features_of_frozen_encoders_stand_in_for_frames(model, batch):
    features = EpisodeBatch(
        batch.prompts, batch.prompt_lengths, batch.previous, batch.lengths,
        semantic=model.encode_semantic(batch.frames.flatten(0, 1)).unflatten(0, (3, STEPS)),
        spatial=model.encode_spatial(batch.frames),
    )  # fmt: skip
    assert torch.equal(model.forward_episodes(features), model.forward_episodes(batch))


@torch.no_grad()
def test_what_a_step_sees_is_what_the_memory_holds(batch):
    """With one layer nothing is passed on: of frames 0 to 11, 2 + 3 and the current one reach the last step."""
    model = make(fusion="none", text=replace(SMALL.text, num_hidden_layers=1))
    features = replace(rows_of(batch, 0), frames=None, semantic=torch.rand(1, STEPS, 16, 32))
    before = model.forward_episodes(features)
    reaching = []
    for frame in range(STEPS):
        changed = replace(features, semantic=features.semantic.clone())
        changed.semantic[:, frame] += 1
        after = model.forward_episodes(changed)
        assert torch.equal(before[:, :frame], after[:, :frame])
        if not torch.equal(before[:, -1], after[:, -1]):
            reaching.append(frame)
    assert reaching == [0, 1, 8, 9, 10, 11]


@torch.no_grad()
def test_saved_restored_and_forked_memories_go_on_as_if_nothing_had_happened(model, batch, tmp_path):
    memory = model.start(model.new_memory(3), batch.prompts, batch.prompt_lengths)
    for t in range(7):
        model.step(batch.frames[:, t], memory, batch.previous[:, t])
    memory.save(tmp_path / "memory.safetensors")
    restored, forked = type(memory).restore(tmp_path / "memory.safetensors"), memory.fork([2, 0])
    assert restored.frames() == memory.frames() == [0, 1, 4, 5, 6]
    expected = model.step(batch.frames[:, 7], memory, batch.previous[:, 7]).logits
    assert torch.equal(model.step(batch.frames[:, 7], restored, batch.previous[:, 7]).logits, expected)
    again = model.step(batch.frames[[2, 0], 7], forked, batch.previous[[2, 0], 7]).logits
    torch.testing.assert_close(again, expected[[2, 0]], atol=1e-5, rtol=1e-5)
    assert memory.nbytes == restored.nbytes


@torch.no_grad()
def test_answers_of_several_tokens_are_trained_as_they_are_decoded(batch):
    """Three tokens an action: what each step would say next in the streamed run is what the training pass scores."""
    model = make(action_slots=3)
    batch = replace(batch, previous=torch.nn.functional.pad(batch.previous, (1, 0), value=-1))
    memory, decoded = model.start(model.new_memory(3), batch.prompts, batch.prompt_lengths), []
    for t in range(STEPS):
        decoded.append(model.decode_action(model.step(batch.frames[:, t], memory, batch.previous[:, t])))
    answers = torch.stack(decoded, dim=1)  # (B, T, 3)
    trained = model.lm_head(model.read_episodes(replace(batch, answers=answers)))
    for row, length in enumerate(batch.lengths):
        assert torch.equal(trained[row, :length].argmax(-1), answers[row, :length])
    assert_same(trained[:, :, 0], model.forward_episodes(batch), batch.lengths)  # nobody else sees the drafts
    shortened = torch.cat([answers[..., :1], torch.full_like(answers[..., 1:], -1)], dim=-1)
    assert_same(model.lm_head(model.read_episodes(replace(batch, answers=shortened)))[:, :, 0],
                trained[:, :, 0], batch.lengths)  # fmt: skip


@torch.no_grad()
def test_decoding_an_action_drafts_and_leaves_the_memory_as_it_was(model, batch):
    memory = model.start(model.new_memory(3), batch.prompts, batch.prompt_lengths)
    output = model.step(batch.frames[:, 0], memory, batch.previous[:, 0])
    before = {name: tensor.clone() for name, tensor in memory.state_dict().items()}
    ids = model.decode_action(output)
    assert ids.shape == (3, 2)
    assert torch.equal(ids[:, 0], output.logits.argmax(-1))
    assert all(torch.equal(tensor, before[name]) for name, tensor in memory.state_dict().items())
    # the second token is what the model says after the first one: the same episode with the action as text
    for row in range(3):
        tokens = batch.prompt_lengths[row]
        unit = model._embed_units(batch.previous[row, 0], model.fuse(*model._features(
            replace(rows_of(batch, row), frames=batch.frames[row : row + 1, :1])))[0, 0])  # fmt: skip
        text = model.model.embed_tokens(torch.cat([batch.prompts[row, :tokens], ids[row, :1]]))
        sequence = torch.cat([text[:tokens], unit[2:], text[tokens:]])[None]  # both action slots of unit 0 are empty
        grid = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]]).T + tokens + 1
        ends = torch.tensor([tokens + 3, tokens + 4]).expand(3, 2)
        positions = torch.cat([torch.arange(tokens + 1).expand(3, -1), grid, ends], dim=1)[:, None]
        hidden = model.model(inputs_embeds=sequence, position_ids=positions).last_hidden_state
        assert model.lm_head(hidden[0, -1]).argmax() == ids[row, 1]


def test_an_image_token_covers_the_same_pixels_in_both_pathways():
    """TINY: 4x4 patches of the ViT and 2x2 of VGGT make one token, a quarter of the picture."""
    with torch.device("meta"):
        model = JanusVLN(TINY)
    assert (TINY.grid, TINY.geometry_merge, TINY.unit) == ((2, 2), 2, 7)
    assert tuple(model.merger.mlp[0].weight.shape) == (TINY.merger_hidden, 4 * 2 * TINY.vggt.embed_dim)
    tokens = torch.arange(5 + 16.0)[:, None]  # camera and registers, then 4x4 patches row by row
    assert (model._patches(tokens, 112, 112)[:, 0] - 5).tolist() == [
        0,
        1,
        4,
        5,
        2,
        3,
        6,
        7,
        8,
        9,
        12,
        13,
        10,
        11,
        14,
        15,
    ]


def test_frozen_encoders_get_no_gradient_and_the_rest_does(batch):
    model = make().freeze_encoders()
    model.forward_episodes(batch).square().mean().backward()
    for name, parameter in model.named_parameters():
        frozen = name.startswith(("visual.patch_embed", "visual.blocks", "vggt."))
        assert (parameter.grad is None) == frozen, name


def test_wrong_input_is_named(model, batch):
    with pytest.raises(ValueError, match="needs frames, or both"):
        model.forward_episodes(replace(batch, frames=None))
    with pytest.raises(ValueError, match="56x56 makes 4"):
        model.forward_episodes(replace(batch, frames=torch.rand(3, STEPS, 3, 84, 84)))
    with pytest.raises(ValueError, match="permanent=10"):
        model.start(model.new_memory(), torch.zeros(1, 11, dtype=torch.long), torch.tensor([11]))
