"""Buildings by their names: generated houses, and files of anybody's."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest

from dualsight.commands.data import episodes as data_episodes
from dualsight.commands.judge import evaluate
from dualsight.data.r2r import read_episodes, write_episodes
from dualsight.envs.protocols import HOUSE, R2R_CE
from dualsight.envs.sim.glb import save_glb
from dualsight.envs.sim.house import load
from dualsight.envs.world import Worlds, open_house

SEED = 900001


@pytest.fixture(scope="module")
def scanned(tmp_path_factory):
    """A folder as that of Matterport3D: a house as a file, and episodes in it, with what an expert did."""
    folder = tmp_path_factory.mktemp("scans")
    (folder / "mp3d" / "scan").mkdir(parents=True)
    save_glb(load(SEED).scene, folder / "mp3d" / "scan" / "scan.glb")
    data_episodes(folder / "walks.json.gz", house_seeds=f"{SEED}:{SEED + 1}", episodes_per_house=2)
    episodes = read_episodes(folder / "walks.json.gz")
    write_episodes(folder / "walks.json.gz", [replace(e, scene_id="mp3d/scan/scan.glb") for e in episodes])
    return folder


def test_a_file_is_the_house_that_was_written(scanned):
    ours, theirs = open_house(f"house/{SEED:06d}", HOUSE), Worlds(scanned, "y")("mp3d/scan/scan.glb", HOUSE)
    episode = read_episodes(scanned / "walks.json.gz")[0]
    paths = [world.ground.distance_field(episode.goal).path(episode.start.position) for world in (ours, theirs)]
    np.testing.assert_allclose(*paths, atol=1e-3)
    pictures = [world.renderer.render(episode.start, HOUSE.camera).rgb.astype(int) for world in (ours, theirs)]
    assert np.abs(pictures[0] - pictures[1]).mean() < 2.0  # light is stored with eight bits
    assert theirs.house is None and theirs.roomy is not None
    assert Worlds(scanned, "y")("mp3d/scan/scan.glb", HOUSE) is theirs  # opened once


def test_episodes_in_files_are_walked_and_measured_against_the_recorded_path(scanned, capsys):
    out = scanned / "run"
    evaluate(out, "expert", episodes=scanned / "walks.json.gz", scenes=scanned, up="y", rows=2)
    assert "episodes=2 SR=100.0" in capsys.readouterr().out
    walked = [json.loads(line) for line in (out / "episodes.jsonl").read_text().splitlines()]
    assert [round(one["ndtw"], 6) for one in walked] == [1.0, 1.0]  # it goes where it went before
    with gzip.open(scanned / "walks_gt.json.gz", "rt") as file:
        recorded = json.load(file)
    assert [len(recorded[one["episode_id"]]["actions"]) for one in walked] == [one["steps"] for one in walked]


@pytest.mark.parametrize(
    ("worlds", "scene", "message"),
    [
        (Worlds(), "attic", "like house/000123, and a scan by its file"),
        (Worlds(), "mp3d/scan/scan.glb", "say where such files are"),
        ("scanned", "mp3d/other/other.glb", "there is no .*other.glb"),
        ("scanned", "../secret.glb", "leads out of the folder"),
    ],
)
def test_what_cannot_be_opened_is_said(scanned, worlds, scene, message):
    worlds = Worlds(scanned) if worlds == "scanned" else worlds
    with pytest.raises(ValueError, match=message):
        worlds(scene, R2R_CE)
