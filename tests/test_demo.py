"""The main job in small: one house, a few steps, all the files, and the two lines for machines."""

import json
from dataclasses import replace

import pytest

from dualsight import demo
from dualsight.cli import main
from dualsight.envs.protocols import HOUSE
from dualsight.extras import install


@pytest.fixture(autouse=True)
def short_walks(monkeypatch):
    monkeypatch.setattr(demo, "HOUSE", replace(HOUSE, max_steps=5))


def test_a_house_is_walked_filmed_and_reported_and_walked_once(tmp_path, checkpoint, capsys):
    command = ["demo", f"--out={tmp_path}", "--episodes=1", f"--checkpoint={checkpoint}"]
    main(command)
    *_, figures, report = capsys.readouterr().out.splitlines()
    assert figures.startswith("episodes=1 SR=0.0 SPL=0.0 nDTW=")
    assert report == str(tmp_path / "report.html")
    (record,) = map(json.loads, (tmp_path / "episodes.jsonl").open())
    assert record["scene_id"] == "house/200000" and record["steps"] == 5
    film = tmp_path / "films" / f"{record['episode_id']}.mp4"
    assert film.stat().st_size > 10_000
    assert "data:video/mp4;base64," in (tmp_path / "report.html").read_text()
    assert json.loads((tmp_path / "results.json").read_text())["summary"]["episodes"] == 1

    made = film.stat().st_mtime_ns
    main(command)
    assert film.stat().st_mtime_ns == made, "an episode that is done is not walked again"
    assert capsys.readouterr().out.splitlines()[-2:] == [figures, report]


def test_walks_of_other_weights_make_room_and_are_kept(tmp_path, checkpoint, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    old = tmp_path / "runs" / "demo"
    old.mkdir(parents=True)
    (old / "run.json").write_text(json.dumps({"protocol": {}, "config": {"weights_sha256": "abcdef0123"}}))
    (old / "episodes.jsonl").write_text("walked long ago")
    command = ["demo", "--episodes=1", f"--checkpoint={checkpoint}", "--videos=false"]
    main(command)
    assert capsys.readouterr().out.splitlines()[-1] == "runs/demo/report.html"
    assert (tmp_path / "runs" / "demo-abcdef01" / "episodes.jsonl").read_text() == "walked long ago"
    main(command)  # its own walks stay
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["demo", "demo-abcdef01"]

    (tmp_path / "runs" / "demo" / "run.json").write_text(
        json.dumps({"protocol": {}, "config": {"weights_sha256": "abcdef0123"}})
    )
    with pytest.raises(SystemExit) as end:
        main(command)
    assert end.value.code == 2
    assert "hold walks of other weights: choose a folder (--out FOLDER)" in capsys.readouterr().err


def test_without_the_extra_for_films_it_says_so_before_it_walks(tmp_path, checkpoint, monkeypatch, capsys):
    monkeypatch.setattr(demo.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as end:
        main(["demo", f"--out={tmp_path}", "--episodes=1", f"--checkpoint={checkpoint}"])
    assert end.value.code == 2
    assert f"{install('video')}, or run with --videos=false" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
