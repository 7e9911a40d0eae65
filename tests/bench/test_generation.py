"""The suite geneval-shapes, judged with painters that are known to be right or wrong."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from dualsight.bench.features import scene_features
from dualsight.bench.frechet import frechet_distance
from dualsight.bench.generation import evaluate, last_line, make_prompts
from dualsight.data.scene_sampling import sample
from dualsight.data.scene_text import CATEGORIES
from dualsight.data.scenes import render


class Oracle:
    """Draws each prompt as the suite itself would."""

    def __init__(self, per_category, seed, **options):
        self.pictures = {p.caption.text: p.picture for p in make_prompts(per_category, seed, **options)}

    def __call__(self, prompts, seeds):
        return [self.pictures[prompt] for prompt in prompts]


def test_the_oracle_is_perfect_and_files_are_written(tmp_path):
    result = evaluate(Oracle(4, 3), per_category=4, seed=3, images=2, out=tmp_path, config={"model": "oracle"})
    assert last_line(result).startswith("overall=100.0 single_object=100.0 two_objects=100.0 counting=100.0")
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["protocol"]["name"] == "geneval-shapes" and written["seed"] == 3
    assert written["prompts"] == 24 and written["overall"]["count"] == 48
    assert written["overall"]["low"] < 100 == written["overall"]["high"]
    assert written["config"] == {"model": "oracle"} and "versions" in written
    assert Image.open(tmp_path / "sheet.png").size == (8 * 134 + 6, 6 * 174 + 6)


def test_a_painter_that_ignores_the_prompt_scores_next_to_nothing():
    rng = np.random.default_rng(0)
    result = evaluate(lambda prompts, seeds: [render(sample(rng)) for _ in prompts], per_category=5, images=1)
    assert result["overall"]["score"] < 15


def test_the_codec_bounds_what_can_be_drawn():
    """One that gives pictures back as they are, and one that turns them grey."""

    def judged(codec):
        return evaluate(Oracle(3, 4), per_category=3, seed=4, images=1, reconstruct=codec)

    kept, lost = judged(list), judged(lambda pictures: [np.full_like(picture, 128) for picture in pictures])
    assert kept["ceiling"]["overall"]["score"] == 100 and kept["fid_codec"] == pytest.approx(kept["fid_floor"])
    assert lost["ceiling"]["overall"]["score"] == 0 and lost["fid_codec"] > lost["fid_floor"]
    assert lost["overall"]["score"] == 100, "what is drawn does not go through it here"
    assert "ceiling" not in judged(None)


def test_prompts_are_a_function_of_the_seed_and_cover_the_categories():
    a, b, other = make_prompts(6, 1), make_prompts(6, 1), make_prompts(6, 2)
    assert [p.caption for p in a] == [p.caption for p in b] != [p.caption for p in other]
    assert [p.caption.category for p in a] == [category for category in CATEGORIES for _ in range(6)]


def test_a_wrong_colour_or_a_missing_figure_is_seen():
    (prompt,) = (p for p in make_prompts(1, 5) if p.caption.category == "attribute_binding")
    first, second = prompt.caption.phrases
    swapped = replace(prompt.caption, phrases=(replace(first, color=second.color), replace(second, color=first.color)))
    from dualsight.bench.detector import detect

    assert prompt.caption.holds(detect(prompt.picture)) and not swapped.holds(detect(prompt.picture))


def test_every_picture_has_a_seed_of_its_own():
    seen = []

    def draw(prompts, seeds):
        seen.extend(seeds)
        return [np.full((64, 64, 3), 230, np.uint8)] * len(prompts)

    evaluate(draw, per_category=2, images=3, batch=5)
    assert len(seen) == len(set(seen)) == 36


def test_a_wrong_number_of_pictures_is_refused():
    with pytest.raises(ValueError, match="6 prompts were given, 0 pictures came back"):
        evaluate(lambda prompts, seeds: [], per_category=1, images=1)


def test_features_tell_other_scenes_from_the_same_kind_of_scenes():
    rng = np.random.default_rng(1)
    one, two = ([render(sample(rng, layout="single")) for _ in range(80)] for _ in range(2))
    crowds = [render(sample(rng, layout="group")) for _ in range(80)]
    assert scene_features(one).shape == (80, 64)
    near, far = (frechet_distance(scene_features(one), scene_features(other)) for other in (two, crowds))
    assert near < far / 2
