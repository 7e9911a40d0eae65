"""A run is a function of its seed: resumed == uninterrupted, and two processes share the plan's batches."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dualsight.train.trainer import BatchPlan, Run, fit


class Line(nn.Module):
    """y = a x with dropout: a loss that depends on the batch and on the random state."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 1)
        self.drop = nn.Dropout(0.2)

    def forward(self, x, y):
        loss = (nn.functional.linear(self.drop(x), self.a.weight.float(), self.a.bias) - y).square().mean()
        return {"loss": loss, "error": loss.detach().sqrt()}


def plan(steps: int, seed: int = 3) -> BatchPlan:
    rng = np.random.default_rng(0)
    examples = [(torch.tensor(x, dtype=torch.float32), float(x.sum())) for x in rng.normal(size=(40, 4))]

    def collate(items):
        return {"x": torch.stack([x for x, _ in items]), "y": torch.tensor([[y] for _, y in items])}

    return BatchPlan(examples, collate, batch=4, steps=steps, seed=seed, lengths=[i % 7 for i in range(40)])


def trained(
    out: Path, steps: int, stop_at: int | None = None, save_minutes: float = 3.0, half: bool = False, **settings
) -> nn.Module:
    torch.manual_seed(1)
    model = Line()
    model.a.weight.data = model.a.weight.data.to(torch.bfloat16 if half else torch.float32)
    run = Run(out, steps, learning_rate=0.05, batch=4, seed=1, log_every=2, save_minutes=save_minutes, **settings)
    if stop_at is None:
        fit(model, plan(steps), run)
        return model

    original = Line.forward

    def interrupted(self, x, y):
        interrupted.calls += 1
        if interrupted.calls == stop_at:
            signal.raise_signal(signal.SIGTERM)  # in the middle of a step
        return original(self, x, y)

    interrupted.calls = 0
    Line.forward = interrupted
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(model, plan(steps), run)
    finally:
        Line.forward = original
    return model


@pytest.mark.parametrize(
    "settings",
    [{}, {"matrices": r"a\.weight"}, {"workers": 1}, {"half": True}],
    ids=["adamw", "muon", "workers", "half precision"],
)
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path, settings):
    whole = trained(tmp_path / "whole", 16, **settings)
    trained(tmp_path / "parts", 16, stop_at=7, **settings)
    resumed = trained(tmp_path / "parts", 16, **settings)
    assert torch.equal(whole.a.weight, resumed.a.weight) and torch.equal(whole.a.bias, resumed.a.bias)


def test_workers_change_nothing(tmp_path):
    beside, alone = trained(tmp_path / "beside", 8, workers=2), trained(tmp_path / "alone", 8)
    assert torch.equal(beside.a.weight, alone.a.weight)


def test_a_batch_depends_on_its_number_only():
    forward, fresh = plan(60), plan(60)
    batches = [forward[i] for i in range(60)]
    assert torch.equal(batches[37]["x"], fresh[37]["x"])
    first_epoch = torch.cat([batch["x"] for batch in batches[:10]])
    assert len({tuple(row.tolist()) for row in first_epoch}) == 40, "an epoch shows every example once"


def test_too_few_examples_are_named():
    with pytest.raises(ValueError, match="3 training examples do not fill one batch of 4"):
        BatchPlan([1, 2, 3], collate=dict, batch=4, steps=1, seed=0)


def test_a_plan_is_long_enough_for_all_processes(monkeypatch):
    """Each process takes a batch of its own per step; a shorter plan would begin anew and show the same examples."""
    assert len(plan(8)) == 8
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert len(plan(8)) == 16


SCRIPT = """
    import os, signal, sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    import test_trainer
    from test_trainer import Line, trained

    out, kill_at = Path(sys.argv[1]), int(sys.argv[2])
    original, calls = Line.forward, []

    def forward(self, x, y):
        calls.append(1)
        if len(calls) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, x, y)

    Line.forward = forward
    # The clocks of two processes never agree on when to save.
    model = trained(out, 8, save_minutes=0.0 if os.environ.get("RANK") == "1" or kill_at else 0.001)
    # One write: two processes share a pipe.
    sys.stdout.write(f"weight {{model.a.weight.sum().item()}}\\n")
"""


def run_script(folder: Path, out: Path, *launcher: str, kill_at: int = 0) -> subprocess.CompletedProcess:
    """Train for 8 steps in a process of its own, which kills itself in its ``kill_at``-th forward pass."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(SCRIPT.format(tests=str(Path(__file__).parent))))
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, str(script), str(out), str(kill_at)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)


def test_two_processes_train_one_model(tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = run_script(tmp_path, tmp_path / "run", *launcher)
    assert done.returncode == 0, done.stderr[-2000:]
    weights = [line.split()[-1] for line in done.stdout.splitlines() if "weight" in line]
    assert len(weights) == 2 and weights[0] == weights[1], done.stdout


def test_a_killed_run_resumes_to_the_same_weights(tmp_path):
    whole = run_script(tmp_path, tmp_path / "whole")
    assert run_script(tmp_path, tmp_path / "run", kill_at=6).returncode == -signal.SIGKILL
    assert list((tmp_path / "run").glob("checkpoint-*")), "nothing was saved before the kill"
    resumed = run_script(tmp_path, tmp_path / "run")
    assert "resuming" in resumed.stdout
    assert whole.stdout.splitlines()[-1] == resumed.stdout.splitlines()[-1]


def test_the_log_has_parts_of_the_batches_that_have_them(tmp_path, monkeypatch, capsys):
    """A batch in which there is nothing to count says NaN of it."""
    errors = iter([1.0, float("nan"), float("nan"), 3.0])
    original = Line.forward
    monkeypatch.setattr(
        Line, "forward", lambda self, x, y: original(self, x, y) | {"error": torch.tensor(next(errors))}
    )
    fit(Line(), plan(4), Run(tmp_path, 4, batch=4, log_every=4))
    assert "error 2 " in capsys.readouterr().out


def test_muon_is_not_for_half_precision(tmp_path):
    with pytest.raises(ValueError, match="load the model in float32"):
        trained(tmp_path, 2, half=True, matrices=r"a\.weight")


class Whatever(Line):
    """A model that takes whatever the batch has."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Identity()

    def forward(self, **batch):
        return super().forward(batch["x"], batch["y"])


def test_accumulated_batches_count_as_their_mean(tmp_path, capsys):
    torch.manual_seed(1)
    model = Whatever()
    before, batches = model.a.weight.detach().clone(), plan(4)
    losses = [float(model(**batches[index])["loss"].detach()) for index in range(4)]
    fit(model, batches, Run(tmp_path, 1, learning_rate=1e-9, warmup=0.0, batch=4, log_every=1, accumulate=4))
    shown = float(capsys.readouterr().out.split("loss ")[1].split()[0])
    assert shown == pytest.approx(sum(losses) / 4, rel=1e-3)
    assert torch.allclose(model.a.weight, before, atol=1e-6)


def test_a_loss_that_is_no_number_ends_the_run(tmp_path, monkeypatch):
    original, calls = Line.forward, []

    def forward(self, x, y):
        calls.append(1)
        return original(self, x, y * (float("nan") if len(calls) == 3 else 1.0))

    monkeypatch.setattr(Line, "forward", forward)
    with pytest.raises(FloatingPointError, match="the loss of step 3 is nan"):
        fit(Line(), plan(6), Run(tmp_path, 6, batch=4))


def test_a_short_run_says_its_loss(tmp_path, capsys):
    fit(Line(), plan(3), Run(tmp_path, 3, batch=4, log_every=50))
    assert "step 3/3  loss" in capsys.readouterr().out
