"""Prompts for GRPO: from files of questions, and from talks about grids."""

import json

import numpy as np
import pytest
from PIL import Image

from dualsight.checkpoints.vismem import load_memory
from dualsight.checkpoints.weights import CheckpointError
from dualsight.cli import main
from dualsight.data.json_chats import JsonLines
from dualsight.data.rows import BadData
from dualsight.data.talks import MARK
from dualsight.inference.talk_vlm import MEMORY, SMALL, load_policy
from dualsight.train.prompts import ChatPrompts, TalkPrompts, begins_with_answer, task_of
from dualsight.train.talk_memory import warm_start
from dualsight.train.talk_policy import pretrain_policy
from dualsight.train.trainer import Run


class Template:
    """Keeps the messages that it is given."""

    def apply_chat_template(self, messages, **options):
        assert options == {
            "add_generation_prompt": True, "tokenize": True, "return_dict": True, "return_tensors": "pt",
        }  # fmt: skip
        return {"messages": messages}


@pytest.fixture
def lines(tmp_path):
    def write(*rows):
        (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return ChatPrompts(JsonLines(tmp_path / "data.jsonl"), Template())

    Image.fromarray(np.full((4, 6, 3), 9, np.uint8)).save(tmp_path / "a.png")
    return write


def test_a_line_is_a_prompt_with_its_images_and_an_answer(lines):
    rows = lines(
        {"question": "How many?", "answer": " 3 ", "image": "a.png"},
        {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Yes?"},
                {"role": "user", "content": "<image> And here?"},
                {"role": "assistant", "content": "a cup"},
            ],
            "images": ["a.png"],
        },
    )
    assert len(rows) == 2
    (message,) = rows[0]["inputs"]["messages"]
    assert [part["type"] for part in message["content"]] == ["image", "text"]
    assert message["content"][0]["image"].size == (6, 4)
    assert (rows[0]["prompt"], rows[0]["answer"]) == ("How many?", "3")
    assert [m["role"] for m in rows[1]["inputs"]["messages"]] == ["system", "user", "assistant", "user"]
    assert rows[1]["answer"] == "a cup"


def test_what_is_no_question_is_named_with_its_line(lines):
    rows = lines({"question": "Who?", "answer": "I", "image": "a.png"}, {"prompt": "a cup", "image": "a.png"})
    with pytest.raises(BadData, match=r"data\.jsonl, line 2: a question and its answer"):
        rows[1]


def test_a_talk_ends_at_a_delimiter_and_its_answer_follows():
    rows = TalkPrompts(SMALL, 40, 3, 12)
    questions = set()
    for row in (rows[i] for i in range(40)):
        ids = row["inputs"]["input_ids"][0].tolist()
        questions.add(ids.count(MARK[";"]))
        assert ids[-1] == MARK[";"] and row["prompt"] == rows.said(ids)
        assert row["answer"].split()[:2] == [rows.said(ids[-3:-2]), ":"]
        assert begins_with_answer("", row["answer"] + " um ask", row) == 1.0
        assert begins_with_answer("", row["answer"].rsplit(" ", 1)[0], row) == 0.0
    assert min(questions) == 1 and max(questions) == 12
    assert rows[7]["prompt"] == TalkPrompts(SMALL, 9, 3, 12)[7]["prompt"]


def test_both_stages_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setattr("dualsight.train.talk_memory.SEEN", 8)
    pretrain_policy(SMALL, Run(tmp_path / "policy", 1, batch=2))
    warm_start(tmp_path / "policy", MEMORY, Run(tmp_path / "warm", 1, batch=2))
    memory = tmp_path / "warm"
    for stage in ("memory", "invocation"):
        out = tmp_path / stage
        main(
            ["train", "grpo", f"--vlm={tmp_path / 'policy'}", f"--memory={memory}", f"--out={out}", f"--stage={stage}",
             "--steps=1", "--batch=1", "--group=4", "--answer=14"]
        )  # fmt: skip
        memory = out
    assert json.loads((memory / "metrics.jsonl").read_text())["calls_short"] >= 0
    assert load_memory(load_policy(tmp_path / "policy")[0], memory).config == MEMORY


def test_folders_that_hold_no_vlm_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no policy in .*for a VLM of transformers .*--data"):
        task_of(tmp_path, None, "exact", 0)
    (tmp_path / "data.jsonl").write_text('{"question": "a", "answer": "b"}\n')
    with pytest.raises(CheckpointError, match="holds no VLM with its processor"):
        task_of(tmp_path, tmp_path / "data.jsonl", "exact", 0)
