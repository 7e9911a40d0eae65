"""The expert in a box room: what it does can be foreseen."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from dualsight.envs.box_room import BoxGround, FlatPictures, open_box
from dualsight.envs.expert import Expert, point_along
from dualsight.envs.house_env import HouseEnvironment
from dualsight.envs.protocols import HOUSE, R2R_CE, RXR_CE
from dualsight.envs.sim.navmesh import AgentShape, NavMesh
from dualsight.envs.world import World
from dualsight.inference.rollout import ExpertAgent, rollout
from dualsight.types import Action, Episode, Pose


def episode(goal, start=(0.0, 0.0, 0.0), heading=0.0, via=()):
    path = [np.array(p, float) for p in (start, *via, goal)]
    return Episode("1", "box", Pose(path[0], heading), path[-1], "go", reference_path=path)


def walk(task, protocol=HOUSE):
    env = HouseEnvironment(protocol, open_box)
    pose, actions = env.reset(task).pose, []
    poses = [pose]
    expert = env.expert()
    for _ in range(protocol.max_steps):
        actions.append(expert.act(pose))
        observation, terminated, *_ = env.step(actions[-1])
        pose = observation.pose
        poses.append(pose)
        if terminated:
            break
    return actions, poses, env.distance_to_goal()


def test_straight_ahead_is_forward_only():
    actions, *_, left = walk(episode((0, 0, -3)))
    assert actions == [Action.MOVE_FORWARD] * 11 + [Action.STOP]  # 2.75 m: within 0.3 m of the goal
    assert left == pytest.approx(0.25)


def test_it_turns_the_shorter_way_round():
    assert walk(episode((-3, 0, 0)))[0][:7] == [Action.TURN_LEFT] * 6 + [Action.MOVE_FORWARD]
    assert walk(episode((3, 0, 0)))[0][:7] == [Action.TURN_RIGHT] * 6 + [Action.MOVE_FORWARD]


def test_it_walks_the_reference_path_and_not_the_short_cut():
    corner = (4.0, 0.0, 0.0)
    _, poses, left = walk(episode((4, 0, -4), via=[(2, 0, 0), corner]))
    assert min(np.linalg.norm(p.position - corner) for p in poses) < 0.6
    assert left <= HOUSE.expert_radius


@pytest.mark.parametrize(
    "protocol", [HOUSE, replace(R2R_CE, camera=HOUSE.camera), replace(RXR_CE, camera=HOUSE.camera)]
)
@pytest.mark.parametrize("seed", range(10))
def test_it_arrives_from_anywhere(protocol, seed):
    rng = np.random.default_rng(seed)
    places = rng.uniform(-5, 5, (4, 3)) * [1, 0, 1]
    task = episode(places[-1], places[0], rng.uniform(-math.pi, math.pi), via=places[1:-1])
    actions, poses, left = walk(task, protocol)
    length = sum(np.linalg.norm(b - a) for a, b in itertools.pairwise(places))
    walked = sum(np.linalg.norm(b.position - a.position) for a, b in itertools.pairwise(poses))
    assert actions[-1] is Action.STOP and left <= protocol.expert_radius
    assert walked < 1.1 * length + 0.25
    assert not any({a, b} == {Action.TURN_LEFT, Action.TURN_RIGHT} for a, b in itertools.pairwise(actions))


def test_off_the_path_it_leads_back_to_the_next_waypoint():
    expert = Expert(BoxGround(), episode((0, 0, -4), via=[(0, 0, -1), (0, 0, -2.5)]), HOUSE)
    assert expert.act(Pose(np.zeros(3), 0.0)) is Action.MOVE_FORWARD
    astray = Pose(np.array([3.0, 0.0, -1.0]), 0.0)  # 3 m to the right: the waypoints are to the left
    assert expert.act(astray) is Action.TURN_LEFT


def test_it_does_not_go_back_for_a_waypoint_that_was_passed_at_a_distance():
    expert = Expert(BoxGround(), episode((0, 0, -4), via=[(0, 0, -1), (0, 0, -2)]), HOUSE)
    expert.act(Pose(np.zeros(3), 0.0))
    expert.act(Pose(np.array([1.5, 0.0, -1.6]), 0.0))
    assert np.allclose(expert.waypoint, [0, 0, -2])


def test_a_loop_is_not_cut_short():
    """The path ends where it begins: standing on the goal is not having walked it."""
    loop = episode((0, 0, 0), via=[(0, 0, -3), (-3, 0, -3), (-3, 0, 0)])
    actions, poses, left = walk(loop)
    assert min(np.linalg.norm(p.position - [-3, 0, -3]) for p in poses) < 0.6
    assert actions[0] is Action.MOVE_FORWARD and left <= HOUSE.expert_radius


def test_the_plan_tells_where_the_path_leads():
    """From the origin, looking along -z, to a goal 3 m to the left."""
    expert = Expert(BoxGround(), episode((-3, 0, 0)), HOUSE)
    assert expert.plan(Pose(np.zeros(3), 0.0)) == pytest.approx([-1, 0, -2, 0, -3, 0, 3])
    facing_it = Pose(np.zeros(3), math.pi / 2)
    assert expert.plan(facing_it) == pytest.approx([0, 1, 0, 2, 0, 3, 3], abs=1e-9)


def test_what_remains_is_the_way_to_the_goal_through_all_waypoints():
    expert = Expert(BoxGround(), episode((-3, 0, -2), via=[(0, 0, -2)]), HOUSE)
    assert expert.plan(Pose(np.zeros(3), 0.0)) == pytest.approx([0, 1, 0, 2, 0, 2, 5])


def test_a_point_along_a_path_by_hand():
    path = np.array([[0, 0, 0], [0, 0, 0], [3, 0, 0], [3, 0, 4]], float)
    assert point_along(path, 2).tolist() == [2, 0, 0]
    assert point_along(path, 4).tolist() == [3, 0, 1]
    assert point_along(path, 99).tolist() == [3, 0, 4]


def wall_with_a_door(width):
    """A wall of blocks across a floor of 8 x 8 m, with a door of ``width`` metres in its middle."""
    floor = [np.array([[-4, 0, -4], [-4, 0, 4], [4, 0, 4], [4, 0, -4]], float)]
    for left, right in ((-4.0, -width / 2), (width / 2, 4.0)):
        for z in (-0.1, 0.1):  # two sheets that nobody can walk through
            floor.append(np.array([[left, 0, z], [right, 0, z], [right, 2, z], [left, 2, z]]))
    vertices = np.concatenate(floor)
    triangles = np.concatenate(
        [[[4 * i, 4 * i + 1, 4 * i + 2], [4 * i, 4 * i + 2, 4 * i + 3]] for i in range(len(floor))]
    )
    return [NavMesh.build(vertices, triangles, AgentShape(radius=radius, min_area=0.1)) for radius in (0.1, 0.3)]


def test_with_roomy_ground_it_goes_through_the_middle_of_a_door():
    ground, roomy = wall_with_a_door(1.0)
    task = replace(episode((1.0, 0.0, -3.0), (2.0, 0.0, 3.0)), reference_path=[])
    offsets = []
    for known in (None, roomy):
        expert = Expert(ground, task, HOUSE, known)
        pose, crossed = task.start, None
        for _ in range(120):
            action = expert.act(pose)
            if action is Action.STOP:
                break
            if action is Action.MOVE_FORWARD:
                ahead = ground.try_step(pose.position, pose.position + HOUSE.forward * pose.forward, True)
                if pose.position[2] > 0 >= ahead[2]:
                    crossed = ahead[0]
                pose = Pose(ahead, pose.heading)
            else:
                pose = pose.turned(HOUSE.turn_radians * (1 if action is Action.TURN_LEFT else -1))
        assert action is Action.STOP and crossed is not None
        offsets.append(0.5 - abs(crossed))  # metres to the door post
    assert offsets[1] > offsets[0] + 0.05


def test_a_roomy_way_round_is_not_taken():
    """Through the door it is 0.5 m to the other side; roomy ground that leaves the door out would lead nowhere."""
    ground, roomy = wall_with_a_door(0.5)
    place, goal = np.array([0.0, 0.0, 0.6]), np.array([0.0, 0.0, -2.0])
    expert = Expert(ground, episode(goal, place), HOUSE, roomy)
    assert expert.act(Pose(place, 0.0)) is Action.MOVE_FORWARD


def test_same_pose_same_answer():
    task = episode((3, 0, -3), via=[(0, 0, -2)])
    assert walk(task)[0] == walk(task)[0]


def box(low, high):
    """The eight corners and twelve triangles of a box."""
    corners = np.array(
        [[(low, high)[i][0], (low, high)[j][1], (low, high)[k][2]] for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    )
    faces = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    return corners, np.array([t for a, b, c, d in faces for t in ([a, b, c], [a, c, d])])


@pytest.fixture(scope="module")
def two_rooms():
    """8 x 4 m, a wall across at x = 4 with a doorway of 0.9 m in it, and a table in the way."""
    boxes = [
        box((0, -0.2, 0), (8, 0, 4)),
        box((3.95, 0, 0), (4.05, 2.5, 2.6)),
        box((3.95, 0, 3.5), (4.05, 2.5, 4)),
        box((5.5, 0, 1.0), (6.5, 0.7, 2.5)),
    ]
    return np.concatenate([v for v, _ in boxes]), np.concatenate([t + 8 * n for n, (_, t) in enumerate(boxes)])


@pytest.mark.parametrize("rules", [HOUSE, replace(RXR_CE, camera=HOUSE.camera)])
def test_it_gets_through_doors_and_round_corners(two_rooms, rules):
    ground = NavMesh.build(*two_rooms, AgentShape(radius=rules.radius, height=rules.height))
    rng = np.random.default_rng(0)
    for n in range(12):
        start, goal = (
            np.array([rng.uniform(0.5, 3), 0, rng.uniform(0.5, 3.5)]),
            np.array([7.3, 0, rng.uniform(0.5, 3.5)]),
        )
        path = ground.distance_field(goal).path(start)
        task = Episode(str(n), "rooms", Pose(path[0], rng.uniform(-3, 3)), goal, "go", reference_path=list(path))
        env = HouseEnvironment(rules, lambda *_: World(FlatPictures(), ground))
        result = rollout(env, ExpertAgent([env]), task)
        assert result.metrics.success and result.metrics.ne <= rules.expert_radius
        assert result.metrics.spl > 0.9
