"""Talks about surroundings: what is asked is beyond doubt, and no question gives another's answer away."""

from dataclasses import replace

import numpy as np
import pytest

from dualsight.data.housetalk import (
    COLORS,
    KIND_OF,
    KINDS,
    TYPES,
    VOCABULARY,
    Around,
    HouseTalk,
    Seen,
    faced,
    is_views,
    questions,
    read_views,
    write_views,
)
from dualsight.data.shards import write_shard
from dualsight.data.talks import ANSWER, ASKED, SENTENCE, SPECIAL, Talk, repeat
from dualsight.envs.sim.landmarks import SALIENCE

IMAGE = np.zeros((128, 128, 3), np.uint8)
AROUND = Around(
    IMAGE,
    (
        Seen("bed", "red", "behind", 0.3, 0.5),
        Seen("table lamp", "white", "behind", 0.05, 0.1),
        Seen("chair", "blue", "left", 0.05, 0.2),
        Seen("chair", "green", "ahead", 0.04, 0.7),
        Seen("desk", "brown", "left", 0.03, 0.6),
        Seen("vase", "pink", "ahead", 0.001, 0.5),
    ),
)


def asked(around):
    return {" ".join(one.words[1:3]): one.words[ANSWER] for one in questions(around)}


def test_answers_are_true_and_beyond_doubt():
    assert asked(AROUND) == {
        "bed color": "red", "lamp color": "white",  # the table is too small to tell its colour
        "bed many": "one", "lamp many": "one", "table many": "one", "chair many": "two",
        "bed where": "behind", "lamp where": "behind", "table where": "left",  # one chair here, one there
        "bed lamp": "right",
        "behind most": "bed", "left most": "chair", "ahead most": "chair",
    }  # fmt: skip


def test_what_is_only_just_there_is_not_asked_about():
    assert not any("plant" in words for words in asked(AROUND))
    rng = np.random.default_rng(0)
    absent = {one.words[1] for _ in range(200) for one in questions(AROUND, rng) if one.words[ANSWER] == "nowhere"}
    assert len(absent) == len(KINDS) - 5 and not absent & {"plant", "bed", "lamp", "chair", "table"}


def test_what_is_not_spoken_of_is_not_asked_about():
    """Nor what fills most of a view, where that is it."""
    things = (
        Seen("treadmill", "red", "left", 0.5, 0.5),
        Seen("desk", "red", "left", 0.1, 0.1),
        Seen("sofa", "red", "ahead", 0.2, 0.5),
    )
    around = Around(IMAGE, things, (0, 1, *(-1,) * 62))
    assert set(asked(around)) == {
        f"{kind} {what}" for kind in ("table", "sofa") for what in ("color", "many", "where")
    } | {"ahead most"}
    shown = HouseTalk().shown_in(Talk(IMAGE, around, ()))
    assert shown[:2, :2].tolist() == [[0, 0], [1 + [*KINDS].index("table"), 1 + COLORS.index("red")]]


def test_the_vocabulary_has_every_word_once():
    assert len(set(VOCABULARY)) == len(VOCABULARY) and VOCABULARY[: len(SPECIAL)] == SPECIAL
    unspoken = {
        "aquarium", "coat rack", "fan", "fire extinguisher", "guitar", "ironing board", "rocking horse", "speaker",
        "teddy bear", "towel rack", "treadmill",
    }  # fmt: skip
    assert set(KIND_OF) | unspoken == set(SALIENCE), "what the houses may hold"
    assert sum(map(len, KINDS.values())) == len(KIND_OF), "each once"
    assert all(word in VOCABULARY for one in questions(AROUND) for word in one.words)
    assert all(len(one.words) == SENTENCE for one in questions(AROUND))


@pytest.fixture
def task(tmp_path):
    other = Around(IMAGE + 9, (Seen("bed", "blue", "left", 0.5, 0.5), Seen("sofa", "red", "ahead", 0.2, 0.5)))
    write_views(tmp_path / "views-000001.safetensors", [AROUND, other])
    return replace(HouseTalk(), views=str(tmp_path))


def test_pictures_come_back_from_disk(task, tmp_path):
    first, second = read_views(task.views)
    assert first.things == AROUND.things and np.array_equal(second.image, IMAGE + 9)
    assert first.parts == AROUND.parts
    assert is_views(tmp_path) and not is_views(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="dualsight data views"):
        read_views(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="no pictures"):
        write_views(tmp_path / "views-2.safetensors", [])


def test_pictures_without_their_parts_are_refused(tmp_path):
    write_shard(tmp_path / "views-000001.safetensors", [IMAGE], [[["bed", "red", "behind", 0.3, 0.5]]])
    with pytest.raises(ValueError, match="older release, without their parts: take them again"):
        read_views(str(tmp_path))


def test_one_who_turns_sees_the_same_views_elsewhere():
    """A quarter to the right: what was at the right is ahead, and what was ahead is at the left."""
    image = np.zeros((128, 128, 3), np.uint8)
    for number, (y, x) in enumerate(((0, 0), (0, 64), (64, 0), (64, 64))):  # ahead, right, left, behind
        image[y : y + 64, x : x + 64] = number
    parts = tuple(range(-1, 63))
    around = Around(image, AROUND.things, parts)
    turned = faced(around, 1)
    assert [int(turned.image[y, x, 0]) for y, x in ((0, 0), (0, 64), (64, 0), (64, 64))] == [1, 3, 0, 2]
    assert asked(turned)["bed where"] == "right" and asked(turned)["table where"] == "behind"
    assert asked(turned)["right most"] == "bed" and asked(turned)["bed lamp"] == "right"
    assert turned.parts[:4] == parts[4:8] and turned.parts[32:36] == parts[:4], "with what fills them"
    back = around
    for _ in range(4):
        back = faced(back, 1)
    assert np.array_equal(back.image, image) and back[1:] == around[1:]
    assert np.array_equal(faced(around, 3).image, faced(faced(turned, 1), 1).image)


def test_what_fills_the_parts_of_a_picture():
    parts = (0, 5, *(-1,) * 62)
    shown = HouseTalk().shown_in(Talk(IMAGE, Around(IMAGE, AROUND.things, parts), ()))
    assert shown.shape == (64, 4) and (shown < HouseTalk.shown).all() and shown[:, 3].tolist() == list(range(64))
    assert shown[:3, :2].tolist() == [
        [1 + [*KINDS].index("bed"), 1 + COLORS.index("red")],
        [1 + [*KINDS].index("plant"), 1 + COLORS.index("pink")],
        [0, 0],
    ]


def test_where_answers_are():
    parts = np.full((8, 8), -1)
    parts[5, 6], parts[5, 7], parts[6, 1], parts[0, 3] = 0, 1, 3, 2  # bed and lamp behind, a chair and a chair
    talk = Talk(IMAGE, Around(IMAGE, AROUND.things, tuple(parts.ravel().tolist())), ())
    ask = {" ".join(one.words[1:3]): one for one in questions(AROUND)}
    look = {asked: HouseTalk().looked_at(talk, one) for asked, one in ask.items()}
    assert look["bed color"] == look["bed where"] == [46] and look["bed lamp"] == [46, 47]
    assert look["chair many"] == [3, 49]
    behind = [8 * row + column for row in range(4, 8) for column in range(4, 8)]
    assert look["behind most"] == behind and look["left most"] == [place - 4 for place in behind]
    assert HouseTalk().looked_at(talk, repeat(("bed", "sofa"), np.random.default_rng(0))) == []


def test_nothing_is_asked_twice_or_told_by_another_question(task):
    rng = np.random.default_rng(0)
    for _ in range(60):
        talk = task.sample(12, rng)
        image = [one for one in talk.sentences if one.type != "text"]
        assert len(talk.sentences) == 12 and len({one.words[:ASKED] for one in image}) == len(image)
        where = {(one.words[1]) for one in image if one.type == "where"}
        assert not where & {one.words[ANSWER] for one in image if one.type == "largest"}
    assert {one.type for _ in range(30) for one in task.sample(12, rng).sentences} == set(TYPES)


def test_one_comes_back_to_the_picture_in_the_end(task):
    """Where a picture gives few questions, what fills up stands in the middle: what is late would be words alone."""
    rng = np.random.default_rng(0)
    of_image = np.mean([[one.type != "text" for one in task.sample(36, rng).sentences] for _ in range(60)], 0)
    assert of_image[:4].mean() > 0.4 < of_image[-4:].mean() and of_image[14:22].mean() < 0.1


def test_wanted_types_come_first(task):
    talk = replace(task, types=("color", "where")).sample(2, np.random.default_rng(2), ("color",) * 2)
    assert "color" in {one.type for one in talk.sentences} and all(one.type != "text" for one in talk.sentences)


def test_the_answer_about_another_picture(task):
    rng = np.random.default_rng(0)
    talks = [task.sample(3, rng) for _ in range(20)]
    mine, other = (next(t for t in talks if (t.image[0, 0, 0] == 0) == here) for here in (True, False))
    ask = {" ".join(one.words[1:3]): one for one in questions(AROUND)}
    assert task.answer_about(other, ask["bed color"]) == "blue"
    bed = next(thing for thing in other.content.things if thing.category == "bed")
    assert task.answer_about(other, ask["bed where"]) == bed.direction
    assert task.answer_about(other, ask["table where"]) == "nowhere"
    assert task.answer_about(other, ask["chair many"]) == ""
    assert task.answer_about(mine, ask["chair many"]) == "two"


def test_what_a_task_cannot_be():
    with pytest.raises(ValueError, match="no questions of type"):
        HouseTalk(types=("color", "smell"))
    with pytest.raises(ValueError, match="need pictures"):
        HouseTalk().sample(3, np.random.default_rng(0))


def test_pictures_of_another_size_are_refused(task):
    with pytest.raises(ValueError, match=r"128 pixels .* expected 64"):
        replace(task, view=32).sample(3, np.random.default_rng(0))


def test_colours_are_words():
    assert set(COLORS) <= set(VOCABULARY)
