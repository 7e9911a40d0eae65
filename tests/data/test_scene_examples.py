"""Examples to learn from are functions of seed and index."""

import numpy as np
import pytest

from dualsight.data.scene_examples import SceneConversations, SceneDrawings
from dualsight.types import IMAGE_MARK


def test_conversations_alternate_and_show_one_image():
    for said in SceneConversations(40, seed=1, size=32):
        assert [turn.role for turn in said.turns] == ["user", "assistant"] * (len(said.turns) // 2)
        assert [turn.text.count(IMAGE_MARK) for turn in said.turns] == [1] + [0] * (len(said.turns) - 1)
        assert len(said.images) == 1 and np.asarray(said.images[0]).shape == (32, 32, 3)
        assert 1 <= len(said.turns) // 2 <= 7


@pytest.mark.parametrize("examples", [SceneConversations, SceneDrawings])
def test_an_example_is_a_function_of_seed_and_index(examples):
    a, b, other = examples(10, seed=1), examples(20, seed=1), examples(10, seed=2)
    assert str(a[7]) == str(b[7]) != str(other[7])
    assert len(list(a)) == len(a) == 10
    with pytest.raises(IndexError, match="10 examples, not 11"):
        a[10]


def test_drawings_have_a_prompt_and_a_picture():
    drawings = list(SceneDrawings(30))
    assert all(np.asarray(drawing.image).shape == (64, 64, 3) for drawing in drawings)
    assert len({drawing.prompt for drawing in drawings}) > 20


def test_a_conversation_ends_before_it_is_too_long_for_a_row():
    examples = SceneConversations(300, seed=3, turns=40, words=60)
    spoken = [sum(len(turn.text.replace(IMAGE_MARK, "").split()) for turn in chat.turns) for chat in examples]
    assert 50 < max(spoken) <= 60
    assert all(chat.turns for chat in examples)
