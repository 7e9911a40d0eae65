"""Films: every moment is a picture, the file plays, and a disk that is full leaves none."""

import errno
import sys

import numpy as np
import pytest
from test_plan import house

from dualsight.data.files import NotWritten
from dualsight.inference.plan import floor_plans
from dualsight.inference.video import FPS, GAP, HEIGHT, PLAN_SIZE, TAKEN, TOP, VIEW, WIDTH, Film, Moment
from dualsight.types import Action, Pose


def make_film(steps=4, instruction="Walk into the bathroom and stop."):
    path = np.array([[1.0, 0.0, 3.0], [6.0, 0.0, 3.0]])
    film = Film(instruction, floor_plans(house(), *PLAN_SIZE), path)
    for step in range(steps):
        frame = np.full((112, 112, 3), 60 * step % 256, np.uint8)
        view = np.full((VIEW, VIEW, 3), 200, np.uint8)
        pose = Pose(np.array([1.0 + step, 0.0, 3.0]), -np.pi / 2)
        film.moments.append(Moment(frame, view, pose, Action(3 - step % 4), 5.0 - step, list(range(step + 1))))
    film.outcome = True, "reached: 1.0 m from the goal"
    return film


def test_a_moment_shows_view_path_and_memory():
    film = make_film()
    picture = np.asarray(film.draw(3))
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert (picture[TOP + 100, GAP + 100] == 200).all()
    column, row = film.plans[0].place(np.array([[2.5, 0.0, 3.0]]))[0]
    assert tuple(picture[TOP + int(row), 2 * GAP + VIEW + int(column)]) == TAKEN
    thumbs = picture[TOP + VIEW + 40, GAP + 10 :: round((WIDTH - 2 * GAP) / 28)][:4, 0]
    assert thumbs.tolist() == [0, 60, 120, 180]


@pytest.mark.parametrize("words", [1, 40, 120])
def test_instructions_stay_above_the_view(words):
    page = np.asarray(make_film(1, "somewhere " * words).draw(0))
    assert (page[TOP - 3 : TOP, :] > 240).all()


def test_the_file_plays(tmp_path):
    import av

    film = make_film()
    film.write(tmp_path / "films" / "a.mp4")
    with av.open(str(tmp_path / "films" / "a.mp4")) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(pictures) == 4 + 2 * FPS
    assert pictures[0].shape == (HEIGHT, WIDTH, 3)
    assert np.abs(pictures[3].astype(int) - np.asarray(film.draw(3))).mean() < 3
    assert [path.name for path in (tmp_path / "films").iterdir()] == ["a.mp4"]


def test_a_full_disk_leaves_no_half_film(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dualsight.data.files.os.replace", full)
    with pytest.raises(NotWritten, match=r"could not write .*a\.mp4: No space left on device"):
        make_film().write(tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"\.\[video\]"):
        make_film().write(tmp_path / "a.mp4")
