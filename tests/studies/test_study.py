"""What a verdict needs, on numbers by hand; and one study trained and judged in miniature."""

import importlib
import json
import pkgutil
from dataclasses import asdict, replace

import numpy as np
import pytest

import dualsight.studies
from dualsight.bench.provenance import DifferentRun, weights_sha256
from dualsight.bench.scores import score
from dualsight.data.rooms import RoomPicture, write_rooms
from dualsight.studies import study as module
from dualsight.studies.study import (
    Arm,
    Budget,
    Claim,
    Figure,
    Study,
    check_settings,
    run,
    table,
    verdict,
)

OTHERS = ("study", "memory", "forgetting", "janus_memory", "navigator_memory", "answers")
STUDIES = [info.name for info in pkgutil.iter_modules(dualsight.studies.__path__) if info.name not in OTHERS]
"""Of Janus."""


@pytest.mark.parametrize("name", STUDIES)
def test_claims_name_arms_that_can_be_measured(name):
    study = importlib.import_module(f"dualsight.studies.{name}").STUDY
    assert study.name == name
    arms = {arm.name: arm for arm in study.arms}
    assert len(arms) == len(study.arms)
    for claim in study.claims:
        for side in (claim.better, claim.worse):
            assert module._able(arms[side], claim.measure), f"{side} has no {claim.measure}"


def figures(*values, error=1.0):
    return [Figure(value, error) for value in values]


@pytest.mark.parametrize(
    ("better", "worse", "claim", "word"),
    [
        (figures(80, 82), figures(70, 71), {}, "held"),
        (figures(70, 71), figures(80, 82), {}, "did not hold"),
        (figures(71, 72), figures(70, 71), {}, "not decidable here"),  # 1 +- 1.96
        (figures(71, 72, error=0.1), figures(70, 71, error=0.1), {}, "held"),
        (figures(80, 70), figures(70, 71), {}, "not decidable here"),  # the seeds differ by 11
        (figures(69, 70, error=0.5), figures(70, 71, error=0.5), {"margin": 3}, "held"),
        (figures(70, 71, error=0.5), figures(70, 72, error=0.5), {"margin": 3, "alike": True}, "held"),
        (figures(80, 81, error=0.5), figures(70, 72, error=0.5), {"margin": 3, "alike": True}, "did not hold"),
        (figures(73, 74), figures(70, 71), {"margin": 3, "alike": True}, "not decidable here"),
    ],
)
def test_verdicts(better, worse, claim, word):
    result = verdict(Claim("text", "a", "b", "generation", **claim), better, worse)
    assert result["verdict"] == word
    assert result["low"] < result["difference"] < result["high"]


def test_the_error_of_a_score():
    score = {"score": 75.0, "low": 0, "high": 0, "right": 75, "count": 100}
    assert Figure.of(score) == Figure(75.0, pytest.approx(100 * (0.75 * 0.25 / 100) ** 0.5))
    assert Figure.of(score | {"score": 100.0, "right": 100}).error == pytest.approx(1.0), "never quite certain"


def test_what_is_hard_for_both_does_not_count():
    """Arms that were asked the same are compared talk by talk: by hand, and against what other talks would say."""
    a, b = Figure.by_talk([(3, 4), (0, 4), (2, 2)]), Figure.by_talk([(2, 4), (0, 4), (2, 2)])
    assert (a.value, b.value) == (50.0, 40.0) and a.error == Figure.of(score(5, 10)).error
    spread = [1 - 0.4, 0 - 0.4, 0 - 0.2]
    assert a.variance_of_difference(b) == pytest.approx(1e4 * 3 / 2 * sum(s * s for s in spread) / 100)
    assert a.variance_of_difference(a) == 0.0
    result = verdict(Claim("text", "a", "b", "all", margin=1), [a], [a])
    assert (result["verdict"], result["low"], result["high"]) == ("held", 0.0, 0.0)
    apart = a.error**2 + b.error**2
    for other in (replace(b, talks=()), replace(b, talks=((2, 5), (0, 3), (2, 2)))):
        assert a.variance_of_difference(other) == pytest.approx(apart), "asked something else"
    rng = np.random.default_rng(0)
    hard = rng.random((4000, 20, 1)) < 0.5  # a talk that is hard is so for both
    right = np.where(hard, rng.random((4000, 20, 2)) < 0.2, rng.random((4000, 20, 2)) < 0.9).astype(int)
    found = [
        (ours.value - theirs.value, ours.variance_of_difference(theirs))
        for of in 4 * right[:1000].reshape(1000, 20, 2)
        for ours, theirs in [(Figure.by_talk([(n, 8) for n in of[:, 0]]), Figure.by_talk([(n, 8) for n in of[:, 1]]))]
    ]
    differences, variances = np.array(found).T
    assert variances.mean() == pytest.approx(differences.var(), rel=0.1), "the spread of many such studies"


def test_figures_come_back_from_json():
    figure = Figure.by_talk([(1, 2), (3, 3)])
    assert Figure.read(json.loads(json.dumps(asdict(figure)))) == figure
    assert Figure.read({"value": 1.0, "error": 2.0}) == Figure(1.0, 2.0)


MINIATURE = Study(
    "miniature",
    (Arm("decoupled"), Arm("shared", encoder="none"), Arm("deaf", guidance=1.0)),
    (
        Claim("it draws", "decoupled", "deaf", "generation"),
        Claim("it agrees", "decoupled", "shared", "agreement"),
        Claim("it expects", "decoupled", "shared", "likelihood"),
    ),
)
SHORT = Budget(1, 1, (("I", 1), ("III", 1)), 2, 1, 1)


def test_a_study_trains_each_model_once_and_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr("dualsight.train.janus_sources.WORDS_FROM", 20)
    monkeypatch.setattr("dualsight.train.codecs.STANDARD", 2)
    rooms = tmp_path / "rooms"
    picture = RoomPicture(np.zeros((64, 64, 3), np.uint8), "kitchen", (("table", "red", 0.3), ("stove", "", 0.2)))
    rooms.mkdir()
    write_rooms(rooms / "rooms-000000.safetensors", [picture])
    trained = []
    original = module.train_stage

    def counted(*arguments, **options):
        trained.append(arguments[2].name)
        return original(*arguments, **options)

    monkeypatch.setattr(module, "train_stage", counted)
    result = run(MINIATURE, tmp_path / "study", rooms, (0,), SHORT)
    assert trained == ["I", "III"] * 2, "the arms that differ in guidance only are one model"
    assert set(result["figures"]["decoupled"]) == {"generation", "agreement", "likelihood"}
    nats = -result["figures"]["shared"]["likelihood"][0]["value"]
    assert 64 * 5 < nats < 64 * 11, "64 tokens of 2048 that are all alike to it: 7.6 nats each"
    assert -100 <= result["figures"]["shared"]["agreement"][0]["value"] <= 100
    assert [claim["verdict"] for claim in result["claims"]]
    again = run(MINIATURE, tmp_path / "study", rooms, (0,), SHORT)
    assert again == result and len(trained) == 4
    run(replace(MINIATURE, name="other"), tmp_path / "other", rooms, (0,), SHORT, models=tmp_path / "study")
    assert len(trained) == 4, "another study finds them trained"
    assert json.loads((tmp_path / "study" / "results.json").read_text())["claims"] == result["claims"]
    assert "| it draws |" in (tmp_path / "study" / "results.md").read_text()
    assert "- budget: codec_steps 1, encoder_steps 1" in (tmp_path / "study" / "results.md").read_text()
    longer = replace(SHORT, codec_steps=2)
    with pytest.raises(DifferentRun, match=r"study holds .* budget.codec_steps is 2, was 1\. Choose"):
        run(MINIATURE, tmp_path / "study", rooms, (0,), longer)
    with pytest.raises(DifferentRun, match=r"budget\.codec_steps is 2, was 1"):
        run(MINIATURE, tmp_path / "fourth", rooms, (0,), longer, models=tmp_path / "study")
    with pytest.raises(DifferentRun, match="study is 'miniature', was 'other'"):
        run(MINIATURE, tmp_path / "other", rooms, (0,), SHORT, models=tmp_path / "study")
    with pytest.raises(ValueError, match="cannot judge the model"):
        run(MINIATURE, tmp_path / "third", rooms, model=tmp_path)


def test_the_table_shows_what_was_not_measured():
    study = Study("s", (Arm("a"), Arm("b", ratio=(1, 0, 0))), ())
    rows = {"a": {"generation": figures(1, 2)}, "b": {"generation": []}}
    assert "| a | 1.0, 2.0 |\n| b | - |" in table(study, rows, [])


def test_a_folder_keeps_what_one_run_made(tmp_path):
    settings = {"steps": 3, "policy": {"path": "a", "weights": "12ab"}, "stages": ("I", "II")}
    for again in (settings, settings, settings | {"policy": {"path": "moved", "weights": "12ab"}}):
        check_settings(tmp_path, again)
    with pytest.raises(DifferentRun, match=r"steps is 4, was 3; policy.weights is 'ff', was '12ab'"):
        check_settings(tmp_path, settings | {"steps": 4, "policy": {"path": "a", "weights": "ff"}})
    with pytest.raises(DifferentRun, match="talks is 9, was None"):
        check_settings(tmp_path, settings | {"talks": 9})
    (tmp_path / "settings.json").rename(tmp_path / "results.json")
    with pytest.raises(DifferentRun, match="nobody wrote down"):
        check_settings(tmp_path, settings)


def test_weights_are_told_by_what_is_in_them(tmp_path):
    for folder, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.safetensors").write_bytes(content)
        (tmp_path / folder / "config.json").write_text(folder)
    a, b, c = (weights_sha256(tmp_path / folder) for folder in "abc")
    assert a == b != c


def test_a_budget_is_scaled():
    assert Budget(10, 20, (("I", 4),)).scaled(0.1) == Budget(1, 2, (("I", 1),))
