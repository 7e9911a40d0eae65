"""Both suites on a model of a folder, through the command line: what they write and the last line that they print."""

import json
import re
import sys
from types import SimpleNamespace

import pytest

from dualsight.bench import understanding
from dualsight.bench.provenance import weights_sha256
from dualsight.checkpoints.janus import save_pretrained
from dualsight.cli import main
from dualsight.train.janus_sources import new_janus, open_sources, tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dualsight.train.janus_sources.WORDS_FROM", 30)
        model, processor = new_janus(tiny("siglip", "vq"), open_sources(["scenes"]), None, None)
    made = tmp_path_factory.mktemp("janus")
    save_pretrained(model, processor, made)
    return made


@pytest.mark.parametrize(
    ("suite", "categories"),
    [
        ("janus-house", ["attribute", "count", "relation", "existence", "room"]),
        ("geneval-shapes", ["single_object", "two_objects", "counting", "colors", "position", "attribute_binding"]),
    ],
)
def test_a_suite_prints_one_line_for_machines(suite, categories, folder, tmp_path, capsys):
    main(["eval", f"--suite={suite}", f"--model={folder}", "--seed=3", "--count=2", f"--out={tmp_path}"])
    line = capsys.readouterr().out.splitlines()[-1]
    scores = dict(re.findall(r"([a-z_]+)=([\d.]+)", line))
    assert list(scores) == ["overall", *categories]
    assert all(0 <= float(value) <= 100 for value in scores.values())
    result = json.loads((tmp_path / "results.json").read_text())
    assert result["seed"] == 3 and result["config"]["model"] == str(folder)
    assert result["protocol"]["held_out"]
    assert result["config"]["weights_sha256"] == weights_sha256(folder) and result["versions"]["dualsight"]


def test_what_is_like_training_can_be_asked_for(folder, tmp_path, monkeypatch):
    asked = []
    sample = understanding.sample_question
    monkeypatch.setattr(
        understanding, "sample_question", lambda rng, kind, held_out: (asked.append(held_out), sample(rng, kind))[1]
    )
    main(["eval", "--suite=janus-house", f"--model={folder}", "--count=1", f"--out={tmp_path}", "--held-out=false"])
    assert asked and not any(asked)
    assert not json.loads((tmp_path / "results.json").read_text())["protocol"]["held_out"]


def test_walks_need_a_place_to_be_kept(capsys):
    with pytest.raises(SystemExit) as end:
        main(["eval", "--agent=forward"])
    assert end.value.code == 2
    assert "--out FOLDER" in capsys.readouterr().err


def test_the_model_may_choose_among_its_drawings(folder, tmp_path, capsys):
    main(["eval", "--suite=geneval-shapes", f"--model={folder}", "--count=1", "--candidates=2",
          "--temperature=0", f"--out={tmp_path}"])  # fmt: skip
    assert capsys.readouterr().out.splitlines()[-1].startswith("overall=")
    config = json.loads((tmp_path / "results.json").read_text())["config"]
    assert (config["candidates"], config["temperature"]) == (2, 0) and "steps" not in config
    with pytest.raises(SystemExit):
        main(["eval", "--suite=geneval-shapes", f"--model={folder}", "--count=1", "--steps=3", f"--out={tmp_path}"])
    assert "this model draws token by token: it has no steps" in capsys.readouterr().err


def yes(frame, questions):
    """A judge that is always content."""
    return [True for _ in questions]


def test_pictures_by_other_settings_are_not_judged(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "content", SimpleNamespace(yes=yes))
    header = "item_id,text,proposition_id,dependency,category_broad,question_natural_language"
    (tmp_path / "dpg.csv").write_text(f"{header}\np1,a red star,1,0,entity,Is there a star?\n")
    command = ["eval", "--suite=dpg", f"--model={folder}", f"--prompts={tmp_path / 'dpg.csv'}", "--judge=content:yes"]
    command += ["--count=1", f"--out={tmp_path / 'out'}"]
    main([*command, "--guidance=2"])
    config = json.loads((tmp_path / "out/results.json").read_text())["config"]
    assert config["weights_sha256"] == weights_sha256(folder) and config["guidance"] == 2
    assert config["judge"] == "content:yes"
    with pytest.raises(SystemExit):
        main([*command, "--guidance=3"])
    assert "drawing.guidance is 3.0, was 2.0" in capsys.readouterr().err
