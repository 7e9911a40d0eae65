"""GenEval's rules on objects placed by hand, and a whole run with the detector of generated scenes."""

import json

import numpy as np
import pytest
from PIL import Image

from dualsight.bench.detector import detect
from dualsight.bench.geneval import Detected, counted, evaluate, mistakes, read_prompts, relations
from dualsight.bench.janus import evaluate_janus
from dualsight.data.scenes import REACH, Figure, Ground, Scene, render

ROWS = [
    {"tag": "single_object", "prompt": "a dog", "include": [{"class": "dog", "count": 1}]},
    {"tag": "counting", "prompt": "two dogs", "include": [{"class": "dog", "count": 2}],
     "exclude": [{"class": "dog", "count": 3}]},
    {"tag": "colors", "prompt": "a red dog", "include": [{"class": "dog", "count": 1, "color": "red"}]},
    {"tag": "position", "prompt": "a cat right of a dog", "include": [
        {"class": "dog", "count": 1}, {"class": "cat", "count": 1, "position": ["right of", 0]}]},
]  # fmt: skip


def prompts(tmp_path, rows=ROWS):
    path = tmp_path / "evaluation_metadata.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return read_prompts(path)


def at(label, x, y, size=10, **more):
    return Detected(label, (x, y, x + size, y + size), **more)


def test_relations_go_by_centres_beyond_a_tenth_of_the_sizes():
    here = at("a", 0, 0)
    assert relations(here, at("b", 30, 0)) == {"left of"}
    assert relations(at("b", 30, 0), here) == {"right of"}
    assert relations(here, at("b", 0, 30)) == {"above"}
    assert relations(here, at("b", 30, 30)) == {"left of", "above"}, "a diagonal is both"
    assert relations(here, at("b", 30, 14)) == {"left of"}, "less than half of the direction"
    # centres 4 apart: 2 beyond the tenth are half of the distance, which is not more than a half
    assert relations(here, at("b", 4, 0)) == set() and relations(here, at("b", 5, 0)) == {"left of"}
    assert relations(here, at("b", 2, 0)) == set(), "0.1 * (10 + 10) = 2"


def test_what_makes_a_picture_right(tmp_path):
    single, counting, colors, position = prompts(tmp_path)
    dog, other, third, cat = at("dog", 0, 0), at("dog", 20, 0), at("dog", 40, 0), at("cat", 40, 0)
    assert mistakes(single, [dog, cat]) == [] and mistakes(single, [cat]) == ["1 of dog expected, 0 found"]
    assert mistakes(counting, [dog, other]) == []
    assert mistakes(counting, [dog]) == ["2 of dog expected, 1 found"]
    assert mistakes(counting, [dog, other, third]) == ["fewer than 3 of dog expected, 3 found"]
    assert mistakes(colors, [at("dog", 0, 0, color="red")]) == []
    assert mistakes(colors, [dog]) == ["dog expected to be red, found ?"]
    sure, unsure = at("dog", 0, 0, color="blue", score=0.9), at("dog", 9, 9, color="red", score=0.5)
    assert mistakes(colors, [unsure, sure]), "only the surest count"
    assert mistakes(position, [dog, cat]) == []
    assert mistakes(position, [at("dog", 60, 0), cat]) == ["cat expected right of dog"]
    assert len(mistakes(position, [cat])) == 2, "nothing to be right of"


def test_what_is_unsure_does_not_count(tmp_path):
    single, counting, *_ = prompts(tmp_path)
    assert mistakes(single, [at("dog", 0, 0, score=0.31)]) == []
    assert mistakes(single, [at("dog", 0, 0, score=0.3)]) == ["1 of dog expected, 0 found"]
    sure, fair = at("dog", 0, 0, score=0.95), at("dog", 20, 0, score=0.9)
    assert mistakes(counting, [sure, fair]) == ["2 of dog expected, 1 found"], "counting takes more than 0.9"
    assert mistakes(counting, [sure, sure, fair]) == [], "nor is the unsure third one too many"
    many = counted("single_object", [at("dog", n, 0, score=0.5 + n / 100) for n in range(20)])["dog"]
    assert len(many) == 16 and many[0].box[0] == 19, "the surest"


def find(frame, classes):
    """Our detector of scenes as GenEval wants one."""
    size, found = frame.shape[0], detect(frame)
    reach = REACH * 0.15
    boxes = [tuple(size * v for v in (f.x - reach, f.y - reach, f.x + reach, f.y + reach)) for f in found]
    things = [Detected(f.shape, box, color=f.color) for f, box in zip(found, boxes, strict=True)]
    return [thing for thing in things if thing.label in classes]


def test_a_run_draws_what_is_missing_and_judges_everything(tmp_path):
    rows = [
        {"tag": "colors", "prompt": "red star", "include": [{"class": "star", "count": 1, "color": "red"}]},
        {"tag": "position", "prompt": "star right of ring", "include": [
            {"class": "ring", "count": 1}, {"class": "star", "count": 1, "position": ["right of", 0]}]},
    ]  # fmt: skip
    ground = Ground(((230, 230, 230), (230, 230, 230)), 0.0)
    star, ring = (Figure(s, "red", "large", "solid", x, 0.5, 0.19) for s, x in (("star", 0.75), ("ring", 0.25)))
    asked = []

    def draw(texts, seeds):
        asked.extend(zip(texts, seeds, strict=True))
        return [render(Scene((star, ring) if "ring" in text else (star,), ground), 64) for text in texts]

    out = tmp_path / "run"
    result = evaluate(draw, find, prompts(tmp_path, rows), out, images=2, seed=1)
    assert result["overall"]["score"] == 100 and set(result["categories"]) == {"colors", "position"}
    assert [seed for _, seed in asked] == [1_000_003, 1_000_004, 1_000_005, 1_000_006]
    assert json.loads((out / "images/00001/metadata.jsonl").read_text()) == rows[1]
    (out / "images/00000/samples/0001.png").unlink()
    Image.fromarray(np.full((64, 64, 3), 230, np.uint8)).save(out / "images/00000/samples/0000.png")
    again = evaluate(draw, find, prompts(tmp_path, rows), out, images=2, seed=1)
    assert asked[4:] == [("red star", 1_000_004)], "only what was missing"
    assert again["categories"]["colors"]["score"] == 50 and again["overall"]["score"] == 75
    assert again["pictures"][0]["mistakes"] == ["1 of star expected, 0 found"]
    with pytest.raises(ValueError, match="2 prompts were given, 0 pictures"):
        evaluate(lambda texts, seeds: [], find, prompts(tmp_path, rows), tmp_path / "other", images=1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"tag": "a"', "line 2"),
        ('{"tag": "a", "prompt": "b"}', "include is empty"),
        ('{"tag": "a", "prompt": "b", "include": [{"class": "c"}]}', "count"),
        (
            '{"tag": "a", "prompt": "b", "include": [{"class": "c", "count": 1, "position": ["above", 3]}]}',
            "entry 3 of 1",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n" + line)
    with pytest.raises(ValueError, match=message):
        read_prompts(path)


def test_no_prompts(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="holds no prompts"):
        read_prompts(tmp_path / "empty.jsonl")
    with pytest.raises(ValueError, match="needs its prompts"):
        evaluate_janus("geneval", tmp_path, 0, tmp_path)
