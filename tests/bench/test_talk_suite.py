"""Talks about grids, played in every mode."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from dualsight.bench import talks as suite
from dualsight.bench.provenance import weights_sha256
from dualsight.bench.talks import (
    Played,
    evaluate,
    evaluate_folder,
    last_line,
    play,
    play_all,
    seconds_of_an_answer,
    summary,
    take_views,
    visual_attention,
)
from dualsight.checkpoints.vismem import save_memory
from dualsight.cli import main
from dualsight.commands.options import VISMEM
from dualsight.data.gridtalk import COLORS
from dualsight.data.talks import MARK
from dualsight.inference.talk_vlm import SMALL, load_policy, new_policy, save_policy
from dualsight.models.vismem import Mode, VisMem, VisMemConfig


@pytest.fixture(scope="module")
def memory():
    vlm = new_policy(SMALL)
    torch.manual_seed(0)
    memory = VisMem(vlm, [MARK[";"]], VisMemConfig(queries=2, short=2, long=3, width=16, heads=2, rank=4))
    with torch.no_grad():
        for latents in memory.constant.values():
            latents.normal_()
    return memory


def talks(count, sentences=9):
    rng = np.random.default_rng(0)
    return [SMALL.task.sample(sentences, rng) for _ in range(count)]


@pytest.mark.parametrize(
    "mode", ["off", "learned", "always", "random:0.5", "always+short", "always+wrong-image", "always+wrong-question",
             "always+noise", "always+constant", "always+zero", "always+swapped", "always+hidden"],
)  # fmt: skip
def test_every_mode_plays(memory, mode):
    played = play(memory, SMALL, talks(3), Mode.parse(mode), 1)
    assert len(played) == 27
    called = [one.call for one in played]
    if mode == "off":
        assert not any(called)
    if mode.startswith("always"):
        assert all(called)
    if mode == "always+short":
        assert set(called) == {"short"}


def test_looking_again_is_not_memory(memory):
    """The image behind every delimiter changes late answers, and no memory is called."""
    made = talks(3)
    again, off = play(memory, SMALL, made, None, 1), play(memory, SMALL, made, Mode.parse("off"), 1)
    assert not any(one.call for one in again)
    assert [one.said for one in again] != [one.said for one in off]
    assert evaluate(memory, SMALL, "relook", 5, talks=2).memory == "relook"


def test_an_oracle_calls_where_the_image_is_needed(memory):
    task = replace(SMALL.task, types=("color", "text"))
    played = play_all(memory, replace(SMALL, task=task), "oracle+short", 1, 4)
    assert {one.type for one in played} == {"color", "text"}
    assert all((one.call == "short") == (one.type == "color") for one in played)
    assert play_all(memory, SMALL, "oracle+long+lone", 0, 2) == play_all(memory, SMALL, "always+long+lone", 0, 2)


def test_the_best_of_several_tries_is_right_more_often(memory):
    """Each that is right counts; a policy that knows nothing draws from about a hundred words."""
    one, many, again = (play_all(memory, SMALL, f"off+best:{n}", 2, 6) for n in (1, 200, 200))
    assert many == again and sum(o.right for o in many) > sum(o.right for o in one) + 10
    with pytest.raises(ValueError, match=r"best:n draws an answer n times"):
        play_all(memory, SMALL, "off+best:none", 2, 2)


def test_attention_on_the_image_ends_where_it_is_out_of_reach(memory, tmp_path):
    save_policy(memory.vlm, SMALL, tmp_path)
    found = visual_attention(tmp_path, 0, talks=2)
    assert list(found) == [str(index) for index in range(9)]
    assert 0 < found["0"] < 1 and found["8"] == 0 == found["4"], "a layer sees 16 tokens, a sentence has 8"


@pytest.mark.parametrize("mode", ["off", "relook", "oracle+short", "always+short+wrong-image+lone", "lone"])
def test_an_answer_takes_time_in_every_mode(memory, mode):
    assert 0 < seconds_of_an_answer(memory, SMALL, mode, 0, talks=2, rounds=1) < 60


def test_what_the_next_talk_would_answer_and_ask(memory):
    made = talks(3)
    for one in play(memory, SMALL, made, Mode.parse("off"), 1):
        asked, beside = made[one.talk].sentences[one.index], made[(one.talk + 1) % 3]
        assert one.other == list(COLORS)[beside.content.color[asked.subject]]
        assert one.shared == (beside.sentences[one.index].subject == asked.subject)


def test_a_lone_memory_stands_at_the_last_question(memory):
    """Nothing else is asked; where nothing is called, it is the last answer of the whole talk."""
    played = play_all(memory, SMALL, "always+short+lone", 0, 5)
    assert [(one.talk, one.index, one.call, one.late) for one in played] == [(n, 8, "short", True) for n in range(5)]
    whole = [one for one in play_all(memory, SMALL, "off", 0, 5) if one.index == 8]
    assert play_all(memory, SMALL, "off+lone", 0, 5) == whole
    assert play_all(memory, SMALL, "lone", 0, 5) == play_all(memory, SMALL, "learned+lone", 0, 5)


def test_a_talk_is_played_as_it_is_alone(memory):
    """In a batch whose rows call at different questions, each talk gets the answers that it gets by itself."""
    rules, made = Mode.parse("random:0.5"), talks(4)
    together = play(memory, SMALL, made, rules, 3)
    calls = [{one.index: one.call for one in together if one.talk == talk and one.call} for talk in range(4)]
    assert len({tuple(of) for of in calls}) > 1
    for talk, of in enumerate(calls):
        alone = play(memory, SMALL, made[talk : talk + 1], rules, 3, calls=[of])
        in_batch = [one for one in together if one.talk == talk]
        assert [(one.index, one.call, one.said, one.right) for one in alone] == [
            (one.index, one.call, one.said, one.right) for one in in_batch
        ]
    uncalled = play(memory, SMALL, made, rules, 3, calls=[{}] * 4)
    assert [one.said for one in uncalled] != [one.said for one in together], "what is called shows in what is said"


def test_no_talk_is_left_over(memory, monkeypatch):
    """Sixty-five talks, in small: the last one takes memory from a next one, too."""
    monkeypatch.setattr("dualsight.bench.talks.BATCH", 3)
    assert len(play_all(memory, SMALL, "always+wrong-image+lone", 0, 4)) == 4
    sizes = []
    monkeypatch.setattr("dualsight.bench.talks.play", lambda *given, **how: sizes.append(len(given[2])) or [])
    for count in (1, 3, 7):
        play_all(memory, SMALL, "off", 0, count)
    assert sizes == [1, 3, 3, 2, 2]
    with pytest.raises(ValueError, match=r"sometimes.* is none of off, .*; of talks also relook, oracle, lone, best:n"):
        play_all(memory, SMALL, "sometimes", 0, 1)
    with pytest.raises(ValueError, match="at least two rows"):
        monkeypatch.undo()
        play_all(memory, SMALL, "always+wrong-image+lone", 0, 1)


def test_memory_is_called_where_the_model_says_so(memory):
    before = memory.tokens.heads.detach().clone()
    with torch.no_grad():
        memory.tokens.heads.zero_()
        memory.tokens.heads[1] = 50 * memory.vlm.get_output_embeddings().weight.mean(0)
        often = play(memory, SMALL, talks(4), Mode.parse("learned"), 1)
        memory.tokens.heads.copy_(before)
    assert {one.call for one in often} <= {None, "long"}
    assert all(sum(one.call is not None for one in often if one.talk == talk) <= 8 for talk in range(4))


def test_calls_that_are_decided_at_once_are_those_that_are_decided_one_by_one(memory, monkeypatch):
    made, mode, between = talks(16, 9), Mode.parse("learned"), [1] * 9
    before, passes, decide = memory.tokens.heads.detach().clone(), [], suite._decided
    with torch.no_grad():
        memory.tokens.heads.copy_(2 * torch.randn(before.shape, generator=torch.Generator().manual_seed(2)))
    slow: list[dict] = [{} for _ in made]
    for index in range(9):
        found = decide(memory, SMALL, made, between, slow, range(index, index + 1), mode, 3)
        slow = [row | new for row, new in zip(slow, found, strict=True)]
    monkeypatch.setattr(suite, "_decided", lambda *given: passes.append(1) or decide(*given))
    rng = np.random.default_rng(0)
    assert suite._called(memory, SMALL, made, between, range(9), mode, False, 3, rng) == slow
    memory.tokens.heads.data.copy_(before)
    called = [kind for row in slow for kind in row.values()]
    assert {"short", "long"} == set(called) and 20 < len(called) < 130, "some call, of either kind, and some do not"
    assert len(passes) < 9, "fewer passes than questions"


def test_figures():
    played = [
        Played(0, 0, "color", False, True, "red"),
        Played(0, 1, "text", True, True, "fig", "short"),
        Played(0, 2, "color", True, False, "red"),
        Played(1, 0, "color", False, False, "red"),
    ]
    result = summary(played, "learned", 3)
    assert (result.overall, result.early, result.late) == (50.0, 50.0, 50.0)
    assert result.by_index == {0: 50.0, 1: 100.0, 2: 0.0}
    assert result.late_by_type == {"color": 0.0, "text": 100.0}
    assert result.calls == {"color": 0.0, "text": 1.0}
    assert last_line(result) == "overall=50.0 early=50.0 late=50.0"
    assert math.isnan(summary(played[:1], "off", 0).late)


def test_it_is_known_where_each_memory_looked(memory):
    """As many weights as visual tokens, for every question at which a memory was called; of whichever kind."""
    made, looks = talks(3), {}
    played = play(memory, SMALL, made, Mode.parse("random:0.5"), 1, looks=looks)
    assert {(one.talk, one.index) for one in played if one.call} == set(looks)
    assert {one.call for one in played} == {None, "short", "long"}
    assert {len(look) for look in looks.values()} == {SMALL.visual_tokens}
    short = [looks[one.talk, one.index].sum() for one in played if one.call == "short"]
    torch.testing.assert_close(torch.stack(short), torch.ones(len(short)))
    assert played == play(memory, SMALL, made, Mode.parse("random:0.5"), 1)


def test_a_seed_makes_one_test_set(memory, tmp_path):
    one, again = (evaluate(memory, SMALL, "off", 5, talks=4, out=tmp_path / "a") for _ in range(2))
    assert one == again
    assert json.loads((tmp_path / "a/results.json").read_text())["late"] == one.late
    assert evaluate(memory, SMALL, "off", 6, talks=4) != one
    assert evaluate(memory, SMALL, "off+lone", 5, talks=4, out=tmp_path / "b").early != 0
    assert json.loads((tmp_path / "b/results.json").read_text())["early"] is None, "no early question was asked"


def test_a_folder_is_evaluated(memory, tmp_path, capsys):
    save_policy(memory.vlm, SMALL, tmp_path / "policy")
    save_memory(memory, tmp_path / "memory")
    result = evaluate_folder(tmp_path, "always", 5, talks=4, out=tmp_path / "a")
    assert result.calls == {"color": 1.0}
    written = json.loads((tmp_path / "a/results.json").read_text())
    weights = written["config"]["weights_sha256"]
    assert weights == {part: weights_sha256(tmp_path / part) for part in ("policy", "memory")}
    assert weights["policy"] != weights["memory"] and written["versions"]["torch"]
    assert "memory always" in capsys.readouterr().out
    assert (tmp_path / "a/talks.png").exists()
    evaluate_folder(tmp_path, "always+constant", 5, talks=4, out=tmp_path / "b")
    assert not (tmp_path / "b/talks.png").exists(), "constant latents look nowhere"


def test_talks_about_houses_from_pictures_to_figures(tmp_path, monkeypatch, capsys):
    """As a user types it, in miniature; the test set is of other houses than the training."""
    taken = []

    def few(folder, seed, side):
        taken.append(seed)
        take_views(folder, seed, side, houses=1, per_house=3)

    monkeypatch.setattr("dualsight.bench.talks.take_views", few)
    monkeypatch.setattr("dualsight.train.talk_memory.SEEN", 8)
    main(["data", "views", f"--out={tmp_path}/views", "--house-seeds=3:4", "--per-house=4"])
    policy = ["train", "policy", "--size=house", f"--out={tmp_path}/model/policy", "--steps=1", "--batch=2"]
    with pytest.raises(SystemExit):
        main(policy)
    assert "--data FOLDER" in capsys.readouterr().err
    main([*policy, f"--data={tmp_path}/views"])
    assert "views" not in (tmp_path / "model" / "policy" / "config.json").read_text()
    main(
        ["train", "memory", f"--vlm={tmp_path}/model/policy", f"--out={tmp_path}/model/memory",
         f"--data={tmp_path}/views", "--steps=1", "--batch=2"]
    )  # fmt: skip
    main(["eval", "--suite=housetalk", f"--model={tmp_path}/model", "--memory=always+short", "--count=2", "--seed=4"])
    assert capsys.readouterr().out.splitlines()[-1].startswith("overall=") and taken == [4]
    for wrong, expected in (
        (["eval", "--suite=housetalk"], "--model FOLDER"),
        (["eval", "--suite=housetalk", f"--model={VISMEM}"], "is one for --suite gridtalk, not housetalk"),
        (
            ["train", "memory", f"--vlm={VISMEM}/policy", f"--out={tmp_path}/x", f"--data={tmp_path}"],
            "without pictures",
        ),
    ):
        with pytest.raises(SystemExit):
            main(wrong)
        assert expected in capsys.readouterr().err.replace("\n", " ")


def test_pictures_are_not_for_grids(memory, tmp_path):
    save_policy(memory.vlm, SMALL, tmp_path)
    with pytest.raises(ValueError, match="grids are drawn as they are asked for"):
        load_policy(tmp_path, tmp_path)


@pytest.mark.parametrize(("size", "talks", "points"), [("tiny", 128, 30), ("full", 96, 20)])
def test_the_shipped_memories_answer_about_the_right_image_and_the_right_question(size, talks, points):
    folder, late = VISMEM.with_name(f"vismem_{size}"), {}
    for content in ("", "+constant", "+wrong-image", "+wrong-question"):
        late[content] = evaluate_folder(folder, f"always+short+lone{content}", 11, talks=talks).late
    assert late.pop("") > points + max(late.values())


@pytest.mark.parametrize(("size", "talks", "points"), [("tiny", 32, 30), ("full", 8, 20)])
def test_the_shipped_memories_are_called_by_the_model_itself(size, talks, points):
    folder = VISMEM.with_name(f"vismem_{size}")
    learned, off = (evaluate_folder(folder, mode, 11, talks=talks) for mode in ("learned", "off"))
    assert learned.late > points + off.late
    assert learned.calls.get("text", 0.0) < 0.05 < 0.6 < learned.calls["color"]
