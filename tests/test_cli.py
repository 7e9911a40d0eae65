"""The command line: what users type, what they get back."""

import json
import re
from dataclasses import replace

import pytest

from dualsight.cli import COMMANDS, main, with_underscores
from dualsight.commands.options import VISMEM
from dualsight.doctor import Finding
from dualsight.extras import install


@pytest.mark.parametrize(
    "typed, read",
    [
        ("--house-seeds", "--house_seeds"),
        ("--house_seeds", "--house_seeds"),
        ("--house-seeds=0:9", "--house_seeds=0:9"),
        ("--out=runs/my-run", "--out=runs/my-run"),
        ("go to the red-brown sofa", "go to the red-brown sofa"),
        ("--", "--"),
    ],
)
def test_options_may_be_written_with_dashes(typed, read):
    assert with_underscores(typed) == read


def test_eval_in_fresh_houses(tmp_path, capsys):
    main(["eval", f"--out={tmp_path}", "--agent=forward", "--house-seeds=900000:900001", "--episodes-per-house", "2"])
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["summary"]["episodes"] == 2 and results["scenes"] == 1
    assert results["config"] == {"agent": "forward", "control": "none"}
    assert {line["scene_id"] for line in map(json.loads, (tmp_path / "episodes.jsonl").open())} == {"house/900000"}
    assert capsys.readouterr().out.splitlines()[-1].startswith("episodes=2 SR=")


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("data", "train")])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert "usage:" in said and not re.search(r"--[a-z]+_", said), "options are shown as they are typed"


def test_parity_takes_a_file_and_fails_on_a_foreign_one(tmp_path, capsys):
    (tmp_path / "no.safetensors").write_bytes(b"no")
    with pytest.raises(SystemExit) as end:
        main(["parity", str(tmp_path / "no.safetensors")])
    assert end.value.code == 2
    assert "not a readable safetensors file" in capsys.readouterr().err


def test_doctor_ends_with_1_where_something_is_broken(monkeypatch):
    monkeypatch.setattr("dualsight.doctor.doctor", lambda: [Finding("torch", "broken", "1.0")])
    with pytest.raises(SystemExit) as end:
        main(["doctor"])
    assert end.value.code == 1
    monkeypatch.setattr("dualsight.doctor.doctor", lambda: [Finding("torch", "ok", "2.13")])
    main(["doctor"])


@pytest.mark.parametrize("option", ["--rows=0", "--houses=-1", "--episodes-per-house=0"])
def test_counts_are_positive(option, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        main(["eval", f"--out={tmp_path}", "--agent=forward", option])
    assert end.value.code == 2
    assert with_underscores(option)[2:].split("=")[0] in capsys.readouterr().err


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch, capsys):
    def without_numba() -> None:
        raise ModuleNotFoundError("No module named 'numba'", name="numba")

    monkeypatch.setitem(COMMANDS, "doctor", without_numba)
    with pytest.raises(SystemExit) as end:
        main(["doctor"])
    assert end.value.code == 2
    assert capsys.readouterr().err == f"dualsight: numba is not installed: {install('sim')}\n"


@pytest.fixture
def janus(tmp_path):
    from dualsight.checkpoints.janus import save_pretrained
    from tests.models.janus_tiny import tiny

    save_pretrained(*tiny(), tmp_path / "janus")
    return tmp_path / "janus"


def test_draw_writes_an_image_for_each_prompt_and_seed(janus, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("a red cat\n\nthe dog\n")
    drawing = ["draw", f"--model={janus}", f"--prompts={tmp_path / 'prompts.txt'}", "--per-prompt=2", "--seed=5"]
    main([*drawing, f"--out={tmp_path / 'o'}"])
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == [
        "000-seed5.png", "000-seed6.png", "001-seed7.png", "001-seed8.png",
    ]  # fmt: skip
    assert [line.split("  ")[1] for line in capsys.readouterr().out.splitlines()] == ["a red cat"] * 2 + ["the dog"] * 2
    main([*drawing, f"--out={tmp_path / 'by-two'}", "--batch=2"])
    assert all(
        path.read_bytes() == (tmp_path / "by-two" / path.name).read_bytes() for path in (tmp_path / "o").iterdir()
    )


def test_draw_wants_a_prompt(janus, capsys):
    with pytest.raises(SystemExit) as end:
        main(["draw", f"--model={janus}"])
    assert end.value.code == 2
    assert "say what to draw" in capsys.readouterr().err


def test_chat_answers_one_question_about_an_image(janus, tmp_path, capsys):
    from PIL import Image

    Image.new("RGB", (9, 7), "red").save(tmp_path / "a.png")
    main(["chat", f"--model={janus}", "--question=what is this", f"--images={tmp_path / 'a.png'}", "--max-tokens=4"])
    assert capsys.readouterr().out.strip()


def test_all_that_makes_a_stage_of_grpo_can_be_said(monkeypatch, tmp_path):
    from dualsight.train.grpo import GRPO

    seen = []
    monkeypatch.setattr("dualsight.train.grpo.train", lambda *given: seen.append(given[4]))
    options = {"share": 0.25, "wide_after": 0.7, "wide_share": 0.2, "latents": "gaussian", "sigma": 0.3,
               "iterations": 2, "temperature": 0.8}  # fmt: skip
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    main(["train", "grpo", "--stage=memory", f"--vlm={VISMEM}/policy", f"--out={tmp_path}", "--group=2", *given])
    assert seen == [GRPO("memory", 2, 2, **options)]


def test_the_papers_former_alone_can_be_asked_for(monkeypatch, tmp_path):
    from dualsight.inference.talk_vlm import MEMORY

    seen = []
    monkeypatch.setattr("dualsight.train.talk_memory.warm_start", lambda *given, **_: seen.append(given[1]))
    for options in ([], ["--relook=false", "--seeded=false"]):
        main(["train", "memory", f"--vlm={VISMEM}/policy", f"--out={tmp_path}", *options])
    assert seen == [MEMORY, replace(MEMORY, relook=False, seeded=False)]


def test_a_memory_goes_on_with_the_sizes_that_it_has(tmp_path, capsys):
    given = [f"--vlm={VISMEM}/policy", f"--init={VISMEM}/memory", f"--out={tmp_path / 'out'}"]
    for wrong, said in (
        ("--short=2", "has its own sizes and formers"),
        ("--lesson=2", "lesson=2.0 and lone=0.5"),
    ):
        with pytest.raises(SystemExit) as end:
            main(["train", "memory", *given, wrong])
        assert end.value.code == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_chat_goes_on_until_an_empty_line(janus, monkeypatch, capsys):
    said = iter(["what is this", "and the dog", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(said))
    main(["chat", f"--model={janus}", "--max-tokens=3"])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_train_janus_on_a_users_own_file(janus, tmp_path, capsys):
    """Chat and text to image in one file; the same command trains on, and what it wrote draws."""
    from PIL import Image

    Image.new("RGB", (9, 9), "red").save(tmp_path / "a.png")
    rows = [
        {"messages": [{"role": "user", "content": "<image> what is this"}, {"role": "assistant", "content": "red"}],
         "images": ["a.png"]},
        {"prompt": "a red cat", "image": "a.png"},
    ]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = [f"--init={janus}", f"--out={tmp_path / 'o'}", "--steps=2", "--batch=2", "--ratio=1:0:1"]
    main(["train", "janus", *options, f"--data={tmp_path / 'rows.jsonl'}"])
    main(["draw", f"--model={tmp_path / 'o'}", "--prompt=a red cat", f"--out={tmp_path / 'drawn'}"])
    assert len(list((tmp_path / "drawn").iterdir())) == 1
    with pytest.raises(SystemExit) as end:
        main(["train", "janus", *options[:-1], f"--data={tmp_path / 'rows.jsonl'}", "--ratio=1:2"])
    assert end.value.code == 2
    assert "expected understanding:text:generation" in capsys.readouterr().err
