"""Instructions written from a route: short ones in the manner of R2R, long ones in the manner of RxR.

A leg is told by what somebody must know there: the turn on entering, what is passed, the way out. Everything that
decides between two ways (turns, sides, ordinals, stairs, the place to stop) is always told; rooms, landmarks and
distances are told with a probability, the ``detail``, which is moved until the text has the length of its style.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dualsight.envs.sim import grammar
from dualsight.envs.sim.building import House, Room
from dualsight.envs.sim.colors import COLORS, WOODS
from dualsight.envs.sim.grammar import expand, pick
from dualsight.envs.sim.landmarks import SALIENCE, Landmark
from dualsight.envs.sim.route import Exit, Leg, Route, Stop

LENGTHS = {"short": (15, 45), "long": (60, 150)}
"""Words of each style, from and to."""


def write_instruction(route: Route, house: House, rng: np.random.Generator, style: str = "short") -> str:
    """One instruction for ``route``, true in ``house``, in ``style`` "short" or "long".

    Of several drafts, the first whose length suits the style, or else the one that misses it by least.
    Raises ValueError for an unknown style.
    """
    if style not in LENGTHS:
        raise ValueError(f"unknown style {style!r}: choose one of {sorted(LENGTHS)}")
    least, most = LENGTHS[style]
    write = _write_short if style == "short" else _write_long
    best, missed = "", float("inf")
    detail = float(rng.uniform(0.4, 0.8))
    for _ in range(12):
        text = write(_Writer(route, house, rng, detail))
        count = len(text.split())
        excess = max(count - most, least - count, 0)
        if excess < missed:
            best, missed = text, excess
        if not excess:
            break
        detail = float(np.clip(detail + (0.2 if count < least else -0.2), 0.0, 1.0))
    return best


def vocabulary() -> list[str]:
    """Every token that an instruction can have, sorted: lower-case words, "." and ","."""
    tables = [table for name, table in vars(grammar).items() if name.isupper()]
    return sorted(grammar.words_of([*_texts(tables), *SALIENCE, *COLORS, *WOODS]) | {".", ","})


def _texts(table: object) -> Iterator[str]:
    """The strings of nested tables of patterns."""
    if isinstance(table, str):
        yield table
    elif isinstance(table, dict):
        yield from _texts(list(table.values()))
    elif isinstance(table, (list, tuple)):
        for item in table:
            yield from _texts(item)


class _Writer:
    """The phrases of one draft."""

    def __init__(self, route: Route, house: House, rng: np.random.Generator, detail: float):
        self.route, self.house, self.rng, self.detail = route, house, rng, detail

    def chance(self, scale: float = 1.0) -> bool:
        """Shall something that need not be told be told?"""
        return bool(self.rng.random() < self.detail * scale)

    def phrase(self, patterns: tuple[str, ...] | str, **slots: str) -> str:
        """One text of one of the patterns."""
        return expand(self.rng, patterns, **slots) if isinstance(patterns, str) else pick(self.rng, patterns, **slots)

    def room(self, room: Room) -> str:
        """ "the kitchen"."""
        return f"the {room.type}"

    def beyond(self, room: Room, into: Room) -> str:
        """ "the kitchen", "the next hall" from another hall."""
        return self.phrase(grammar.NEXT, room=into.type) if room.type == into.type else self.room(into)

    def thing(self, landmark: Landmark) -> str:
        """ "the red sofa", "the plant next to the desk": what tells it apart, and its colour sometimes besides."""
        category, color = landmark.thing.category, landmark.color
        colored = color and (landmark.color_needed or self.chance())
        name = f"the {color} {category}" if colored else f"the {category}"
        if landmark.beside:
            name += " " + self.phrase(grammar.BESIDE, thing=f"the {landmark.beside}")
        return name

    def door(self, exit: Exit) -> str:
        """ "second door", "opening", "last doorway"."""
        door = self.phrase(grammar.EXIT[exit.kind])
        if exit.ordinal:
            number = 0 if exit.last and self.rng.random() < 0.3 else exit.ordinal
            door = f"{grammar.ORDINALS[number]} {door}"
        return door

    def exit(self, exit: Exit) -> str:
        """ "the second door on the left", "the door ahead next to the fridge"."""
        door = self.door(exit)
        if exit.side != "ahead":
            text = self.phrase(grammar.EXIT_AT["aside"], door=door, side=exit.side)
        elif exit.rank:
            text = self.phrase(grammar.EXIT_AT["rank"], door=door, rank=self.phrase(grammar.RANK[exit.rank]))
        else:
            text = self.phrase(grammar.EXIT_AT["ahead"], door=door)
        return f"the {text}{self.mark(exit)}"

    def mark(self, exit: Exit) -> str:
        """ " next to the fridge", where the exit is next to something: always if there are doors to be counted."""
        if not exit.beside or (exit.ordinal < 2 and not self.chance(0.7)):
            return ""
        return " " + self.phrase(grammar.BESIDE, thing=self.thing(exit.beside))

    def turn(self, leg: Leg) -> list[str]:
        """The turn on entering, if there is one."""
        return [] if leg.turn == "straight" else [self.phrase(grammar.TURN[leg.turn])]

    def way_out(self, leg: Leg, exit: Exit, first: bool) -> str:
        """Leaving the room of ``leg``."""
        aside = exit.side != "ahead"
        if exit.kind in ("up", "down"):
            climb = self.phrase(grammar.CLIMB[exit.kind])
            return self.phrase(grammar.CLIMB_TURNED, side=exit.side, climb=climb) if aside else climb
        if aside and not exit.ordinal:
            patterns = grammar.SIDEWAYS
        elif aside or exit.rank:
            patterns = grammar.THROUGH
        else:
            patterns = grammar.OUT if first else grammar.ONWARD
        return self.phrase(
            patterns,
            exit=self.exit(exit),
            door=f"the {self.door(exit)}{self.mark(exit)}",
            into=self.beyond(leg.room, exit.into),
            room=self.room(leg.room),
            side=exit.side,
        )

    def passing(self, landmarks: tuple[Landmark, ...]) -> list[str]:
        """Walking past one thing, or past two."""
        if len(landmarks) == 1:
            return [self.phrase(grammar.PASS, thing=self.thing(landmarks[0]), side=landmarks[0].side)]
        a, b = landmarks
        return [self.phrase(grammar.PASS_TWO, thing=self.thing(a), other=self.thing(b), side=a.side, otherside=b.side)]

    def stop(self, stop: Stop) -> str:
        """Where to stop."""
        names = [self.thing(landmark) for landmark in stop.things] + ["", ""]
        return self.phrase(grammar.STOP[stop.relation], thing=names[0], other=names[1], room=self.room(stop.room))

    def met(self, leg: Leg, most: int) -> tuple[Landmark, ...]:
        """Up to ``most`` of the things passed, the striking ones rather, in the order in which they come."""
        taken = {landmark.thing.instance for landmark in self.route.stop.things}
        candidates = [landmark for landmark in leg.passed if landmark.thing.instance not in taken]
        weights = np.array([landmark.salience + self.rng.random() for landmark in candidates])
        best = sorted(np.argsort(-weights)[:most])
        return tuple(candidates[i] for i in best)


def _write_short(writer: _Writer) -> str:
    """One to three sentences: the turns and doors that matter, a landmark here and there, the place to stop."""
    clauses = []
    for index, leg in enumerate(writer.route.legs):
        clauses += writer.turn(leg)
        met = writer.met(leg, 1)
        if met and writer.chance(0.6):
            clauses += writer.passing(met)
        if leg.exit:
            clauses.append(writer.way_out(leg, leg.exit, first=index == 0))
    clauses.append(writer.stop(writer.route.stop))
    return _in_sentences(clauses, writer.rng, most=3)


def _write_long(writer: _Writer) -> str:
    """Step by step: where one is, what one sees, every turn, what is passed, how far, and the end."""
    sentences = []
    for index, leg in enumerate(writer.route.legs):
        if index == 0:
            sentences.append(_beginning(writer))
        elif writer.chance():
            sentences.append(_arrival(writer, leg.room))
        clauses = writer.turn(leg)
        met = writer.met(leg, 2)
        if leg.turn == "straight" and not met:
            clauses.append(writer.phrase(grammar.TURN["straight"]))
        if leg.length > 2.5 and writer.chance(0.5):
            metres = writer.phrase(grammar.METRES, number=grammar.NUMBERS[min(round(leg.length), 20)])
            clauses.append(writer.phrase(grammar.FORWARD, metres=metres))
        if met and writer.chance(1.5):
            clauses += writer.passing(met)
        elif leg.toward and leg.exit and writer.chance():
            clauses.append(writer.phrase(grammar.TOWARD, thing=writer.thing(leg.toward)))
        if leg.exit:
            clauses.append(writer.way_out(leg, leg.exit, first=index == 0))
        else:
            stop = writer.route.stop
            if stop.things and writer.chance(0.5):
                clauses.append(writer.phrase(grammar.SEE, thing=writer.thing(stop.things[0])))
            clauses.append(writer.stop(stop))
        sentences += _joined(clauses, writer.rng, openers=index > 0)
    if writer.chance():
        sentences.append(writer.phrase(grammar.FINISH))
    return " ".join(_sentence(text) for text in sentences)


def _beginning(writer: _Writer) -> str:
    """Where one stands and what one looks at."""
    text = writer.phrase(grammar.START, room=writer.room(writer.route.legs[0].room))
    if writer.route.facing and writer.chance(1.2):
        text += " " + writer.phrase(grammar.FACING, thing=writer.thing(writer.route.facing))
    return text


def _arrival(writer: _Writer, room: Room) -> str:
    """Where one is now, and on what floor."""
    text = writer.phrase(grammar.NOW_IN, room=writer.room(room))
    if room.floor and writer.chance(0.4):
        floor = room.floor if room.floor.endswith("s") else f"a {room.floor}"
        text += " " + writer.phrase(grammar.FLOOR, floor=floor)
    return text


def _joined(clauses: list[str], rng: np.random.Generator, openers: bool) -> list[str]:
    """Clauses as sentences of one or two, with an opener now and then."""
    sentences = []
    while clauses:
        taken, clauses = clauses[:2], clauses[2:]
        text = pick(rng, grammar.JOINT, a=taken[0], b=taken[1]) if len(taken) == 2 else taken[0]
        sentences.append(pick(rng, grammar.OPENER, a=text) if openers and rng.random() < 0.15 else text)
    return sentences


def _in_sentences(clauses: list[str], rng: np.random.Generator, most: int) -> str:
    """All clauses in at most ``most`` sentences, joined by commas, "then" and "and"."""
    count = min(most, max(1, round(len(clauses) / rng.uniform(1.5, 3.0))))
    sentences = []
    for part in np.array_split(np.arange(len(clauses)), count):
        *before, last = [clauses[i] for i in part]
        text = pick(rng, grammar.JOINT, a=", ".join(before), b=last) if before else last
        sentences.append(_sentence(text))
    return " ".join(sentences)


def _sentence(text: str) -> str:
    """With a capital and a full stop."""
    return text[0].upper() + text[1:] + "."
