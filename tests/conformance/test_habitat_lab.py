"""Our episodes, environment and metrics beside habitat-lab's: the same actions must give the same numbers.

habitat-lab (MIT, from PyPI) runs on our simulator in a virtual environment of its own, since it wants numpy 1.26. The
environment is made once, in the temporary folder or where ``DUALSIGHT_HABITAT_VENV`` says; it takes 830 MB.
"""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import dualsight
from dualsight.data.r2r import write_episodes
from dualsight.envs.house_env import HouseEnvironment
from dualsight.envs.houses import house_episodes
from dualsight.envs.protocols import R2R_CE
from dualsight.inference.rollout import ExpertAgent, ForwardAgent, RandomAgent, rollouts
from tests.conformance.environments import python_with

HABITAT_LAB = "habitat-lab==0.3.320260507"
HOUSES = (900_000, 900_003)
WORKER = Path(__file__).with_name("habitat_lab_worker.py")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def habitat_python() -> Path:
    """The interpreter of an environment that has habitat-lab."""
    return python_with("habitat", [HABITAT_LAB, "safetensors"])


@pytest.fixture(scope="module")
def walked(habitat_python, tmp_path_factory):
    """Expert, random and forward-only walks: (our result, distances after each step, habitat-lab's trace) of each."""
    folder = tmp_path_factory.mktemp("habitat")
    episodes = list(house_episodes(HOUSES, 6, rules=R2R_CE))
    episodes = [replace(episode, episode_id=str(n)) for n, episode in enumerate(episodes)]
    envs = [HouseEnvironment(R2R_CE)]
    agents = [ExpertAgent(envs), RandomAgent(0), ForwardAgent(20)]
    ours = {
        result.episode.episode_id: result
        for n, agent in enumerate(agents)
        for result in rollouts(envs, agent, episodes[n :: len(agents)])
    }
    write_episodes(folder / "val.json.gz", episodes)
    actions = {name: [int(a) for a in result.actions] for name, result in ours.items()}
    (folder / "actions.json").write_text(json.dumps(actions))
    environment = os.environ | {
        "PYTHONPATH": str(Path(dualsight.__file__).parents[1]),
        "NUMBA_CACHE_DIR": str(habitat_python.parents[1] / "numba"),  # another numba must not replace our cache
    }
    command = [habitat_python, WORKER, folder / "val.json.gz", folder / "actions.json", folder / "out.json"]
    subprocess.run(command, check=True, env=environment, cwd=folder)
    theirs = json.loads((folder / "out.json").read_text())
    assert theirs.keys() == ours.keys()
    return [(ours[name], theirs[name]) for name in ours]


def test_the_episode_file_is_read_as_it_was_meant(walked):
    for ours, theirs in walked:
        assert theirs["instruction"] == ours.episode.instruction
        assert theirs["scene_id"].endswith(ours.episode.scene_id)


def test_the_agent_goes_the_same_way(walked):
    for ours, theirs in walked:
        positions = np.array([row["position"] for row in theirs["trace"]])
        assert np.allclose(positions, [pose.position for pose in ours.poses], atol=1e-6)


def test_metrics_are_equal(walked):
    for ours, theirs in walked:
        last = theirs["trace"][-1]
        assert last["success"] == ours.metrics.success
        assert last["spl"] == pytest.approx(ours.metrics.spl, abs=1e-6)
        assert last["distance_to_goal"] == pytest.approx(ours.metrics.ne, abs=1e-6)
        assert theirs["trace"][0]["distance_to_goal"] == pytest.approx(ours.metrics.geodesic, abs=1e-6)
        reached = min(row["distance_to_goal"] for row in theirs["trace"])
        assert ours.metrics.os == float(reached < 3.0)


def test_episodes_end_together(walked):
    for ours, theirs in walked:
        assert theirs["over"] and len(theirs["trace"]) == len(ours.actions) + 1


def test_the_walks_cover_success_and_failure(walked):
    assert {ours.metrics.success for ours, _ in walked} == {0.0, 1.0}
