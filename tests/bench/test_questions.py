"""Questions with answers, asked in any mode."""

import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image

from dualsight.bench import questions
from dualsight.bench.provenance import weights_sha256
from dualsight.bench.questions import answers, apart, evaluate
from dualsight.checkpoints.vismem import save_memory
from dualsight.cli import main
from dualsight.data.rewards import exact_match
from dualsight.models.vismem import KINDS, VisMem
from dualsight.train.prompts import chat_task
from tests.models.tiny_vlms import janus_folder
from tests.train.test_sft import CONFIG, remember, rows


def decode(ids):
    return " ".join(map(str, ids))


@pytest.fixture(scope="module")
def memory():
    memory = remember("internvl")
    for b in memory.short.adapters.b:
        torch.nn.init.normal_(b, std=0.3)
    return memory


@pytest.fixture(scope="module")
def asked(memory):
    return rows("internvl", memory.vlm)


@pytest.mark.parametrize("mode", ["off", "learned", "always", "always+short+constant"])
def test_each_row_is_answered_as_it_is_alone(memory, asked, mode):
    together = answers(memory, asked, decode, mode, tokens=6)
    if mode != "always":  # which kind is forced depends on the row's place
        assert together == [answers(memory, [row], decode, mode, tokens=6)[0] for row in asked]
    for one in together:
        written = sum(n * len(memory.written(kind)) for n, kind in zip(one.calls, KINDS, strict=True))
        assert len(one.text.split()) <= 6 and one.tokens >= len(one.text.split()) + written
    assert any(sum(one.calls) for one in together) == mode.startswith("always")


def test_without_memory_it_is_the_stock_model(memory, asked):
    for row, one in zip(asked, answers(memory, asked, decode, "off", tokens=6), strict=True):
        stock = memory.vlm.generate(**row["inputs"], max_new_tokens=6, do_sample=False)[0]
        assert one.text == decode(memory.spoken(stock[None, row["inputs"]["input_ids"].shape[1] :])[0])


def test_right_answers_are_counted(memory, asked, tmp_path):
    said = [one.text for one in answers(memory, asked, decode, "off", tokens=4)]
    given = [dict(row, answer=text if n else "something else") for n, (row, text) in enumerate(zip(asked, said))]  # noqa: B905
    result = evaluate(memory, given, exact_match, decode, "off", tokens=4, batch=2, out=tmp_path / "r")
    assert (result["overall"]["right"], result["overall"]["count"]) == (2, 3)
    assert result["calls"] == {"short": 0.0, "long": 0.0} and result["seconds"] > 0
    assert json.loads((tmp_path / "r/results.json").read_text())["overall"] == result["overall"]
    evaluate(memory, given, exact_match, decode, "always+short+wrong-image", tokens=4, batch=2)  # of two rows or three
    with pytest.raises(ValueError, match="nothing to ask"):
        evaluate(memory, [], exact_match, decode)


def test_neighbours_differ_where_they_can():
    """By hand, and for every batch of up to six rows of three kinds: also the last and the first."""
    assert [("aabbc")[place] for place in apart("aabbc")] == list("abacb")
    for size in range(2, 7):
        for keys in itertools.product("abc", repeat=size):
            order = apart(keys)
            assert sorted(order) == list(range(size))
            alike = sum(keys[order[n - 1]] == keys[order[n]] for n in range(size))
            assert (alike == 0) == (max(map(keys.count, keys)) <= size / 2), keys


def test_the_image_of_the_next_row_is_another(memory, asked, monkeypatch):
    """Three questions about each image, one behind the other in the file; what is alike all the same is counted."""
    rows = [dict(asked[n // 3], prompt=str(n % 2), answer="?") for n in range(6)]
    batches = []

    def kept(memory, part, *rest):
        batches.append(part)
        return answers(memory, part, *rest)

    monkeypatch.setattr(questions, "answers", kept)
    for content, batch, shared in (("wrong-image", 2, 0), ("wrong-image", 6, 0), ("wrong-question", 6, 0)):
        batches.clear()
        found = evaluate(memory, rows, exact_match, decode, f"always+short+{content}", tokens=3, batch=batch)
        assert found["shared"] == shared
        for part in batches:
            for one, other in zip(part, [*part[1:], part[0]], strict=True):
                if content == "wrong-image":
                    assert not torch.equal(one["inputs"]["pixel_values"], other["inputs"]["pixel_values"])
                else:
                    assert one["prompt"] != other["prompt"]
        assert sum(map(len, batches)) == 6
    found = evaluate(memory, [rows[0], rows[1], rows[3]], exact_match, decode, "always+short+wrong-image", tokens=3)
    assert found["shared"] == 1
    assert evaluate(memory, rows[:2], exact_match, decode, "always+short", tokens=3)["shared"] == 0
    with pytest.raises(ValueError, match="at least two rows"):
        evaluate(memory, rows[:1], exact_match, decode, "always+short+wrong-image", tokens=3)


def test_from_the_command_line(tmp_path, capsys):
    vlm = janus_folder(tmp_path / "vlm")
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(tmp_path / "a.png")
    lines = [{"question": "w7 w8", "answer": f"w{n}", "image": "a.png"} for n in (10, 11)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    task, _ = chat_task(vlm, tmp_path / "data.jsonl", "exact")
    save_memory(VisMem(task.vlm, task.delimiters, CONFIG), tmp_path / "memory")
    command = ["eval", "--suite=questions", f"--vlm={vlm}", f"--data={tmp_path / 'data.jsonl'}", "--memory=always"]
    main([*command, f"--model={tmp_path / 'memory'}", f"--out={tmp_path / 'r'}"])
    assert capsys.readouterr().out.splitlines()[-1].startswith("overall=")
    judged = json.loads((tmp_path / "r/results.json").read_text())["config"]
    assert judged["weights_sha256"] == {"vlm": weights_sha256(vlm), "model": weights_sha256(tmp_path / "memory")}
    with pytest.raises(SystemExit):
        main(command)
    assert "--vlm FOLDER --model MEMORY --data FILE" in capsys.readouterr().err
