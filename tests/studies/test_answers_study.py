"""The study of memory on a user's own questions, in miniature."""

import json

import numpy as np
import pytest
from PIL import Image

from dualsight.bench.provenance import DifferentRun
from dualsight.cli import main
from dualsight.models.vismem import VisMemConfig
from dualsight.studies import answers
from dualsight.studies.answers import ARMS, CLAIMS, run
from tests.models.tiny_vlms import janus_folder


@pytest.fixture
def given(tmp_path):
    vlm = janus_folder(tmp_path / "vlm")
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(tmp_path / "a.png")
    for name, count in (("train", 9), ("test", 3)):
        lines = [{"question": f"w7 w{n + 20}", "answer": "w10", "image": "a.png"} for n in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return vlm, tmp_path / "train.jsonl", tmp_path / "test.jsonl"


def test_every_arm_is_asked_once_and_every_claim_judged(given, tmp_path, monkeypatch):
    small = VisMemConfig(queries=2, short=2, long=3, width=16, heads=2, rank=4)
    result = run(tmp_path / "out", *given, seeds=(0,), steps=1, tokens=3, config=small)
    assert set(result["figures"]) == set(ARMS)
    assert [claim["claim"] for claim in result["claims"]] == [claim.text for claim in CLAIMS]
    monkeypatch.setattr(answers.sft, "warm_start", None)
    monkeypatch.setattr(answers.questions, "evaluate", None)
    assert run(tmp_path / "out", *given, seeds=(0,), steps=1, tokens=3, config=small) == result
    with pytest.raises(DifferentRun, match="steps is 2, was 1"):
        run(tmp_path / "out", *given, seeds=(0,), steps=2, tokens=3, config=small)
    assert "| wrong image |" in (tmp_path / "out" / "results.md").read_text()


def test_what_is_not_said_is_asked_for(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["study", "answers", f"--out={tmp_path}"])
    assert "--vlm FOLDER --data FILE --test FILE" in capsys.readouterr().err
