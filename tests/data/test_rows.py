"""Rows: every shape becomes what types.py draws, and every mistake is said."""

import copy
from pathlib import Path

import pytest
from chat_files import CHAT, DRAWING, LLAVA, TEXT
from hypothesis import given, settings
from hypothesis import strategies as st

from dualsight.data.rows import Conversation, Drawing, example_of, kind_of
from dualsight.types import Turn


def read(row):
    return example_of(row, Path)


def test_the_four_shapes():
    turns = (Turn("user", "<image> What is this?"), Turn("assistant", "A cup. ☕"))
    assert read(CHAT) == Conversation(turns, (Path("a.png"),), "Be brief.")
    assert read(LLAVA).turns == (Turn("user", "<image>\nWhat?"), Turn("assistant", 'A [cup] {"x"}, so.'))
    assert read({"question": "What?", "answer": "A cup.", "image": "a.png"}).turns[0].text == "<image>\nWhat?"
    assert read({"question": "Is <image> a cup?", "answer": "Yes.", "image": "a.png"}).turns[0].text[0] == "I"
    assert read(DRAWING) == Drawing("ein roter Würfel", Path("b.png"))
    assert [kind_of(read(row)) for row in (CHAT, TEXT, DRAWING)] == ["understanding", "text", "generation"]


def test_null_is_absent_and_one_image_may_stand_in_a_list():
    absent = dict.fromkeys(["prompt", "conversations", "image", "images"])
    assert read(TEXT | absent) == read(TEXT)
    assert read({"prompt": "x", "images": ["b.png"]}) == read({"prompt": "x", "image": "b.png"})


def test_a_system_message_and_contents_of_parts():
    parts = [{"type": "image", "text": None}, {"type": "text", "text": " What?"}]
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": parts}, CHAT["messages"][1]]
    with pytest.raises(ValueError, match="message 2 has the part"):
        read({"messages": [messages[0], {"role": "user", "content": [{"type": "video"}]}]})
    example = read({"messages": messages, "image": "a.png"})
    assert example.system == "S" and example.turns[0].text == "<image> What?"
    with pytest.raises(ValueError, match="system prompt twice"):
        read({"messages": messages, "image": "a.png", "system": "T"})


@pytest.mark.parametrize(
    "change, message",
    [
        ({"images": []}, "has 1 <image> in its turns and 0 image"),
        ({"images": ["a.png", "b.png"]}, "has 1 <image> in its turns and 2 image"),
        ({"image": "a.png"}, "has image and images"),
        ({"imgaes": ["a.png"]}, "unknown key imgaes; a row with messages has id, image, images, messages, system"),
        ({"prompt": "x"}, "has messages and prompt"),
        ({"messages": None}, "has none of messages, conversations, question, prompt"),
        ({"messages": "hello"}, "messages is 'hello'; a list is expected"),
        ({"messages": []}, "ends without an answer after 0 turn"),
        ({"messages": CHAT["messages"][:1]}, "ends without an answer after 1 turn"),
        ({"messages": CHAT["messages"][::-1]}, "turn 1 is the assistant's, expected the user's"),
        ({"messages": CHAT["messages"] + CHAT["messages"][1:]}, "turn 3 is the assistant's, expected the user's"),
        ({"messages": ["hello"]}, "message 1 is 'hello'; an object with role and content"),
        ({"messages": [{"role": "user"}]}, "message 1 has the keys role; expected role and content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "message 1 is said by 'tool'"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "message 1 is said by"),
        ({"messages": [CHAT["messages"][0], {"role": "assistant", "content": " \n"}]}, "message 2 is empty"),
        ({"messages": [CHAT["messages"][0], {"role": "assistant", "content": 7}]}, "message 2 is 7; a text"),
        ({"messages": [CHAT["messages"][0], {"role": "assistant", "content": "\ud800"}]}, "half a character"),
        ({"system": 7}, "system is 7"),
    ],
)
def test_what_is_wrong_with_a_chat(change, message):
    with pytest.raises(ValueError, match=message):
        read(copy.deepcopy(CHAT) | change)


@pytest.mark.parametrize(
    "row, message",
    [
        ({"prompt": "x"}, "a prompt and 0 images; exactly one"),
        ({"prompt": "x", "images": ["a", "b"]}, "a prompt and 2 images"),
        ({"prompt": " ", "image": "a"}, "prompt is empty"),
        ({"prompt": "x", "image": "a", "system": "S"}, "unknown key system"),
        ({"question": "x", "image": "a"}, "answer is None"),
        ({}, "has none of messages"),
    ],
)
def test_what_is_wrong_with_a_drawing_or_a_question(row, message):
    with pytest.raises(ValueError, match=message):
        read(row)


values = st.recursive(
    st.none() | st.integers() | st.sampled_from(["", "user", "assistant", "image", "text", "<image>", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["role", "content", "type"]), inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["messages", "images", "image", "prompt", "system", "question", "x"]), values))
def test_any_row_is_an_example_or_a_value_error(row):
    try:
        assert isinstance(example_of(row, str), Conversation | Drawing)
    except ValueError as error:
        assert str(error)
