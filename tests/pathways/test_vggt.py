"""The golden file was recorded from the released model on random weights; its metadata says how."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from dualsight.memory.explicit import ExplicitMemory
from dualsight.memory.window import WindowMemory
from dualsight.pathways.vggt import TINY, VGGT, VGGT_1B, VGGTConfig, Window, windowed

GOLDEN = Path(__file__).parents[1] / "golden" / "vggt_stream.safetensors"
SMALL = VGGTConfig(image_size=28, embed_dim=24, depth=3, num_heads=2, dino_depth=1, dino_heads=2, layer_scale=1.0)


def close(actual, expected, tolerance=1e-5):
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


@pytest.fixture(scope="module")
def golden():
    with safe_open(GOLDEN, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()} | json.loads(file.metadata()["config"])  # noqa: SIM118


@pytest.fixture(scope="module")
def released(golden):
    config = VGGTConfig(
        image_size=golden["img_size"],
        embed_dim=golden["embed_dim"],
        depth=golden["depth"],
        num_heads=golden["num_heads"],
        dino_depth=golden["dino_depth"],
        dino_heads=golden["dino_heads"],
        heads=("camera", "point", "depth"),
        camera_depth=golden["camera_trunk_depth"],
        camera_heads=golden["camera_heads"],
        dpt_features=golden["dpt_features"],
        dpt_channels=tuple(golden["dpt_out_channels"]),
        dpt_layers=tuple(golden["dpt_layers"]),
    )
    model = VGGT(config).eval()
    weights = {name.removeprefix("weights."): x for name, x in golden.items() if name.startswith("weights.")}
    model.load_state_dict(weights, strict=True)
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return VGGT(SMALL).eval().requires_grad_(False).aggregator


@pytest.fixture(scope="module")
def walks():
    return torch.rand(3, 9, 3, 28, 42, generator=torch.Generator().manual_seed(1))


def memory_of(aggregator, **windows):
    return WindowMemory(**aggregator.memory_shape((-2,), 28, 42), **windows)


def test_streamed_frames_equal_the_released_model(golden, released):
    aggregator = released.aggregator
    memory = WindowMemory(**aggregator.memory_shape((-1,), 42, 70), initial=golden["initial"], recent=golden["recent"])
    for frame, expected in zip(golden["frames"], golden["streamed"], strict=True):
        close(torch.cat(aggregator.step(frame[None], memory, range(5))), expected)


@pytest.mark.parametrize("visibility", ["causal", "bidirectional"])
def test_a_batch_pass_equals_the_released_model(golden, released, visibility):
    features = released.aggregator(golden["frames"][None, :5], visibility)
    close(torch.cat(features), golden[f"{visibility}_batch"])


def test_heads_equal_the_released_model(golden, released):
    # The recorded camera head looks back only, as its streaming form does; the dense heads look at one frame.
    features = [feature[None] for feature in golden["bidirectional_batch"]]
    close(
        torch.stack(released.camera_head(features[-1][:, :, 0], windowed("causal", 1))), golden["pose_enc_iterations"]
    )
    for head in ("depth_head", "point_head"):
        dense = [features[layer] for layer in released.config.dpt_layers]
        values, confidence = getattr(released, head)(dense, 42, 70)
        close(values, golden[f"{head}.values"])
        close(confidence, golden[f"{head}.confidence"])


def test_the_training_pass_equals_the_streamed_run_with_eviction(small, walks):
    memory = memory_of(small, initial=2, recent=3, batch=3)
    trained = small(walks, Window(2, 3), layers=(-2,))[0]
    for t in range(walks.shape[1]):
        close(small.step(walks[:, t], memory)[0], trained[:, t])
    assert memory.frames() == [0, 1, 6, 7, 8]


def test_what_comes_after_a_walk_does_not_reach_it(small, walks):
    changed = walks.clone()
    changed[:, 5:] = 0
    for visibility in ("causal", Window(1, 2)):
        before, after = (small(x, visibility, layers=(1,))[0] for x in (walks, changed))
        assert torch.equal(before[:, :5], after[:, :5])


def test_a_window_of_the_whole_walk_is_causal(small, walks):
    close(small(walks, Window(0, 9))[-1], small(walks, "causal")[-1])
    assert (small(walks, Window(1, 2))[-1] - small(walks, "causal")[-1]).abs().max() > 1e-4


def test_sessions_at_different_steps_equal_each_alone(small, walks):
    """Session i joins at step 2 i; all go on beyond their window."""
    memory = memory_of(small, initial=1, recent=2, batch=3)
    alone = [memory_of(small, initial=1, recent=2) for _ in range(3)]
    for t in range(9):
        rows = [row for row in range(3) if t >= 2 * row]
        frames = torch.stack([walks[row, max(t - 2 * row, 0)] for row in range(3)])
        together = small.step(frames, memory, rows=rows)[0]
        for row in rows:
            close(together[row], small.step(frames[row : row + 1], alone[row])[0][0])
    assert memory.counts == [9, 7, 5]


def test_a_step_can_be_run_again_if_it_failed(small, walks, monkeypatch):
    memory, undisturbed = (memory_of(small, initial=1, recent=1) for _ in range(2))
    for t in range(6):
        if t == 4:
            with monkeypatch.context() as patch, pytest.raises(RuntimeError):
                patch.setattr(small.frame_blocks[1], "forward", lambda *_: (_ for _ in ()).throw(RuntimeError))
                small.step(walks[:1, t] * 0, memory)
        assert torch.equal(small.step(walks[:1, t], memory)[0], small.step(walks[:1, t], undisturbed)[0])


def test_blocks_after_the_last_layer_wanted_are_not_computed(small, walks, monkeypatch):
    monkeypatch.setattr(small.global_blocks[2], "forward", None)
    assert len(small(walks[:1], layers=(0, -2))) == 2
    assert memory_of(small).layers == 2


def test_explicit_memory_sees_what_window_memory_holds(small, walks):
    explicit, window = ExplicitMemory(1, 2), memory_of(small, initial=1, recent=2)
    for t in range(4):  # nothing has been evicted from what these frames saw
        walk = explicit.append(walks[0, t])
        close(small(walk[None], layers=(-2,))[0][0, -1], small.step(walks[:1, t], window)[0][0])
        assert explicit.frames() == window.frames()


def test_tiny_has_the_promised_sizes_and_trains_end_to_end():
    model = VGGT(replace(TINY, heads=("camera", "point", "depth")))
    assert TINY.tokens(112, 112) == 1 + 4 + 64
    geometry = model(torch.rand(1, 2, 3, 112, 112))
    assert geometry.depth.shape == (1, 2, 112, 112) and geometry.points.shape == (1, 2, 112, 112, 3)
    (geometry.depth.mean() + geometry.points.mean() + sum(geometry.poses).mean()).backward()
    unused = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert unused == []


def test_the_released_size_builds_without_memory():
    with torch.device("meta"):
        model = VGGT(VGGT_1B)
    assert sum(p.numel() for p in model.aggregator.parameters()) == pytest.approx(909.1e6, rel=1e-3)
    assert model.depth_head is not None
    assert sum(p.numel() for p in model.depth_head.parameters()) == pytest.approx(32.65e6, rel=1e-3)


def test_bad_input_is_named(small, walks):
    with pytest.raises(ValueError, match="multiples of 14"):
        small(walks[..., :40])
    with pytest.raises(ValueError, match="RGB frames"):
        small(walks[:, :, :1])
    with pytest.raises(ValueError, match=r"9 tokens.*made for 11"):
        small.step(walks[:1, 0, :, :, :28], memory_of(small))
    with pytest.raises(ValueError, match="3 frames for a memory of 1"):
        small.step(walks[:, 0], memory_of(small))
    with pytest.raises(IndexError, match="layer 7"):
        small(walks, layers=(7,))
    with pytest.raises(ValueError, match="track"):
        VGGTConfig(heads=("track",))
    with pytest.raises(ValueError, match="does not split into 5 heads"):
        VGGT(replace(SMALL, num_heads=5))
