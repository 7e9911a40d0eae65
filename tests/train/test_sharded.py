"""Weights shared out among processes (FSDP2) train to what whole ones do (DDP). Two processes on CPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.models.janus_tiny import tiny
from tests.train.test_janus_stages import JANUS, SOURCES, run_of, train_stage

ROOT = Path(__file__).parents[2]
SHARDED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": "LlamaDecoderLayer",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
}
SCRIPT = f"""
import sys
from pathlib import Path

sys.path.insert(0, {str(ROOT)!r})
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

original = AcceleratorState.__init__


def promoted(self, *args, **options):  # accelerate knows FSDP on accelerators only
    original(self, *args, **options)
    plugin = options.get("fsdp_plugin")
    if self.distributed_type == DistributedType.MULTI_CPU and plugin is not None:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP


AcceleratorState.__init__ = promoted
from tests.models.janus_tiny import tiny
from tests.train.test_janus_stages import JANUS, SOURCES, run_of, train_stage

model, processor = tiny()
run = run_of(JANUS["III"], Path(sys.argv[1]), processes=2, steps=4, batch=1, log_every=2)
# one example a batch: at every step a pathway of one process has nothing to do
train_stage(model, processor, JANUS["III"], SOURCES, run, capacity=200)
"""


@pytest.mark.slow
def test_shared_out_weights_become_the_same_model(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    for name, extra in (("whole", {}), ("sharded", SHARDED)):
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        done = subprocess.run(
            [*launcher, str(tmp_path / "script.py"), str(tmp_path / name)],
            env=os.environ | extra | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
            capture_output=True, text=True, timeout=600, cwd=ROOT,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
    assert list((tmp_path / "sharded").glob("checkpoint-*/pytorch_model_fsdp*")), "it was not sharded"
    whole, sharded = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "sharded"))
    assert whole.keys() == sharded.keys()
    assert max((tensor - sharded[key]).abs().max().item() for key, tensor in whole.items()) < 1e-6


def test_no_samples_from_a_part_of_a_model(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    run = run_of(JANUS["III"], tmp_path, steps=1, batch=1)
    with pytest.raises(ValueError, match="without sample_prompts"):
        train_stage(*tiny(), JANUS["III"], SOURCES, run, capacity=200, sample_prompts=["a red star"])
