"""The study of memory, in miniature."""

import json
from functools import partial

import pytest

from dualsight.bench import talks
from dualsight.bench.provenance import DifferentRun
from dualsight.bench.talks import Played
from dualsight.cli import main
from dualsight.inference.talk_vlm import SMALL
from dualsight.studies import memory
from dualsight.studies.memory import ARMS, BEST, STUDY, _derive, groups_of, run
from dualsight.studies.study import Figure


def shorten(patch):
    """Steps of a few talks each."""
    for name in ("policy_run", "memory_run"):
        plain = getattr(memory, name)
        patch.setattr(memory, name, lambda out, steps, plain=plain, **given: plain(out, steps, **given | {"batch": 4}))
    patch.setattr("dualsight.train.talk_memory.SEEN", 8)
    patch.setattr(memory, "seconds_of_an_answer", partial(memory.seconds_of_an_answer, rounds=1))
    patch.setattr(memory, "run_of", partial(memory.run_of, batch=1))
    patch.setattr(memory, "GRPO", partial(memory.GRPO, group=2, base_group=1))


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """A small policy is asked for colours only."""
    folder = tmp_path_factory.mktemp("study")
    run_ = partial(run, folder, (0,), "small", policy_steps=2, steps=1, reward_steps=1, call_steps=1)
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        return folder, run_, run_(talks=2)


def test_every_arm_is_played_and_every_claim_judged(played):
    _, _, result = played
    assert {f"{arm}, {part}" for arm in ARMS for part in ("late", "overall")} <= set(result["figures"])
    judged = [claim["claim"] for claim in result["claims"]]
    columns = {"color", "seen", "all", "tokens"}
    assert judged == [claim.text for claim in STUDY.claims if claim.measure in columns]
    assert set(result["figures"]["off, late"]) == {"color", "seen", "all"}
    assert set(result["figures"]["off, overall"]) == {"color", "seen", "all", "area", "tokens", "ms"}
    same, guess = (result["figures"][row]["seen"][0]["value"] for row in ("same question, late", "lone constant, late"))
    predicted = result["figures"]["predicted, late"]["seen"][0]["value"]
    assert abs(predicted - (same + (100 - same) * guess / 100)) < 1e-9


def test_what_an_answer_costs_is_in_the_table(played):
    _, _, result = played
    overall = {arm: result["figures"][f"{arm}, overall"] for arm in ARMS}
    tokens = {arm: row["tokens"][0]["value"] for arm, row in overall.items()}
    assert (tokens["off"], tokens["lora"], tokens["short"], tokens["long"], tokens["relook"]) == (0, 0, 6, 8, 11)
    assert result["figures"]["relook / short"]["tokens"][0]["value"] == pytest.approx(11 / 6)
    assert all(row["ms"][0]["value"] > 0 for row in overall.values())
    weights = result["parameters"]
    assert weights["off"] == weights["relook"] == 0 < weights["soft prompt"] < weights["former only"] < weights["short"]
    assert weights["lora"] < weights["full"] == result["policy"]["parameters"]
    assert 0.9 < weights["lora"] / weights["short"] < 1.1, "LoRA and memory are of one size"
    assert len(result["by_index"]["off"][0]) == len(result["visual_attention"]) == 9


def test_the_table_says_which_policy_it_is(played):
    folder, _, result = played
    policy = result["policy"]
    assert (policy["size"], policy["interleaved"], policy["steps"]) == ("small", 0.1, 2)
    assert f"size small, parameters {policy['parameters']}, interleaved 0.1, steps 2" in (
        folder / "results.md"
    ).read_text(encoding="utf-8")


def test_it_goes_on_where_it_was_and_refuses_other_settings(played, monkeypatch):
    folder, run_, result = played
    with pytest.raises(DifferentRun, match="talks is 3, was 2"):
        run_(talks=3)
    with pytest.raises(DifferentRun, match=r"policy.interleaved is 0.0, was 0.1"):
        run_(talks=2, interleaved=0.0)
    monkeypatch.setattr("dualsight.studies.memory.play_all", None)
    assert run_(talks=2) == result == json.loads((folder / "results.json").read_text())


def test_when_to_call_is_compared_with_the_best_of_others_around_the_same_memory():
    compared = [claim for claim in STUDY.claims if claim.text.startswith("C6") and claim.worse.startswith("best")]
    assert compared and all(claim.better.startswith("learned") for claim in compared)
    assert {ARMS[arm].who for arm in (*BEST["best forced"], "learned")} == {"invocation"}
    right = dict.fromkeys(ARMS, 10.0) | {"random 25": 30.0, "always short": 20.0}
    rows = {
        f"{arm}, {part}": {"all": [Figure(right[arm], 1.0)]} for arm in ARMS for part in ("early", "late", "overall")
    }
    for arm in ARMS:
        rows[f"{arm}, overall"]["tokens"] = [Figure(6.0, 0.0)]
    rows |= {"always, calls": {"all": [Figure(90.0, 1.0)]}, "same question, late": {"all": [Figure(0.0, 1.0)]}}
    best = _derive(rows, 1)
    assert best["best forced, overall"] == {"all": "random 25"}
    assert rows["best forced, late"]["all"] == [Figure(30.0, 1.0)]
    assert rows["60 % of always, calls"]["all"] == [Figure(54.0, 0.0)]


def test_columns_are_the_types_of_a_task():
    text = Played(0, 0, "text", True, True, "fig")
    columns = groups_of(("where", "count", "text"))
    assert [name for name, belongs in columns.items() if belongs(text)] == ["all", "text"]
    assert "mixture" not in columns and "mixture" in groups_of(("fine", "kind", "text"))
    assert list(groups_of(SMALL.task.types)) == ["all", "seen", "color"]


def test_houses_are_talked_about(tmp_path, monkeypatch, capsys):
    """As a user types it: pictures to learn from are given, those of the test are of other houses; baselines are left
    out, and nothing is said of them."""
    command = ["study", "memory", "--size=house", f"--out={tmp_path}/out", "--seeds=[0]", "--talks=2", "--scale=0.001",
               "--without=[former, soft, lora, full]"]  # fmt: skip
    with pytest.raises(SystemExit):
        main(command)
    assert "--data FOLDER" in capsys.readouterr().err
    main(["data", "views", f"--out={tmp_path}/views", "--house-seeds=3:4", "--per-house=4"])
    few = {name: ARMS[name] for name in ("off", "short", "lone constant", "lone wrong question", "relook", "learned",
                                         "learned short", "learned long", *BEST["best forced"],
                                         "soft prompt", "lora", "full", "former only")}  # fmt: skip
    shorten(monkeypatch)
    monkeypatch.setattr("dualsight.studies.memory.ARMS", few)
    monkeypatch.setattr("dualsight.studies.memory.take_views", partial(talks.take_views, houses=1, per_house=3))
    main([*command, f"--data={tmp_path}/views"])
    result = json.loads((tmp_path / "out" / "results.json").read_text())
    assert result["policy"]["size"] == "house" and {"where", "text"} <= set(result["figures"]["off, overall"])
    assert result["figures"]["relook / short"]["tokens"][0]["value"] == pytest.approx(66 / 6)
    assert {path.name for path in (tmp_path / "out" / "seed0").iterdir() if path.is_dir()} == {
        "memory", "stage-memory", "stage-invocation", "views",
    }  # fmt: skip
    assert result["without"] == ["former", "soft", "lora", "full"]
    assert not {"soft prompt, late", "lora, late", "full, late", "former only, late"} & set(result["figures"])
    assert not any("soft prompt" in claim["claim"] for claim in result["claims"])
