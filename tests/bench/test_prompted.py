"""Pictures of prompts: drawn on, never mistaken for those of another model."""

import numpy as np
import pytest

from dualsight.bench.prompted import Wanted, draw_missing
from dualsight.bench.provenance import DifferentRun


def wanted(folder, prompts=("a cat", "a dog")):
    return [Wanted(folder / f"{n}.png", prompt, n) for n, prompt in enumerate(prompts)]


def white(prompts, seeds):
    return [np.full((4, 4, 3), 255, np.uint8) for _ in prompts]


def test_pictures_of_another_run_are_refused(tmp_path):
    drawing = {"weights_sha256": "a", "guidance": 5.0}
    draw_missing(white, wanted(tmp_path), tmp_path, drawing)
    draw_missing(lambda *_: pytest.fail("all are there"), wanted(tmp_path), tmp_path, drawing)
    with pytest.raises(DifferentRun, match=r"drawing.guidance is 2.0, was 5.0"):
        draw_missing(white, wanted(tmp_path), tmp_path, {**drawing, "guidance": 2.0})
    with pytest.raises(DifferentRun, match=r"drawing.weights_sha256 is 'b', was 'a'"):
        draw_missing(white, wanted(tmp_path), tmp_path, {**drawing, "weights_sha256": "b"})
    with pytest.raises(DifferentRun, match=r"drawing.prompts_sha256 is "):
        draw_missing(white, wanted(tmp_path, ("a cat", "a cow")), tmp_path, drawing)


def test_pictures_of_unknown_origin_are_refused(tmp_path):
    draw_missing(white, wanted(tmp_path), tmp_path, {})
    (tmp_path / "run.json").unlink()
    with pytest.raises(DifferentRun, match=r"no run\.json that says what drew them"):
        draw_missing(white, wanted(tmp_path), tmp_path, {})
