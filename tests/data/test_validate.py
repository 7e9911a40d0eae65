"""Validation: every bad row is named once, every good one is counted."""

import io
import json
import re

import pytest
from chat_files import CHAT, DRAWING, LLAVA, TEXT, bomb, encoded, write_images, write_jsonl, write_tar
from rich.console import Console

from dualsight.checkpoints.janus import save_pretrained
from dualsight.cli import main
from dualsight.data.rows import kind_of
from dualsight.data.validate import Spread, validate, validate_data
from tests.models.janus_tiny import tiny

BAD = {
    2: (b"{", "is not JSON"),
    4: (DRAWING | {"image": "none.png"}, "none.png is missing"),
    5: (DRAWING | {"image": "cut.png"}, "cut.png does not decode"),
    7: (CHAT | {"images": []}, "has 1 <image> in its turns and 0 image"),
    8: ({"messages": TEXT["messages"][::-1]}, "turn 1 is the assistant's"),
    9: ({"question": "x", "answer": ""}, "answer is empty"),
    10: (TEXT | {"imgae": "a.png"}, "unknown key imgae"),
    12: (DRAWING | {"image": "bomb.png"}, "bomb.png is too large"),
}
GOOD = {1: CHAT, 3: TEXT, 6: DRAWING, 11: LLAVA}


@pytest.fixture
def mixed(tmp_path):
    """Twelve lines, eight of them bad."""
    write_images(tmp_path)
    (tmp_path / "cut.png").write_bytes(encoded(64, 64)[:-30])
    (tmp_path / "bomb.png").write_bytes(bomb())
    rows = GOOD | {number: row for number, (row, _) in BAD.items()}
    return write_jsonl(tmp_path / "mixed.jsonl", *(rows[number] for number in sorted(rows)))


def test_every_bad_row_is_named_and_every_good_one_counted(mixed):
    report = validate(mixed)
    assert (report.rows, report.bad) == (12, 8)
    for problem, (number, (_, message)) in zip(report.problems, BAD.items(), strict=True):
        assert f"mixed.jsonl, line {number}: " in problem and message in problem
    assert report.kinds == {"understanding": 2, "text": 1, "generation": 1}
    assert (report.width, report.height) == (Spread(3, 20, 6, 8), Spread(3, 16, 4, 8))
    assert report.answers.count == 3 and report.answers.least == 2 and report.prompts.count == 4


def test_the_first_are_shown_and_all_are_counted(mixed, capsys):
    assert validate_data(mixed, limit=3) == 8
    said = capsys.readouterr().out
    assert said.count("mixed.jsonl, line") == 3 and "... and 5 more" in said
    assert "12, 8 bad" in said and "6 to 8, mean 7" in said


def test_a_good_set(tmp_path, capsys):
    write_images(tmp_path)
    assert validate_data(write_jsonl(tmp_path / "a.jsonl", CHAT, TEXT, DRAWING)) == 0
    assert "3, all good" in capsys.readouterr().out


def test_marks_of_rich_in_the_data_are_text(tmp_path, capsys):
    assert validate_data(write_jsonl(tmp_path / "a.jsonl", b"[/red] [bold]")) == 1
    assert "[bold]" in capsys.readouterr().out


def test_a_bad_file_does_not_end_the_search(tmp_path):
    write_tar(tmp_path / "0.tar", [("1.json", TEXT)])
    (tmp_path / "1.tar").write_bytes((tmp_path / "0.tar").read_bytes()[:700])
    write_tar(tmp_path / "2.tar", [("1.json", TEXT), ("2.png", encoded(64, 64)[:-30]), ("2.txt", "x")])
    write_tar(tmp_path / "3.tar", [])
    (tmp_path / "4.tar").touch()
    report = validate(f"{tmp_path}/{{0..4}}.tar", console=Console(file=io.StringIO()))
    assert (report.rows, report.bad) == (3, 4)
    messages = ["1.tar is", "2.tar, 2: image .*2.tar:2.png does not decode", "3.tar holds no rows", "4.tar is empty"]
    assert len(report.problems) == 4
    for problem, message in zip(report.problems, messages, strict=True):
        assert re.search(message, problem)


def test_lists_columns_and_roots(tmp_path):
    write_images(tmp_path / "images")
    rows = [{"text": "x", "file": name} for name in ("a.png", "../images/b.png", "../../c.png")]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows))
    images = tmp_path / "images"
    report = validate(path, columns={"prompt": "text", "image": "file"}, images=images, root=images)
    assert (report.rows, report.bad, report.kinds["generation"]) == (3, 1, 2)
    assert "a.json, entry 2: image '../../c.png' leads out of" in report.problems[0]
    assert validate(path).bad == 3


def test_rows_that_are_too_long_for_training_are_named(tmp_path, capsys):
    write_images(tmp_path)
    path = write_jsonl(tmp_path / "a.jsonl", CHAT, TEXT, DRAWING)
    lengths = {"understanding": 600, "text": 30, "generation": 577}
    report = validate(path, tokens=lambda example: lengths[kind_of(example)], capacity=580)
    assert (report.rows, report.bad) == (3, 1) and report.tokens == Spread(2, 607, 30, 577)
    assert "a.jsonl, line 1: has 600 tokens, a packed row 580" in report.problems[0]
    assert validate(path, tokens=lambda example: 580, capacity=580).bad == 0


def test_the_command_counts_the_tokens_of_a_model(tmp_path, capsys):
    write_images(tmp_path)
    path = write_jsonl(tmp_path / "a.jsonl", CHAT, TEXT, DRAWING)
    model, processor = tiny()
    save_pretrained(model, processor, tmp_path / "janus")
    command = ["data", "validate", str(path), f"--model={tmp_path / 'janus'}"]
    main(command)
    assert "tokens" in capsys.readouterr().out
    longest = len(processor.drawing(DRAWING["prompt"])) + processor.config.drawn_tokens
    with pytest.raises(SystemExit):
        main([*command, f"--capacity={longest - 1}"])
    assert f"a.jsonl, line 3: has {longest} tokens, a packed row {longest - 1}" in capsys.readouterr().out


def test_the_command_reads_foreign_columns_and_places(tmp_path, capsys):
    write_images(tmp_path / "pictures")
    path = write_jsonl(tmp_path / "a.jsonl", {"text": "x", "file": "a.png", "more": 1})
    columns = '--columns={"prompt": "text", "image": "file"}'
    main(["data", "validate", str(path), columns, f"--images={tmp_path / 'pictures'}", f"--root={tmp_path}"])
    assert "1, all good" in capsys.readouterr().out
    (tmp_path / "walks").mkdir()
    (tmp_path / "walks/annotations.json").write_text("[]")
    with pytest.raises(SystemExit):
        main(["data", "validate", str(tmp_path / "walks"), columns])
    assert "are for conversations" in capsys.readouterr().err


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl: no such file"):
        validate(tmp_path / "none.jsonl")


def test_an_empty_spread_has_no_mean():
    assert str(Spread()) == "none"
