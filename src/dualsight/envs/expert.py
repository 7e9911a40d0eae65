"""The shortest-path expert: what a walker who knows the map would do next.

It walks the episode's **reference path**, waypoint by waypoint, and not simply the shortest way to the goal: that is
the path the instruction speaks of. It answers for any pose, on the path or off it, so that it can label what a
learner did (DAgger): off the path it leads back to the next waypoint that is still to be passed.

It pursues a point a little ahead on the shortest path from where it stands, through the middle of doors where it knows
of ``roomy`` ground: a walker that hugged every corner would give labels that no picture tells a learner. Where that
pursuit is blocked it tries one step in every heading that turning can reach, with the simulator's own ``try_step``,
and takes the heading whose step leaves the shortest way. So it knows about walls, about sliding, and about the
coarseness of its turns.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from dualsight.envs.protocols import Protocol
from dualsight.envs.world import DistanceField, Ground
from dualsight.types import Action, Episode, Point, Pose

WAYPOINT_RADIUS = 0.5
"""A waypoint is passed within this distance, metres."""
LOOKAHEAD = 0.8
"""It walks towards the point of its path that is so many metres ahead (pure pursuit)."""
OFF_ROOMY = 0.3
"""From so near, metres, it finds back to roomy ground; from farther it keeps to the ground at large."""
PLAN = (1.0, 2.0, 4.0)
"""Metres ahead on its path at which it says where the path leads: a richer lesson than the next action."""
DETOUR = 0.5
"""Roomy ground may make the way longer by so many metres (more would be another way), and pursuit that was blocked
begins again so far from there."""
TURN_COST = 0.004
"""Metres that one turn counts for when two headings are nearly as good: keeps it from dithering between them."""
LEAST_GAIN = 1e-3
"""A step that shortens the way by less than this, metres, is none."""
ON_COURSE, OFF_COURSE = 0.55, 1.5
"""A turn is finished when its heading is so few turns off; then it walks straight on until it is that many off. With
one number for both it would correct its course at nearly every step."""


def is_shortest(episode: Episode) -> bool:
    """Is the reference path as short as the way can be (within 3 %)? Then whoever goes straight for the goal walks it,
    and needs one distance field instead of one per waypoint. Generated episodes are such; R2R's are often not."""
    path = np.asarray(episode.reference_path, float)
    if len(path) < 2:
        return True
    length = np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
    return bool(length <= 1.03 * episode.geodesic_distance)


class Expert:
    """Follows one episode's reference path; ``act`` wants the poses in the order in which they are visited.

    Args:
        ground: where one can stand and go.
        episode: gives the waypoints (its reference path) and the goal.
        protocol: step length, turn, sliding, and ``expert_radius`` within which it says STOP.
        roomy: the part of the ground that keeps off walls and furniture, if known; it stays there where it can.
    """

    def __init__(self, ground: Ground, episode: Episode, protocol: Protocol, roomy: Ground | None = None):
        self.ground, self.roomy, self.protocol = ground, roomy, protocol
        self.waypoints: list[Point] = [np.asarray(episode.goal, float)]
        if not is_shortest(episode):
            self.waypoints[:0] = [np.asarray(p, float) for p in episode.reference_path[1:-1]]
        self._fields: list[DistanceField | None] = [None] * len(self.waypoints)
        self._roomy_fields: dict[int, DistanceField | None] = {}
        self._next = 0
        self._walking = False
        self._blocked: Point | None = None
        self._way: tuple[Point | None, int, np.ndarray] = None, 0, np.empty((0, 3))

    @property
    def waypoint(self) -> Point:
        """The waypoint it is heading for."""
        return self.waypoints[self._next]

    def act(self, pose: Pose) -> Action:
        """What to do at ``pose``: a step, a turn of the shorter way round, or STOP at the goal."""
        action = self._choose(pose)
        self._walking = action is Action.MOVE_FORWARD
        return action

    def plan(self, pose: Pose) -> list[float]:
        """Where the way leads from ``pose``: metres to the right and ahead of the points that are ``PLAN`` metres on
        (or of the leg's end), and the metres that remain to the goal; 7 numbers."""
        path = self._path(pose.position)
        points = [point_along(path, metres) - pose.position for metres in PLAN]
        legs = range(self._next + 1, len(self.waypoints))
        further = sum(self._field(leg).distance(self.waypoints[leg - 1]) for leg in legs)
        return [
            *(float(v) for offset in points for v in (offset @ pose.right, offset @ pose.forward)),
            float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum() + further),
        ]

    def _choose(self, pose: Pose) -> Action:
        self._pass_waypoints(pose.position)
        at_last = self._next == len(self.waypoints) - 1
        if at_last and self._distance(pose.position) <= self.protocol.expert_radius:
            return Action.STOP
        if self._blocked is None or np.linalg.norm(pose.position - self._blocked) > DETOUR:
            self._blocked = None
            turns = self._pursue(pose)
            if turns or np.linalg.norm(self._ahead(pose) - pose.position) > 0.25 * self.protocol.forward:
                return _action(turns)
            self._blocked = pose.position
        turns = self._best_turns(pose)
        if turns is None:
            turns = self._way_out(pose)
        if turns is None:  # nothing leads nearer
            if at_last:
                return Action.STOP
            self._next += 1
            return self._choose(pose)
        return _action(turns)

    def _pursue(self, pose: Pose) -> int:
        """The turns towards the point ahead on the path, 0 to walk on."""
        path, ahead = self._path(pose.position), LOOKAHEAD
        offset = point_along(path, ahead) - pose.position
        while ahead > self.protocol.forward and not self._is_free(pose.position, pose.position + offset):
            ahead /= 2
            offset = point_along(path, ahead) - pose.position
        left = math.atan2(-(offset @ pose.right), offset @ pose.forward) / self.protocol.turn_radians
        if abs(left) <= (OFF_COURSE if self._walking else ON_COURSE):
            return 0
        return 1 if left > 0 else -1

    def _is_free(self, here: Point, there: Point) -> bool:
        """Can one walk straight from here to there?"""
        reached = np.asarray(self.ground.try_step(here, there, False), float)
        return bool(np.hypot(*(reached - there)[[0, 2]]) < 0.01)

    def _path(self, place: Point) -> np.ndarray:
        """The way from ``place`` to the next waypoint (K, 3), over roomy ground where that is near and leads there."""
        known, leg, path = self._way
        if known is not place or leg != self._next:  # asked twice at each pose, and while it turns
            path = self._find_path(place)
            self._way = place, self._next, path
        return path

    def _find_path(self, place: Point) -> np.ndarray:
        field = self._roomy_field(self._next)
        if self.roomy is not None and field is not None:
            try:
                near = self.roomy.snap(place, OFF_ROOMY)
                if field.distance(near) <= self._distance(place) + DETOUR:
                    return np.vstack([place, field.path(near), self.waypoint])
            except ValueError:  # off it, or on an island of it
                pass
        return self._field(self._next).path(place)

    def _roomy_field(self, index: int) -> DistanceField | None:
        if self.roomy is None:
            return None
        if index not in self._roomy_fields:
            try:
                goal = self.roomy.snap(self.waypoints[index], OFF_ROOMY)
                self._roomy_fields[index] = self.roomy.distance_field(goal)
            except ValueError:
                self._roomy_fields[index] = None
        return self._roomy_fields[index]

    def _field(self, index: int) -> DistanceField:
        field = self._fields[index]
        if field is None:
            field = self._fields[index] = self.ground.distance_field(self.waypoints[index])
        return field

    def _distance(self, place: Point) -> float:
        return self._field(self._next).distance(place)

    def _pass_waypoints(self, place: Point) -> None:
        """Tick off the waypoints that are reached, and those it would be a detour to go back to: the one after is
        nearer than they are, or no farther from here than from them."""
        while self._next < len(self.waypoints) - 1:
            left = self._distance(place)
            after = self._field(self._next + 1)
            detour = after.distance(place) <= max(left, after.distance(self.waypoint))
            if left > WAYPOINT_RADIUS and not detour:
                return
            self._next += 1

    def _ahead(self, pose: Pose) -> Point:
        """Where a step forward leads."""
        target = pose.position + self.protocol.forward * pose.forward
        return np.asarray(self.ground.try_step(pose.position, target, self.protocol.slide), float)

    def _headings(self) -> list[int]:
        """Every heading that turning can reach, in turns to the left (negative: right); the nearest first."""
        half = round(math.pi / self.protocol.turn_radians)
        return sorted(range(-half + 1, half + 1), key=abs)

    def _best_turns(self, pose: Pose) -> int | None:
        """The turns before the step that brings it nearest; None if none does.

        Without sliding, a step that a wall would cut short is the last choice: at the wall one is easily stuck.
        """
        here = self._distance(pose.position)
        best, turns = (False, 0.0), None
        for n in self._headings():
            there = self._ahead(pose.turned(n * self.protocol.turn_radians))
            gain = here - self._distance(there)
            rank = (self.protocol.slide or self._is_whole(pose.position, there), gain - TURN_COST * abs(n))
            if gain > LEAST_GAIN and (turns is None or rank > best):
                best, turns = rank, n
        return turns

    def _way_out(self, pose: Pose) -> int | None:
        """The turns before the first of the two whole steps that bring it nearest; None if no two steps do.

        For an agent that does not slide and stands at a wall beside a corner: every step that leads nearer ends where
        it begins, so it has to step back first.
        """
        best, turns = self._distance(pose.position) - LEAST_GAIN, None
        for n in self._headings():
            there = self._ahead(pose.turned(n * self.protocol.turn_radians))
            if not self._is_whole(pose.position, there):
                continue
            for m in self._headings():
                after = self._ahead(Pose(there, pose.heading).turned(m * self.protocol.turn_radians))
                left = self._distance(after)
                if left < best and self._is_whole(there, after):
                    best, turns = left, n
        return turns

    def _is_whole(self, here: Point, there: Point) -> bool:
        """Was the step from here to there not cut short?"""
        return bool(np.linalg.norm(there - here) > 0.95 * self.protocol.forward)


def _action(turns: int) -> Action:
    """The first action of so many turns to the left (negative: right) and then a step."""
    if turns == 0:
        return Action.MOVE_FORWARD
    return Action.TURN_LEFT if turns > 0 else Action.TURN_RIGHT


def point_along(path: np.ndarray, metres: float) -> Point:
    """The point that is ``metres`` along ``path`` (K, 3), its end if it is shorter."""
    for start, end in pairwise(path):
        length = float(np.linalg.norm(end - start))
        if metres < length:
            return start + (end - start) * (metres / length)
        metres -= length
    return path[-1]
