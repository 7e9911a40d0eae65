from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from dualsight.checkpoints.janus_vln import save_pretrained
from dualsight.inference.navigator import Navigator, NavigatorAgent, NavigatorBatch
from dualsight.mirror import mirrored_action
from dualsight.models.janus_vln import TINY, JanusVLN
from dualsight.models.vln_processor import ROLE, VLNProcessor, word_tokenizer
from dualsight.types import Action, Episode, Observation, Pose

WORDS = ["walk", "past", "the", "red", "sofa", "and", "stop", "next", "to", "a", "plant", "in", "hall"]
STEPS = 8


def make(**changes) -> tuple[JanusVLN, VLNProcessor]:
    torch.manual_seed(0)
    config = replace(TINY, text=replace(TINY.text, num_hidden_layers=2), initial=2, recent=2, **changes)
    model = JanusVLN(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model, VLNProcessor(config, word_tokenizer([*WORDS, *ROLE.split()]))


def only_actions(model: JanusVLN) -> JanusVLN:
    """Let the model say actions only: its other words get rows of zero and a bias-free head cannot prefer them."""
    with torch.no_grad():
        names = slice(7, 11)
        rows = model.lm_head.weight[names].clone()
        model.lm_head.weight.zero_()
        model.lm_head.weight[names] = rows
        model.lm_head.weight[10] = -rows[:3].sum(0)  # one of the four is always above zero
    return model


@pytest.fixture(scope="module")
def parts():
    model, processor = make()
    return only_actions(model), processor


@pytest.fixture(scope="module")
def walk():
    return np.random.default_rng(0).integers(0, 256, (3, STEPS, 112, 112, 3), dtype=np.uint8)


def test_sessions_side_by_side_equal_each_alone(parts, walk):
    """They begin one after the other, and session 1 begins a second episode in the middle."""
    texts = ["walk past the red sofa", "stop in the hall", "walk past a plant"]
    batch = NavigatorBatch(*parts, sessions=3)
    said: list[list[dict]] = [[], [], []]
    for time in range(STEPS + 2):
        for row in range(3):
            if time == row or (row == 1 and time == 5):
                batch.reset(row, texts[row])
                said[row] = []
        rows = [row for row in range(3) if row <= time < row + STEPS]
        batch.act([walk[row, len(said[row])] for row in rows], rows)
        for row in rows:
            said[row].append(batch.action_scores(row))
    assert [len(answers) for answers in said] == [8, 4, 8]
    for row, answers in enumerate(said):
        alone = Navigator(*parts).reset(texts[row])
        for frame, scores in zip(walk[row], answers, strict=False):
            alone.act(frame)
            assert alone.scores == pytest.approx(scores, abs=1e-4)
    assert said[0][0] != pytest.approx(said[2][0], abs=1e-2)
    assert batch.memory_frames(0) == [0, 1, 6, 7]


def test_a_folder_becomes_a_navigator(parts, walk, tmp_path):
    model, processor = parts
    save_pretrained(model, processor, tmp_path)
    navigator = Navigator.from_pretrained(tmp_path, device="cpu").reset("walk past the sofa.")
    other = Navigator(model, processor).reset("walk past the sofa.")
    assert [navigator.act(frame) for frame in walk[0]] == [other.act(Image.fromarray(frame)) for frame in walk[0]]
    longer = Navigator.from_pretrained(tmp_path, device="cpu", memory=(3, 4)).reset("stop")
    for frame in walk[0]:
        longer.act(frame)
    assert longer.memory_frames() == [0, 1, 2, 4, 5, 6, 7]


def test_half_precision_says_nearly_the_same(parts, walk, tmp_path):
    model, processor = parts
    save_pretrained(model, processor, tmp_path)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.1)):
        navigator = Navigator.from_pretrained(tmp_path, device="cpu", dtype=dtype).reset("walk past the sofa")
        other = Navigator(model, processor).reset("walk past the sofa")
        for frame in walk[0]:
            navigator.act(frame), other.act(frame)
        near, exact = (torch.tensor(list(one.scores.values())) for one in (navigator, other))
        assert (near - exact).norm() <= tolerance * exact.norm()


def test_scores_belong_to_the_four_actions(parts, walk):
    navigator = Navigator(*parts).reset("walk")
    assert navigator.scores == {}
    action = navigator.act(walk[0, 0])
    assert max(navigator.scores, key=lambda choice: navigator.scores[choice]) == action


def test_what_was_executed_is_what_is_remembered(parts, walk):
    def scores(executed: Action | None) -> dict[Action, float]:
        batch = NavigatorBatch(*parts)
        batch.reset(0, "walk")
        said = batch.act([walk[0, 0]])[0]
        if executed is not None:
            batch.executed(0, executed)
        batch.act([walk[0, 1]])
        return batch.action_scores() | {Action.STOP: float(said)}

    said = Action(int(scores(None)[Action.STOP]))
    other = next(action for action in Action if action != said)
    assert scores(None) == scores(said) != scores(other)


def test_text_that_is_no_action_is_counted_and_answered_by_the_rule(walk, caplog):
    caplog.set_level("WARNING", "dualsight.inference")  # the command line, where a test calls it, silences this
    navigator = Navigator(*make()).reset("walk past the sofa")  # random weights prefer some other word
    assert navigator.act(walk[0, 0]) == Action.TURN_LEFT
    assert navigator.unparsed == 1
    assert "which is no action: TURN_LEFT instead" in caplog.text
    assert Navigator(*make(), on_unparsed=Action.STOP).reset("walk").act(walk[0, 0]) == Action.STOP
    assert navigator.reset("again").unparsed == 0


def test_blind_agents_see_nothing_and_deaf_ones_hear_nothing(parts, walk):
    def scores(control, text, frame):
        navigator = Navigator(*parts, control=control).reset(text)
        navigator.act(frame)
        return navigator.scores

    one, two = walk[0, 0], walk[1, 1]
    assert scores("none", "walk", one) != scores("none", "walk", two)
    assert scores("blind", "walk", one) == scores("blind", "walk", two)
    assert scores("none", "walk past", one) != scores("none", "stop next to the sofa", one)
    assert scores("deaf", "walk past", one) == scores("deaf", "stop next to the sofa", one)
    with pytest.raises(ValueError, match="'mute'"):
        Navigator(*parts, control="mute")


def test_an_agent_for_rollouts(parts, walk):
    agent = NavigatorAgent(NavigatorBatch(*parts, sessions=2))
    episode = Episode("1", "house", Pose(np.zeros(3), 0.0), np.zeros(3), "walk past the sofa")
    agent.reset(1, episode)
    expected = Navigator(*parts).reset(episode.instruction).act(walk[0, 0])
    assert agent.act([Observation(walk[0, 0])], [1]) == [expected]
    assert agent.report(1) == {"unparsed": 0, "control": "none"}


def test_the_release_reads_its_prompt_and_decodes(walk):
    """640x480 frames in the release's behaviour; random weights say nothing that parses."""
    model, processor = make(
        behaviour="release", fit="width", vision=replace(TINY.vision, spatial_merge_size=2, window_size=56),
        vggt=replace(TINY.vggt, patch_size=14),
    )  # fmt: skip
    batch = NavigatorBatch(model, processor, sessions=2)
    for row in range(2):
        batch.reset(row, "walk past the sofa")
    wide = np.repeat(np.repeat(walk[:, :, :96, :], 2, 1), 1, 2)[:, :3, :84]
    actions = [batch.act(list(wide[:2, time])) for time in range(3)]
    assert actions == [[Action.TURN_LEFT] * 2] * 3 and batch.unparsed == [3, 3]
    assert batch.memory_frames(0) == [0, 1, 2]


@pytest.mark.parametrize(
    "frame, error, message",
    [
        (np.zeros((112, 112, 3), np.float32), TypeError, "array of float32; expected a uint8"),
        (np.full((112, 112, 3), np.nan), TypeError, "array of float64"),
        (np.zeros((112, 112), np.uint8), ValueError, r"shape \(112, 112\); expected \(H, W, 3\)"),
        (np.zeros((3, 112, 112), np.uint8), ValueError, r"expected \(H, W, 3\)"),
        (np.zeros((112, 112, 4), np.uint8), ValueError, r"expected \(H, W, 3\)"),
        (Image.new("L", (112, 112)), TypeError, "mode L; expected RGB"),
        ("frame.png", TypeError, "the frame is str"),
    ],
)
def test_wrong_frames_are_named_and_not_remembered(parts, walk, frame, error, message):
    navigator = Navigator(*parts).reset("walk")
    with pytest.raises(error, match=message):
        navigator.act(frame)
    assert navigator.memory_frames() == []
    navigator.act(walk[0, 0])
    assert navigator.memory_frames() == [0]


def test_wrong_use_is_named(parts, walk):
    navigator = Navigator(*parts)
    with pytest.raises(RuntimeError, match="session 0 has no instruction"):
        navigator.act(walk[0, 0])
    for text in ("", "  \n", "...", None):
        with pytest.raises(ValueError, match="at least one word"):
            navigator.reset(text)
    with pytest.raises(ValueError, match=r"10000 words\), this model reads at most 256 \(max_prompt\)"):
        navigator.reset("walk " * 10_000)
    batch = NavigatorBatch(*parts, sessions=2)
    with pytest.raises(ValueError, match="1 frames for sessions"):
        batch.act([walk[0, 0]])


def test_damaged_weights_are_noticed(walk):
    model, processor = make()
    with torch.no_grad():
        model.lm_head.weight[3] = torch.nan
    with pytest.raises(FloatingPointError, match="session 0 are not finite"):
        Navigator(model, processor).reset("walk").act(walk[0, 0])


def test_a_navigator_with_a_mirror_finds_both_sides_alike(parts, walk):
    """In the mirror image of an episode it scores the mirror image of every action the same: exactly what it is for."""
    model, _ = parts
    parts = model, VLNProcessor(model.config, word_tokenizer([*WORDS[:-1], "left", "right", *ROLE.split()]))
    plain, seen, turned = Navigator(*parts), Navigator(*parts, mirror=True), Navigator(*parts, mirror=True)
    plain.reset("walk past the left sofa")
    seen.reset("walk past the left sofa")
    turned.reset("walk past the right sofa")
    differed = False
    for frame in walk[0]:
        seen.act(frame), turned.act(np.ascontiguousarray(frame[:, ::-1])), plain.act(frame)
        ours, theirs = seen.scores, turned.scores
        for action in Action:
            assert ours[action] == pytest.approx(theirs[Action(mirrored_action(action))], abs=1e-5)
        differed |= ours[Action.TURN_LEFT] != pytest.approx(ours[Action.TURN_RIGHT], abs=1e-3)
        done = max(Action, key=ours.__getitem__)
        seen.batch.executed(0, done)
        turned.batch.executed(0, Action(mirrored_action(done)))
    assert differed
    assert seen.memory_frames() == plain.memory_frames()


def test_a_mirror_averages_the_two_sides(parts, walk):
    one, other, both = Navigator(*parts), Navigator(*parts), Navigator(*parts, mirror=True)
    for navigator in (one, other, both):
        navigator.reset("walk past the red sofa")  # no side in it: only frames differ
    one.act(walk[0, 0]), other.act(np.ascontiguousarray(walk[0, 0][:, ::-1])), both.act(walk[0, 0])

    def likely(navigator: Navigator) -> torch.Tensor:
        return navigator.batch.scores[0].log_softmax(-1)

    first = parts[1].action_ids[Action.MOVE_FORWARD][0]
    assert float(both.batch.scores[0][first]) == pytest.approx(
        float(likely(one)[first] + likely(other)[first]) / 2, abs=1e-5
    )


def test_the_release_has_no_mirror():
    with pytest.raises(ValueError, match="a mirror needs the paper behaviour"):
        NavigatorBatch(*make(behaviour="release"), mirror=True)
