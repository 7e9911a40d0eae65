"""The study of what learning further costs, in miniature."""

import json

from dualsight.checkpoints.vismem import load_memory
from dualsight.inference.talk_vlm import load_policy
from dualsight.studies.forgetting import LESSONS, STUDY, Budget, run


def test_every_way_of_learning_is_asked_after_every_lesson(tmp_path, monkeypatch):
    run_ = lambda: run(tmp_path, (0,), Budget(2, 2, 1, 2))  # noqa: E731
    result = run_()
    assert [claim["claim"] for claim in result["claims"]] == [claim.text for claim in STUDY.claims]
    for way in ("memory, off", "memory, always", "lora", "full"):
        assert len(result["course"][way][0]) == len(LESSONS)
    alike = {way: [lesson["alike"]["value"] for lesson in result["course"][way][0]] for way in ("memory, off", "full")}
    assert alike["memory, off"] == [100.0] * 4  # nothing that a memory learns touches the policy
    assert max(alike["full"]) < 50.0
    assert result["claims"][0]["verdict"] == "held"
    vlm, _ = load_policy(tmp_path / "policy")
    first, last = (load_memory(vlm, tmp_path / "seed0" / f"memory-{lesson}") for lesson in ("0-color", "3-kind"))
    assert (first.builder.whiten_v.matrix == last.builder.whiten_v.matrix).all()  # one memory, trained on
    assert (first.builder.start != last.builder.start).any()
    monkeypatch.setattr("dualsight.studies.forgetting.play_all", None)
    assert run_() == result == json.loads((tmp_path / "results.json").read_text())
