"""The released behaviour against its recorded outputs, and batches against single sessions."""

import json

import pytest
import torch
from safetensors import safe_open

from dualsight.checkpoints.golden import janus_vln_of, weights_of
from dualsight.models.janus_vln_release import (
    greedy,
    look,
    new_release_memory,
    prefill,
    rope_positions,
    sampled_history,
)

GOLDEN = "tests/golden/janusvln.safetensors"


@pytest.fixture(scope="module")
def golden():
    with safe_open(GOLDEN, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys() if not name.startswith("weights.")}  # noqa: SIM118
        return json.loads(file.metadata()["config"]), tensors


@pytest.fixture(scope="module")
def model(golden):
    model = janus_vln_of(golden[0])
    model.load_state_dict(weights_of(GOLDEN))
    return model.eval()


def test_history_is_everything_and_then_evenly_spread():
    assert sampled_history(0, 8) == [0]
    assert sampled_history(8, 8) == list(range(9))
    assert sampled_history(9, 8) == [0, 1, 2, 3, 4, 5, 6, 7, 9]
    assert sampled_history(100, 8) == [0, 12, 25, 37, 50, 62, 75, 87, 100]


def test_positions_are_those_of_the_release(golden):
    tensors = golden[1]
    assert torch.equal(rope_positions(tensors["step0.input_ids"][0], 120, (2, 3)), tensors["step0.position_ids"][:, 0])


def test_twelve_steps_equal_the_release(golden, model):
    _, tensors = golden
    memory = new_release_memory(model, 56, 84)
    for step in range(12):
        ids = tensors[f"step{step}.input_ids"][0]
        read = prefill(model, [ids], look(model, tensors["frames"][step : step + 1], memory), memory.grid)
        torch.testing.assert_close(model.lm_head(read.hidden)[0], tensors[f"step{step}.logits"], atol=1e-5, rtol=1e-5)
        logits, chosen = greedy(model, read, max_new_tokens=4)
        torch.testing.assert_close(logits[0], tensors[f"step{step}.logits"][-1], atol=1e-5, rtol=1e-5)
        assert torch.equal(chosen[0], tensors[f"step{step}.greedy"])
    assert memory.frames() == [0, 1, 8, 9, 10, 11]


def test_sessions_of_a_batch_equal_each_alone(golden, model):
    """Three sessions begin at different times, so that their prompts have different lengths."""
    frames = torch.rand(3, 9, 3, 56, 84, generator=torch.Generator().manual_seed(0))
    ids = [golden[1][f"step{min(step, 3)}.input_ids"][0] for step in range(9)]
    alone = []
    for row in range(3):
        memory = new_release_memory(model, 56, 84)
        alone.append([
            greedy(model, prefill(model, [ids[step]], look(model, frames[row, step][None], memory), memory.grid), 4)
            for step in range(9)
        ])  # fmt: skip
    memory = new_release_memory(model, 56, 84, batch=3)
    for time in range(9):
        rows = [row for row in range(3) if time >= 2 * row]
        own = [max(time - 2 * row, 0) for row in range(3)]
        images = look(model, frames[range(3), own], memory, rows)
        logits, chosen = greedy(model, prefill(model, [ids[own[row]] for row in rows], images, memory.grid), 4)
        for index, row in enumerate(rows):
            expected, tokens = alone[row][own[row]]
            torch.testing.assert_close(logits[index], expected[0], atol=1e-5, rtol=1e-5)
            assert chosen[index, : tokens.shape[1]].tolist() == tokens[0].tolist()


def test_a_prompt_without_room_for_its_images_is_refused(golden, model):
    with pytest.raises(ValueError, match="room for 6 image tokens, its 2 images have 12"):
        prefill(model, [golden[1]["step0.input_ids"][0]], [torch.zeros(2, 6, 96)], (2, 3))
