"""DPG-Bench's rule of dependencies, and a whole run with a judge that looks at the brightness."""

import numpy as np
import pytest

from dualsight.bench.dpg import Question, evaluate, read_prompts, settle

HEADER = "item_id,text,keywords,proposition_id,dependency,category_broad,question_natural_language"
ROWS = """
p1,a white cat on a mat,,1,0,entity,Is there a cat?
p1,a white cat on a mat,,2,1,attribute,Is the cat white?
p1,a white cat on a mat,,3,0,entity,Is there a mat?
p1,a white cat on a mat,,4,"1,3",relation,Is the cat on the mat?
p2,night,,1,0,global,Is it dark?
"""


def prompts(tmp_path, text=HEADER + ROWS):
    path = tmp_path / "dpg_bench.csv"
    path.write_text(text)
    return read_prompts(path)


def test_the_file_is_read_by_prompts(tmp_path):
    first, second = prompts(tmp_path)
    assert (first.name, second.text) == ("p1", "night")
    assert [question.depends_on for question in first.questions] == [(), (1,), (), (1, 3)]


def test_nothing_is_true_of_what_is_not_there():
    questions = [Question(1, "", "e"), Question(2, "", "a", (1,)), Question(3, "", "e"), Question(4, "", "r", (1, 3))]
    assert settle(questions, [True] * 4) == [True] * 4
    assert settle(questions, [False, True, True, True]) == [False, False, True, False]
    assert settle(questions, [True, False, False, True]) == [True, False, False, False]
    chain = [Question(1, "", "e"), Question(2, "", "a", (1,)), Question(3, "", "r", (2,))]
    assert settle(chain, [False, True, True]) == [False, False, False], "a no passes on to grandchildren"
    assert settle(chain, [True, False, True]) == [True, False, False]
    assert settle(chain[::-1], [True, True, False]) == [True, False, False], "but not back up the file"
    with pytest.raises(ValueError, match="4 questions were asked, 1 answers"):
        settle(questions, [True])


def test_a_run(tmp_path):
    drawn = []

    def draw(texts, seeds):
        drawn.extend(texts)
        return [np.full((8, 8, 3), 10 if "night" in text else 240, np.uint8) for text in texts]

    def judge(frame, questions):
        return [("dark" in question) == (frame.mean() < 128) and "a mat?" not in question for question in questions]

    result = evaluate(draw, judge, prompts(tmp_path), tmp_path / "run", images=2)
    assert drawn == ["a white cat on a mat"] * 2 + ["night"] * 2
    assert result["overall"]["score"] == (50 + 100) / 2, "the mean over pictures; no mat, so no cat on it"
    assert {name: part["score"] for name, part in result["categories"].items()} == {
        "entity": 50, "attribute": 100, "relation": 100, "global": 100}, "as judged"  # fmt: skip
    evaluate(draw, judge, prompts(tmp_path), tmp_path / "run", images=2)
    assert len(drawn) == 4, "the pictures were kept"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER.replace(",dependency", ""), "no column dependency"),
        (HEADER + "\n", "holds no prompts"),
        (HEADER + "\np1,t,,one,0,e,q?\n", "line 2"),
        (HEADER + "\np1,t,,1\n", "line 2"),
        (HEADER + "\np1,t,,1,7,e,q?\n", r"depends on \[7\]"),
    ],
)
def test_bad_files(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        prompts(tmp_path, text)
