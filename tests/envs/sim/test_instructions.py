"""Instructions say what is true of a route, all that decides, and nothing outside the vocabulary."""

import dataclasses
import re
from functools import cache

import numpy as np
import pytest
from corridor_house import corridor_house, corridor_mesh, corridor_views

from dualsight.envs.sim import furnish, grammar
from dualsight.envs.sim.grammar import expand, words, words_of
from dualsight.envs.sim.instructions import LENGTHS, vocabulary, write_instruction
from dualsight.envs.sim.landmarks import SALIENCE
from dualsight.envs.sim.route import analyse
from dualsight.types import Pose

HOUSE = corridor_house()
PLACES = [  # start (x, z), heading, goal (x, z)
    ((1.3, -3.0), 0.0, (6.7, -3.7)),  # bedroom, left along the hall, second door on the left, bathtub
    ((6.7, -3.0), 3.0, (4.0, -3.7)),  # bathroom, right along the hall, first door on the right, desk
    ((4.0, -3.0), 1.0, (6.0, 2.6)),  # office, across the hall, kitchen, table
    ((2.7, 2.5), -0.5, (1.5, -4.0)),  # living room, hall, bedroom, bed
    ((1.0, 0.0), -1.6, (7.2, 3.9)),  # hall, living room, through the arch, fridge
    ((6.5, -3.0), 0.3, (1.3, 3.5)),  # bathroom, hall, living room, sofa
]


@cache
def route(number):
    start, heading, goal = PLACES[number]
    field = corridor_mesh().distance_field(np.array([goal[0], 0.0, goal[1]]))
    return analyse(HOUSE, field, Pose(np.array([start[0], 0.0, start[1]]), heading), corridor_views())


def texts(number, style="short", count=40):
    return [write_instruction(route(number), HOUSE, np.random.default_rng(seed), style) for seed in range(count)]


def test_left_is_left_and_the_second_door_is_the_second():
    for style in LENGTHS:
        for text in texts(0, style):
            assert "left" in words(text)
            assert "right" not in words(text) or "bench" in text  # which stands on the right
            assert re.search(r"\b(second|last) (door|doorway|opening)\b", text), text
            assert "first" not in words(text)
            assert "around" in words(text)  # the door is behind the start


def test_right_is_right_and_the_first_door_is_the_first():
    for text in texts(1):
        assert "right" in words(text)
        assert re.search(r"\bfirst (door|doorway|opening)\b", text), text


@pytest.mark.parametrize("number", range(len(PLACES)))
@pytest.mark.parametrize("style", LENGTHS)
def test_nothing_is_named_that_was_not_seen(number, style):
    told = route(number)
    marks = [*told.stop.things, told.facing]
    for leg in told.legs:
        marks += [*leg.passed, leg.toward, leg.exit and leg.exit.beside]
    seen = {mark.thing.category: mark.thing.color for mark in marks if mark}
    colors = "|".join({thing.color for thing in HOUSE.things if thing.color})
    nouns = re.compile(rf"the (?:({colors}) )?({'|'.join(SALIENCE)})\b")
    for text in texts(number, style):
        for color, noun in nouns.findall(text):
            assert noun in seen, text
            assert color in ("", seen[noun]), text


def test_the_stop_is_always_told():
    for number, thing in enumerate(["bathtub", "desk", "table", "bed", "fridge", "sofa"]):
        assert [mark.thing.category for mark in route(number).stop.things] == [thing]
        for text in texts(number):
            last = re.split(r"(?<=\.) ", text)[-1]
            assert thing in last
            assert {"stop", "wait", "stand", "halt"} & set(words(last))


def test_a_hall_behind_a_hall_is_the_next_hall():
    first, hall, last = route(0).legs
    onward = dataclasses.replace(hall.exit, into=dataclasses.replace(last.room, type="hall"))
    told = dataclasses.replace(route(0), legs=(first, dataclasses.replace(hall, exit=onward), last))
    drafts = [write_instruction(told, HOUSE, np.random.default_rng(seed)) for seed in range(40)]
    assert any("into the next hall" in text for text in drafts)
    assert not any(re.search(r"(leave|exit) the hall .* into the hall", text) for text in drafts)


def test_lengths_and_sentences_of_the_styles():
    for style, (least, most) in LENGTHS.items():
        counts = [len(text.split()) for number in range(len(PLACES)) for text in texts(number, style)]
        fitting = np.mean([least <= count <= most for count in counts])
        assert fitting >= 0.95, (style, sorted(counts))
    for text in texts(0):
        assert 1 <= text.count(".") <= 3
        assert text[0].isupper() and text.endswith(".")


def test_vocabulary_is_small_plain_and_closed():
    known = vocabulary()
    assert known == sorted(set(known))
    assert len(known) <= 900
    assert all(re.fullmatch(r"[a-z]+|[.,]", word) for word in known)
    used = set()
    for number in range(len(PLACES)):
        for style in LENGTHS:
            for text in texts(number, style, 85):  # 1,020 in all
                assert text.isascii()
                assert "  " not in text and " ," not in text and " ." not in text
                used |= set(words(text))
    assert used <= set(known)


def test_the_same_seed_writes_the_same_text_and_others_write_others():
    assert texts(0) == texts(0)
    assert len(set(texts(0))) > 30


def test_unknown_style():
    with pytest.raises(ValueError, match="unknown style 'medium': choose one of"):
        write_instruction(route(0), HOUSE, np.random.default_rng(0), "medium")


def test_expand_draws_every_alternative_and_fills_slots():
    rng = np.random.default_rng(0)
    drawn = {expand(rng, "(go|walk (fast|slow)) (now |)to {place}", place="x") for _ in range(200)}
    assert drawn == {f"{verb} {now}to x" for verb in ("go", "walk fast", "walk slow") for now in ("now ", "")}
    assert words_of(["(go|walk (fast|slow)) to {place}"]) == {"go", "walk", "fast", "slow", "to"}


def test_every_room_has_a_word():
    assert {room.type for room in HOUSE.rooms} | set(furnish.RECIPES) <= set(grammar.ROOMS)
