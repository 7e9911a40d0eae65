"""The language of instructions: patterns with choices, and the finite list of words they can produce.

A pattern is text with alternatives in parentheses and named slots: ``"(walk|go) (straight|) to {thing}"``.
``expand`` draws one sentence from it; ``words_of`` lists the words of all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

_INNERMOST = re.compile(r"\(([^()]*)\)")
_SLOT = re.compile(r"\{\w+\}")
_WORD = re.compile(r"[a-z]+|[.,]")

TURN = {
    "straight": "(go|walk|head) (straight|straight ahead|forward)",
    "slight left": "(bear left|veer left|turn slightly left|turn slightly to the left)",
    "slight right": "(bear right|veer right|turn slightly right|turn slightly to the right)",
    "left": "(turn left|turn left|turn to your left|make a left|take a left)",
    "right": "(turn right|turn right|turn to your right|make a right|take a right)",
    "around": "(turn around|turn around|turn all the way around|turn around completely)",
}

START = (
    "you are (standing |)in {room}",
    "you (begin|start) in {room}",
    "you will (begin|start) in {room}",
)
FACING = ("(facing|looking at|in front of) {thing}", "with {thing} (in front|ahead) of you")
NOW_IN = (
    "you are now in {room}",
    "you will (now |)be in {room}",
    "you should (now |)be in {room}",
    "this is {room}",
    "you will find yourself in {room}",
)
FLOOR = "with {floor}"

PASS = (
    "(walk|go|move|continue) past {thing} on (your|the) {side}",
    "pass {thing} on (your|the) {side}",
    "(walk|go) by {thing} on (your|the) {side}",
    "keep {thing} (on|to) your {side}",
)
PASS_TWO = (
    "(walk|go) past {thing} and then {other}",
    "pass {thing} and {other}",
    "(walk|go) past {thing} on (your|the) {side} and {other} on (your|the) {otherside}",
)
SEE = ("you will see {thing}", "you should see {thing}", "look for {thing}")
NEXT = "the next {room}"
METRES = "{number} meters"
TOWARD = ("(walk|go|head) (towards|toward|up to) {thing}", "(walk|go|head) straight to {thing}")
FORWARD = (
    "(walk|go|move|head) (forward|straight) (for|) about {metres}",
    "(walk|go|keep going|continue) (straight |straight ahead |)for about {metres}",
)

THROUGH = (
    "(go|walk|head|pass) through {exit}",
    "(go|walk|head|step) through {exit} into {into}",
    "(take|use) {exit} (into|to) {into}",
    "enter {into} (through|by) {exit}",
    "(leave|exit) {room} (through|by) {exit} (into {into}|)",
    "take {exit} (into {into}|)",
)
"""Ways through a door that need its place told: ``{exit}`` is "the second door on the left"."""

OUT = (
    "(leave|exit) {room}",
    "(leave|exit) {room} and (enter|go into|walk into) {into}",
    "(walk|go|head) out of {room} (into|to) {into}",
    "(go|walk|head) through {exit} (into|to) {into}",
    "(leave|exit) {room} (through|by) {exit}",
)
"""Ways out of the first room, once one faces its door."""

ONWARD = (
    "(go|walk|head|continue) straight (through|across) {room} (into|to) {into}",
    "(go|walk|head|continue) straight (into|to) {into}",
    "(cross|walk through|go through) {room} (into|to) {into}",
    "(walk|go|head) straight ahead through {exit} (into|to) {into}",
)
"""Ways straight on through the only door ahead."""

SIDEWAYS = (
    "turn {side} into {into}",
    "turn {side} through {door} (into {into}|)",
    "turn {side} at {door} (and enter|into) {into}",
    "(enter|go into) {into} on (the|your) {side}",
    "take {exit} (into|to) {into}",
)
"""Ways into the room behind a door on the left or right."""

CLIMB = {
    "up": (
        "(go|walk|head) up the (stairs|steps)",
        "climb the (stairs|steps)",
        "(take the stairs|go) up to the upper floor",
    ),
    "down": ("(go|walk|head) down the (stairs|steps)", "(take the stairs|go) down to the lower floor"),
}
CLIMB_TURNED = "turn {side} (and|to) {climb}"

EXIT = {
    "door": "(door|door|doorway)",
    "arch": "(archway|opening|wide opening)",
    "opening": "opening",
}
EXIT_AT = {
    "ahead": ("{door} (ahead|straight ahead|in front of you)", "{door} ahead of you"),
    "aside": ("{door} on (the|your) {side}", "{door} (to|on) your {side}"),
    "rank": ("{rank} {door} ahead", "{rank} {door} in front of you"),
}
RANK = {"left": "(left|leftmost)", "middle": "middle", "right": "(right|rightmost)"}
BESIDE = "(next to|beside|by) {thing}"

STOP = {
    "next to": (
        "(stop|wait|stand|halt) (next to|beside|by|near) {thing}",
        "(stop|wait) (when you (reach|are next to)|once you reach|as soon as you reach) {thing}",
    ),
    "in front of": (
        "(stop|wait|stand|halt) in front of {thing}",
        "(stop|wait) (just |)before {thing}",
        "(walk|go) up to {thing} and (stop|wait) (there|)",
    ),
    "on": ("(stop|wait|stand) on {thing}",),
    "between": ("(stop|wait|stand) between {thing} and {other}",),
    "inside": (
        "(stop|wait|stand) just inside {room}",
        "(stop|wait) (just |)after (you enter|entering) {room}",
    ),
    "middle": ("(stop|wait|stand) in the (middle|center) of {room}",),
}
FINISH = (
    "you (have arrived|are there|are done)",
    "this is (your destination|the goal|where you stop)",
    "that is your (goal|destination)",
)
JOINT = ("{a} and {b}", "{a}, then {b}", "{a} and then {b}", "{a}, and {b}")
OPENER = ("(now|then|next|after that|from there), {a}", "once (inside|there), {a}")

ORDINALS = ("last", "first", "second", "third", "fourth", "fifth", "sixth")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
           "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty")  # fmt: skip
ROOMS = ("bathroom", "bedroom", "dining room", "game room", "hall", "kitchen", "laundry room", "library", "living room",
         "office", "playroom", "storage room")  # fmt: skip
FLOORS = ("wooden floor", "concrete floor", "tiles", "and white tiles", "carpet")


def expand(rng: np.random.Generator, pattern: str, **slots: str) -> str:
    """One text of ``pattern``: a choice made in every pair of parentheses, slots filled, single spaces."""
    while match := _INNERMOST.search(pattern):
        options = match.group(1).split("|")
        pattern = pattern[: match.start()] + options[rng.integers(len(options))] + pattern[match.end() :]
    return " ".join(pattern.format(**slots).split())


def pick(rng: np.random.Generator, patterns: tuple[str, ...], **slots: str) -> str:
    """One text of one of ``patterns``."""
    return expand(rng, patterns[rng.integers(len(patterns))], **slots)


def words(text: str) -> list[str]:
    """The tokens of a text: lower-case words, full stops and commas."""
    return _WORD.findall(text.lower())


def words_of(patterns: Iterable[str]) -> set[str]:
    """Every word that any text of the patterns has, slots aside."""
    return {word for pattern in patterns for word in words(_SLOT.sub(" ", pattern))}
