import io
import json

import pytest
import torch
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import save_file

from dualsight.checkpoints.golden import measure_parity, run_parity
from dualsight.checkpoints.weights import CheckpointError

FILES = ("janus", "janusvln", "vggt_stream")
ASKED = ("prompt_ids", "understanding.input_ids", "image_mask", "understanding.pixel_values", "vq.images")
"""What the recording of Janus was asked."""


def read(name):
    with safe_open(f"tests/golden/{name}.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


@pytest.mark.parametrize("name", FILES)
def test_recordings_of_the_release_are_repeated(name):
    report = measure_parity(f"tests/golden/{name}.safetensors")
    inputs = {"frames"} | {f"step{step}.{what}" for step in range(12) for what in ("input_ids", "history")}
    inputs |= {key for key in read(name)[0] if key.endswith(ASKED)}
    expected = {key for key in read(name)[0] if not key.startswith("weights.")} - inputs
    assert report.deviations.keys() | report.agreements.keys() == expected
    assert report.passed


def test_a_deviation_and_another_token_are_reported_by_name(tmp_path):
    tensors, metadata = read("janusvln")
    tensors["step3.logits"][0, 0] += 1e-3
    tensors["step5.greedy"][2] += 1
    save_file(tensors, tmp_path / "changed.safetensors", metadata)
    report = measure_parity(tmp_path / "changed.safetensors")
    assert not report.passed
    assert report.deviations["step3.logits"] == pytest.approx(1e-3, rel=1e-2)
    assert report.agreements["step5.greedy"] == 0.75
    assert max(value for name, value in report.deviations.items() if name != "step3.logits") <= 1e-5
    report.print(Console(file=(out := io.StringIO())))
    assert "step3.logits" in out.getvalue() and "beyond 1e-05" in out.getvalue()


def test_guided_scores_may_deviate_as_much_as_guidance_amplifies(tmp_path):
    report = measure_parity("tests/golden/janus.safetensors")
    assert {name for name, allowed in report.tolerances.items() if allowed != 1e-5} == {
        "generation0.cfg_logits",
        "generation1.cfg_logits",
    }
    assert report.tolerances["generation0.cfg_logits"] == pytest.approx(9e-5), "(2 s - 1) times, s = 5"
    tensors, metadata = read("janus")
    tensors["generation0.cfg_logits"][3, 3] += 2e-4
    save_file(tensors, tmp_path / "changed.safetensors", metadata)
    assert not measure_parity(tmp_path / "changed.safetensors").passed


def test_a_run_prints_its_report(capsys):
    assert run_parity("tests/golden/vggt_stream.safetensors").passed
    assert "within 1e-05" in capsys.readouterr().out


def test_files_that_are_no_recordings_are_refused(tmp_path):
    path = tmp_path / "file.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        measure_parity(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="no config"):
        measure_parity(path)
    save_file({"a": torch.zeros(1)}, path, {"config": json.dumps({"vision": {}})})
    with pytest.raises(CheckpointError, match="has vision"):
        measure_parity(path)


def test_weights_that_are_not_the_configs_are_named(tmp_path):
    tensors, metadata = read("vggt_stream")
    del tensors["weights.aggregator.camera_token"]
    save_file(tensors, tmp_path / "less.safetensors", metadata)
    with pytest.raises(CheckpointError, match=r"missing \(1\): aggregator.camera_token"):
        measure_parity(tmp_path / "less.safetensors")
