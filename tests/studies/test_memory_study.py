"""The study of memory, in miniature."""

import json

from dualsight.studies.memory import ARMS, GROUPS, STUDY, run


def test_every_arm_is_played_once_and_every_claim_judged(tmp_path, monkeypatch):
    run_ = lambda: run(tmp_path, (0,), "small", policy_steps=2, steps=2, reward_steps=1, talks=2)  # noqa: E731
    result = run_()
    assert {f"{arm}, late" for arm in ARMS} <= set(result["figures"])
    judged = [claim["claim"] for claim in result["claims"]]
    asked = {"color", "seen"}  # a small policy is asked for colours only
    assert judged == [claim.text for claim in STUDY.claims if claim.measure in asked]
    assert set(result["figures"]["off, late"]) == asked <= set(GROUPS)
    same, guess = (result["figures"][row]["seen"][0]["value"] for row in ("same question, late", "lone constant, late"))
    predicted = result["figures"]["predicted, late"]["seen"][0]["value"]
    assert abs(predicted - (same + (100 - same) * guess / 100)) < 1e-9
    monkeypatch.setattr("dualsight.studies.memory.play_all", None)
    assert run_() == result == json.loads((tmp_path / "results.json").read_text())
    assert "| off, late |" in (tmp_path / "results.md").read_text()
