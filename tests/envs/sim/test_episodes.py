"""Episodes of one house: within what was asked for, and the same for the same seed."""

import json
import math

import numpy as np
import pytest
from corridor_house import corridor_house, corridor_mesh, corridor_views

from dualsight.envs.houses import house_episodes
from dualsight.envs.sim.episodes import LONG, Demand, NoEpisodeError, make_episodes

HOUSE, MESH, VIEWS = corridor_house(), corridor_mesh(), corridor_views()


def make(seed=0, count=8, **demand):
    return make_episodes(HOUSE, MESH, seed, count, Demand(**demand), VIEWS)


@pytest.fixture(scope="module")
def episodes():
    return make(count=12, long_style_share=0.5)


def test_starts_and_goals(episodes):
    assert len(episodes) == len({episode.episode_id for episode in episodes}) == 12
    for episode in episodes:
        assert episode.scene_id == "house/000007"
        assert MESH.is_navigable(episode.start.position) and MESH.is_navigable(episode.goal)
        assert HOUSE.room_at(episode.start.position) is not HOUSE.room_at(episode.goal)
        fifteens = episode.start.heading / math.radians(15)
        assert fifteens == pytest.approx(round(fifteens))


def test_distances_are_geodesic_and_within_bounds(episodes):
    for episode in episodes:
        field = MESH.distance_field(episode.goal)
        assert 5.0 <= episode.geodesic_distance <= 20.0
        assert field.distance(episode.start.position) == pytest.approx(episode.geodesic_distance, abs=0.05)


def test_the_reference_path_leads_from_start_to_goal_in_steps_of_at_most_a_metre_and_a_half(episodes):
    for episode in episodes:
        path = np.array(episode.reference_path)
        np.testing.assert_allclose(path[0], episode.start.position, atol=0.05)
        np.testing.assert_allclose(path[-1], episode.goal, atol=0.05)
        assert np.linalg.norm(np.diff(path, axis=0), axis=1).max() <= 1.5 + 1e-9
        assert all(MESH.is_navigable(point) for point in path)


def test_info_is_plain_and_complete(episodes):
    for episode in episodes:
        info = json.loads(json.dumps(episode.info))
        assert info == episode.info
        assert info["language"] == "en-US"
        assert info["style"] in ("short", "long")
        ends = HOUSE.room_at(episode.start.position), HOUSE.room_at(episode.goal)
        assert [info["rooms"][0], info["rooms"][-1]] == [room.type for room in ends if room]
        assert info["expert_steps"] >= episode.geodesic_distance / 0.25
        assert info["decisions"] >= 1
    assert {episode.info["style"] for episode in episodes} == {"short", "long"}


def test_the_same_seed_makes_the_same_episodes():
    first, second, other = make(3, 4), make(3, 4), make(4, 4)
    assert [e.instruction for e in first] == [e.instruction for e in second] != [e.instruction for e in other]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.reference_path, b.reference_path)
        assert a.start.heading == b.start.heading


def test_several_instructions_for_one_path():
    episodes = make(count=7, per_trajectory=3, long_style_share=0.0)
    assert [e.trajectory_id for e in episodes[:4]] == [episodes[0].trajectory_id] * 3 + [episodes[3].trajectory_id]
    assert len({e.trajectory_id for e in episodes}) == 3
    assert len({e.instruction for e in episodes[:3]}) > 1
    np.testing.assert_array_equal(episodes[0].reference_path, episodes[2].reference_path)


def test_a_curriculum_begins_with_few_rooms_and_short_ways():
    for episode in make(count=6, min_geodesic=3.0, max_geodesic=6.0, max_rooms=2, long_share=0.0):
        assert len(episode.info["rooms"]) == 2
        assert 3.0 <= episode.geodesic_distance <= 6.0


def test_long_episodes_are_found_where_there_are_any():
    long = [e.info["expert_steps"] for e in house_episodes([200002], 8, 0, Demand(long_share=1.0))]
    any_ = [e.info["expert_steps"] for e in house_episodes([200002], 8, 0, Demand(long_share=0.0))]
    assert min(long) >= LONG > min(any_)


def test_a_house_without_long_ways_has_others():
    assert all(e.info["expert_steps"] < LONG for e in make(count=3, max_geodesic=9.0, long_share=1.0))


def test_impossible_demands():
    with pytest.raises(NoEpisodeError, match="house/000007 has no path that meets Demand"):
        make(count=1, min_geodesic=30.0, max_geodesic=40.0)
    with pytest.raises(ValueError, match="min_geodesic 9 must be positive and below 8"):
        Demand(min_geodesic=9, max_geodesic=8)
    with pytest.raises(ValueError, match="max_rooms must be 2 or more"):
        Demand(max_rooms=1)
    with pytest.raises(ValueError, match="per_trajectory must be at least 1"):
        Demand(per_trajectory=0)
