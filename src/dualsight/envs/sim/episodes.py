"""Episodes for a house: a start, a goal in another room, and instructions for the shortest way between them.

Goals are anywhere (next to a thing, in the middle of a room, just inside a door) and every room of the house is as
likely as the next, so that whoever ignores the instruction, or the pictures, has to guess.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dualsight.envs.sim.building import House, Room
from dualsight.envs.sim.instructions import write_instruction
from dualsight.envs.sim.landmarks import SALIENCE, Renderer
from dualsight.envs.sim.navmesh import NavMesh
from dualsight.envs.sim.raster import Rasteriser
from dualsight.envs.sim.route import Route, RouteError, analyse
from dualsight.types import Episode, Point, Pose

TURN = math.radians(15)
LONG = 80
"""An episode is long when its expert needs at least this many actions."""

ATTEMPTS = 60
"""Goals tried for one path; the first half of them for a long one only, where one is wanted."""


@dataclass(frozen=True)
class Demand:
    """Which episodes are wanted. The first ones of a curriculum are short and cross few rooms."""

    min_geodesic: float = 5.0
    max_geodesic: float = 20.0
    max_rooms: int | None = None
    """Rooms on the way, first and last included."""
    min_decisions: int = 1
    """Rooms on the way with more than one way on: without any, nobody needs the instruction."""
    long_share: float = 0.25
    """Share of trajectories that are long, as far as the house has such."""
    long_style_share: float = 0.3
    """Share of instructions in the long style; the others are short."""
    per_trajectory: int = 1
    """Instructions for the same path (R2R has 3): they follow each other and share a ``trajectory_id``."""
    clearance: float = 0.25
    """Metres between start or goal and the nearest obstacle."""

    def __post_init__(self):
        if not 0 < self.min_geodesic < self.max_geodesic:
            raise ValueError(f"min_geodesic {self.min_geodesic} must be positive and below {self.max_geodesic}")
        if self.max_rooms is not None and self.max_rooms < 2:
            raise ValueError(f"max_rooms must be 2 or more (the goal is in another room), got {self.max_rooms}")
        if self.per_trajectory < 1:
            raise ValueError(f"per_trajectory must be at least 1, got {self.per_trajectory}")

    def admits(self, route: Route) -> bool:
        """Has the route as many rooms and decisions as wanted?"""
        most = self.max_rooms or len(route.legs)
        return 2 <= len(route.legs) <= most and route.decisions >= self.min_decisions


class NoEpisodeError(ValueError):
    """A house in which no path meets the demand; the message says what was asked for."""


def make_episodes(
    house: House,
    navmesh: NavMesh,
    seed: int,
    count: int,
    demand: Demand | None = None,
    renderer: Renderer | None = None,
) -> list[Episode]:
    """``count`` episodes of ``house``, the same for the same ``seed``.

    ``info`` of each: style, language, rooms (types, in order), decisions (rooms with more than one way on), storeys
    (flights of stairs walked), expert_steps.

    Raises:
        NoEpisodeError: the house has no path that meets ``demand``.
    """
    demand = demand or Demand()
    renderer = renderer or Rasteriser(house.scene)
    rng = np.random.default_rng([seed, house.seed])
    episodes: list[Episode] = []
    while len(episodes) < count:
        number = len(episodes) // demand.per_trajectory
        route = _find_route(house, navmesh, renderer, rng, demand, want_long=bool(rng.random() < demand.long_share))
        for _ in range(min(demand.per_trajectory, count - len(episodes))):
            style = "long" if rng.random() < demand.long_style_share else "short"
            trajectory = f"{house.seed:06d}-{seed}-{number}"
            text = write_instruction(route, house, rng, style)
            episodes.append(_episode(house, route, text, style, trajectory, f"{house.seed:06d}-{seed}-{len(episodes)}"))
    return episodes


def _episode(house: House, route: Route, instruction: str, style: str, trajectory_id: str, episode_id: str) -> Episode:
    """One episode over ``route``."""
    return Episode(
        episode_id=episode_id,
        scene_id=house.scene_id,
        start=route.start,
        goal=route.path.points[-1],
        instruction=instruction,
        reference_path=list(route.path.resampled(1.5)),
        geodesic_distance=route.path.length,
        trajectory_id=trajectory_id,
        info={
            "style": style,
            "language": "en-US",
            "rooms": [room.type for room in route.rooms],
            "decisions": route.decisions,
            "storeys": route.storeys_crossed,
            "expert_steps": route.expert_steps(),
        },
    )


def _find_route(
    house: House, navmesh: NavMesh, renderer: Renderer, rng: np.random.Generator, demand: Demand, want_long: bool
) -> Route:
    """A random route that meets the demand; a long one if wanted and found soon."""
    for attempt in range(ATTEMPTS):
        goal = _goal(house, navmesh, rng, demand.clearance)
        if goal is None:
            continue
        point, room = goal
        field = navmesh.distance_field(point)
        insist = want_long and attempt < ATTEMPTS // 2
        nearest = max(demand.min_geodesic, 0.18 * LONG if insist else 0.0)  # turns are a third of the actions at most
        for _ in range(20):
            start = _start(house, navmesh, rng, room, demand.clearance)
            if start is None or not nearest <= field.distance(start.position) <= demand.max_geodesic:
                continue
            try:
                route = analyse(house, field, start, renderer)
            except RouteError:
                break  # nearly always for want of words for the goal
            if demand.admits(route) and not (insist and route.expert_steps() < LONG):
                return route
    raise NoEpisodeError(f"{house.scene_id} has no path that meets {demand}")


def _start(house: House, navmesh: NavMesh, rng: np.random.Generator, goal_room: Room, clearance: float) -> Pose | None:
    """A place in another room, looking in a random direction (a multiple of 15 degrees)."""
    rooms = [room for room in house.rooms if room is not goal_room]
    point = _place(navmesh, rng, rooms[rng.integers(len(rooms))], clearance) if rooms else None
    return None if point is None else Pose(point, 0.0).turned(TURN * int(rng.integers(24)))


def _goal(house: House, navmesh: NavMesh, rng: np.random.Generator, clearance: float) -> tuple[Point, Room] | None:
    """A place in a random room: beside one of its things, or anywhere in it."""
    room = house.rooms[rng.integers(len(house.rooms))]
    things = [thing for thing in house.things if thing.room == room.index and SALIENCE.get(thing.category, 0) > 1]
    if not things or rng.random() < 0.3:
        point = _place(navmesh, rng, room, clearance)
        return None if point is None else (point, room)
    thing = things[rng.integers(len(things))]
    angle, gap = rng.uniform(0, 2 * math.pi), rng.uniform(0.35, 0.75)
    direction = Pose(thing.centre, angle).forward
    edge = min(
        size / 2 / abs(part) for size, part in zip(thing.size[[0, 2]], direction[[0, 2]], strict=True) if part != 0
    )
    point = thing.centre + (edge + gap) * direction
    point[1] = room.y
    if not room.contains(point, 0.1) or not _clear(navmesh, point, clearance):
        return None
    return navmesh.snap(point), room


def _place(navmesh: NavMesh, rng: np.random.Generator, room: Room, clearance: float) -> Point | None:
    """A free place in ``room``, or None after a few tries."""
    for _ in range(10):
        point = np.array([rng.uniform(room.x0, room.x1), room.y, rng.uniform(room.z0, room.z1)])
        if _clear(navmesh, point, clearance):
            return navmesh.snap(point)
    return None


def _clear(navmesh: NavMesh, point: Point, clearance: float) -> bool:
    """May somebody stand there, with room around?"""
    return navmesh.is_navigable(point) and navmesh.obstacle_distance(point) >= clearance
