"""The study of what learning further costs, in miniature."""

import json

import pytest
import torch

from dualsight.bench.provenance import DifferentRun
from dualsight.checkpoints.vismem import load_memory
from dualsight.inference.talk_vlm import FULL, SMALL, load_policy, new_policy, save_policy
from dualsight.studies import forgetting, memory
from dualsight.studies.forgetting import LESSONS, POLICY, STUDY, Budget, run, teach_memory
from dualsight.train.talk_memory import memory_run
from tests.studies.test_memory_study import shorten


def test_every_way_of_learning_is_asked_after_every_lesson(tmp_path, monkeypatch):
    shorten(monkeypatch)
    monkeypatch.setattr(forgetting, "memory_run", memory.memory_run)
    run_ = lambda: run(tmp_path, (0,), Budget(2, 2, 1, 2))  # noqa: E731
    result = run_()
    assert [claim["claim"] for claim in result["claims"]] == [claim.text for claim in STUDY.claims]
    for way in ("memory, off", "memory, always", "lora", "full"):
        assert len(result["course"][way][0]) == len(LESSONS)
    alike = {way: [lesson["alike"]["value"] for lesson in result["course"][way][0]] for way in ("memory, off", "full")}
    assert alike["memory, off"] == [100.0] * 4  # nothing that a memory learns touches the policy
    assert max(alike["full"]) < 50.0
    for way in ("memory, always", "memory, learned"):  # nor do its calls
        assert result["course"][way][0][-1]["alike"]["value"] == 100.0
    assert result["claims"][0]["verdict"] == "held"
    assert result["policy"]["interleaved"] == 0.1
    with pytest.raises(DifferentRun, match=r"budget.talks is 3, was 2"):
        run(tmp_path, (0,), Budget(2, 2, 1, 3))
    vlm, _ = load_policy(tmp_path / "policy")
    first, last = (load_memory(vlm, tmp_path / "seed0" / f"memory-{lesson}") for lesson in ("0-color", "3-kind"))
    assert (first.builder.whiten_v.matrix == last.builder.whiten_v.matrix).all()  # one memory, trained on
    assert (first.builder.start != last.builder.start).any()
    monkeypatch.setattr("dualsight.studies.forgetting.play_all", None)
    assert run_() == result == json.loads((tmp_path / "results.json").read_text())


def test_what_a_lesson_does_to_the_policy_in_memory_is_seen(tmp_path, monkeypatch):
    """And not only that its file is what it was."""
    save_policy(new_policy(POLICY), POLICY, tmp_path)

    @torch.no_grad()
    def careless(vlm, *_, **__):
        vlm.lm_head.weight.mul_(1.001)

    monkeypatch.setattr(forgetting, "warm_start_around", careless)
    assert teach_memory(tmp_path, memory_run(tmp_path / "memory", 1), "color", None).value < 5
    monkeypatch.setattr(forgetting, "warm_start_around", lambda *_, **__: None)
    assert teach_memory(tmp_path, memory_run(tmp_path / "memory", 1), "color", None).value == 100


def test_a_policy_that_has_no_lessons_is_refused(tmp_path):
    save_policy(new_policy(SMALL), SMALL, tmp_path / "policy")
    with pytest.raises(ValueError, match="and not about count, fine, kind: take one of"):
        run(tmp_path / "out", (0,), Budget(), policy=tmp_path / "policy")
    assert set(LESSONS) <= set(FULL.task.types)
