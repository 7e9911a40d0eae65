"""Pictures of rooms: shards, captions, questions."""

from collections import Counter

import numpy as np
import pytest

from dualsight.data.rooms import (
    KINDS,
    RoomConversations,
    RoomDrawings,
    RoomPicture,
    RoomTalk,
    read_rooms,
    room_caption,
    write_rooms,
)

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
KITCHEN = RoomPicture(IMAGE, "kitchen", (("stove", "red", 0.2), ("table", "", 0.05), ("dining table", "blue", 0.04)))
BEDROOM = RoomPicture(IMAGE[::-1], "bedroom", (("bed", "white", 0.3), ("chair", "green", 0.01)))
BATHROOM = RoomPicture(IMAGE[:, ::-1], "bathroom", (("bathtub", "white", 0.3), ("mirror", "", 0.1)))
PICTURES = [KITCHEN, BEDROOM, BATHROOM]


def asked(picture, kind, count=60):
    rng = np.random.default_rng(0)
    talk = RoomTalk(PICTURES)
    return [q for q in (talk.ask(picture, kind, rng) for _ in range(count)) if q is not None]


def test_a_shard_there_and_back(tmp_path):
    write_rooms(tmp_path / "rooms-000001.safetensors", [KITCHEN, BEDROOM])
    write_rooms(tmp_path / "rooms-000002.safetensors", [BATHROOM])
    again = read_rooms(tmp_path)
    assert [(p.room, p.things) for p in again] == [(p.room, p.things) for p in PICTURES]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(again, PICTURES, strict=True))


def test_missing_and_empty_shards_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no shards of rooms"):
        read_rooms(tmp_path / "none")
    with pytest.raises(ValueError, match="no pictures to write"):
        write_rooms(tmp_path / "rooms.safetensors", [])


def test_the_room_is_asked_for_by_its_type():
    assert {q.answer for q in asked(KITCHEN, "room_type")} == {"kitchen"}


def test_colours_are_asked_of_large_things_that_no_other_could_be_taken_for():
    assert {(q.text.split()[-1], q.answer) for q in asked(KITCHEN, "room_color")} <= {
        ("stove?", "red"), ("have?", "red")
    }  # fmt: skip
    assert all("chair" not in q.text for q in asked(BEDROOM, "room_color"))


def test_existence_is_true_and_balanced():
    for picture in PICTURES:
        questions = asked(picture, "room_existence", 150)
        present = {category for category, _, share in picture.things if share >= 0.025}
        for q in questions:
            assert (q.answer == "yes") == any(
                f" {c}" in q.text and q.text.split(f" {c}")[0][-1] in "an" for c in present
            )
        assert 0.2 < Counter(q.answer for q in questions)["yes"] / len(questions) < 0.8


def test_nothing_is_asked_for_that_looks_like_what_is_there():
    other = RoomPicture(IMAGE, "bathroom", (("washbasin", "white", 0.3), ("toilet", "", 0.01)))
    talk = RoomTalk([*PICTURES, other])
    rng = np.random.default_rng(0)
    texts = [q.text for q in (talk.ask(BATHROOM, "room_existence", rng) for _ in range(60)) if q]
    assert not any("washbasin" in text or "toilet" in text for text in texts)


def test_captions_name_what_is_visible():
    captions = {room_caption(KITCHEN, np.random.default_rng(n)) for n in range(40)}
    assert any("a kitchen with a red stove, a table and a dining table" in caption for caption in captions)
    assert len(captions) > 10 and all("kitchen" in caption for caption in captions)


@pytest.mark.parametrize("examples", [RoomConversations, RoomDrawings])
def test_an_example_is_a_function_of_seed_and_index(examples):
    a, b = examples(PICTURES, 10, seed=1), examples(PICTURES, 20, seed=1)
    assert str(a[7]) == str(b[7]) and len(list(a)) == 10
    with pytest.raises(IndexError, match="10 examples, not 11"):
        a[10]


def test_unknown_kinds_are_named():
    with pytest.raises(ValueError, match="no kind of question 'smell'"):
        RoomTalk(PICTURES).ask(KITCHEN, "smell", np.random.default_rng(0))
    assert len(KINDS) == 3
