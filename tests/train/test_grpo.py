"""GRPO of a memory: what was said has the likelihood it was said with, what is trained moves, and nothing else does."""

import copy
import math
import os
import signal
import socket
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from dualsight.checkpoints.vismem import load_memory
from dualsight.checkpoints.weights import CheckpointError
from dualsight.data.files import Log, read_lines
from dualsight.models.vismem import Grammar, Mode, VisMem, VisMemConfig
from dualsight.train.grpo import (
    GRPO,
    Answers,
    Drawn,
    Learner,
    Replayed,
    Script,
    advantages,
    may_call,
    plain_sampling,
    run_of,
    schedule,
    shaped,
    train,
)
from dualsight.train.trainer import Run
from tests.models.tiny_vlms import FAMILIES, prompts, tiny_vlm

CONFIG = VisMemConfig(queries=2, short=1, long=2, width=16, heads=2, rank=4)
ANY = range(4, 50)
"""Every word is a delimiter: an untrained model says few of them otherwise."""
STAGES = ("memory", "invocation")
TINY = GRPO(group=4, base_group=2, answer=10, rows=8)


def remember(family="qwen2_5_vl", delimiters=ANY, config=CONFIG, **text):
    """A memory whose LoRAs do something, and that is called now and then."""
    vlm = tiny_vlm(family, **text)
    torch.manual_seed(3)
    memory = VisMem(vlm, delimiters, config)
    for former in (memory.short, memory.long):
        for b in former.adapters.b:
            torch.nn.init.normal_(b, std=0.3)
    return memory


def row_of(memory, text=(7, 8, 9, 5), **more):
    inputs = prompts(memory.vlm.config.model_type, memory.vlm, [list(text)])
    return {"inputs": inputs, "prompt": "?", **more}


def small_words(prompt, answer, row):
    """The share of an answer's words that are below 30."""
    words = [int(word) for word in answer.split()]
    return sum(word < 30 for word in words) / max(1, len(words))


def decode(ids):
    return " ".join(map(str, ids))


def learner_of(memory, **changes):
    return Learner(memory, replace(TINY, **changes), small_words, decode)


@pytest.fixture
def memory():
    return remember()


def answers_of(learner, mode, seed=0, **options):
    """What `roll_out` learns from, but of any mode."""
    row = row_of(learner.memory)
    ids, _ = learner.sample(row["inputs"], mode, learner.config.group, seed, **options)
    prompt = row["inputs"]["input_ids"].shape[1]
    counts = learner.counted(ids, prompt)
    rows = counts.any(1)
    vision = {"pixel_values": row["inputs"]["pixel_values"], "image_grid_thw": row["inputs"]["image_grid_thw"]}
    advantage = torch.linspace(-1, 2, int(rows.sum()))
    return Answers(ids[rows], prompt, vision, counts[rows], advantage, 1 / learner.config.group)


# --- rewards ----------------------------------------------------------------------------------------------------------


def test_gain_and_the_papers_penalty_cancel_where_rewards_are_binary():
    """The paper's S - S_base, with or without its p_neg = max(0, mean S - S), has the advantages of S."""
    torch.manual_seed(0)
    for _ in range(20):
        scores = torch.randint(2, (16,)).double()
        scores[:2] = torch.tensor([0.0, 1.0])
        base = torch.randint(2, (4,)).double()
        gain = scores - base.mean()
        negative = (scores.mean() - scores).clamp(min=0)
        plain = advantages(scores, base, "group")
        torch.testing.assert_close(advantages(gain, base, "group"), plain, atol=1e-6, rtol=0)
        torch.testing.assert_close(advantages(gain - 0.3 * negative, base, "group"), plain, atol=1e-6, rtol=0)


def test_advantages_by_hand():
    base = torch.tensor([0.0, 0, 1, 0])
    ones = advantages(torch.ones(4), base)
    assert ones.tolist() == pytest.approx([0.75 / math.sqrt(5 / 8 * 3 / 8)] * 4), "all right, thanks to memory"
    assert advantages(torch.ones(4), base, "group").tolist() == [0] * 4
    assert advantages(torch.zeros(4), torch.zeros(2)).tolist() == [0] * 4, "nothing to tell them apart"


def test_shaped_rewards_by_hand():
    scores, base = torch.tensor([1.0, 0, 0, 0]), torch.tensor([1.0, 0])
    turned, calls = torch.tensor([1.0, 1, 0, 0]), torch.tensor([1, 2, 1, 0])
    got = shaped(scores, base, turned, calls, alpha=0.4, cost=0.1)
    torch.testing.assert_close(got, torch.tensor([1 - 0.1, -0.4 * (1 + 0.5) - 0.2, -0.4 * 0.5 - 0.1, 0]))


# --- likelihoods ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("stage", "mode"), [("memory", "random:0.5"), ("invocation", "learned")])
def test_what_was_said_has_the_likelihood_it_was_said_with(family, stage, mode):
    """So the first ratio is 1. The VLM's own settings (top-k, penalties) do not interfere."""
    memory = remember(family)
    memory.vlm.generation_config.update(top_k=5, repetition_penalty=1.5)
    learner = learner_of(memory, stage=stage, temperature=0.7)
    row = row_of(memory)
    prompt = row["inputs"]["input_ids"].shape[1]
    with plain_sampling(memory.vlm, TINY.answer, 0.7, TINY.group):
        torch.manual_seed(2)
        said = memory.generate(mode, 2, **row["inputs"], output_scores=True, return_dict_in_generate=True)
    assert memory.vlm.generation_config.top_k == 5
    torch.testing.assert_close(learner.sample(row["inputs"], mode, TINY.group, 2)[0], said.sequences)
    parts, _ = learner.roll_out(row, 2)
    counts = learner.counted(said.sequences, prompt)
    assert torch.equal(parts[0].counts, counts[counts.any(1)])
    chosen = torch.stack(said.scores, 1).log_softmax(-1).gather(-1, said.sequences[:, prompt:, None])[..., 0]
    assert torch.equal(parts[0].ids, said.sequences[counts.any(1)])
    expected = torch.where(counts, chosen, 0)[counts.any(1)]
    torch.testing.assert_close(learner.read(parts[0]).detach(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("anchored", [True, False])
def test_bans_are_the_grammars(anchored):
    """For all places at once: what it says token by token."""
    memory = remember(delimiters=range(4, 30), config=replace(CONFIG, max_invocations=2, anchored=anchored))
    row = row_of(memory)
    prompt, logits = row["inputs"]["input_ids"].shape[1], None
    for stage, mode in (("invocation", "learned"), ("memory", "random:0.5")):
        learner = learner_of(memory, stage=stage, group=8, answer=16)
        with torch.no_grad():
            memory.tokens.heads.mul_(1.5)
        ids, _ = learner.sample(row["inputs"], mode, 8, 1)
        ids[0, :prompt].clamp_(max=9)  # a row without an image
        sees = [row > 0 for row in range(8)]
        grammar = Grammar(memory, Mode.parse(mode), prompt, prompt + 16, 1)
        logits = torch.randn(8, 16, memory.tokens.first + 5)
        ours = learner.sampled_logits(logits[:, : ids.shape[1] - prompt], ids, prompt)
        banned, calls = 0, 0
        for place in range(ids.shape[1] - prompt):
            column = prompt + place
            said = grammar(ids[:, :column], logits[:, place])
            for index in range(8):
                before, last = ids[index, prompt:column].tolist(), int(ids[index, column - 1])
                allowed = grammar._allowed(index, before, last, sees[index])
                assert sees[index] or allowed != memory.tokens.begin, "a short memory has nothing to look at"
                if isinstance(allowed, tuple) and not (mode != "learned" and allowed):
                    assert torch.equal(said[index], ours[index, place]), (index, place)
                    calls += bool(allowed)
                    banned += not allowed
        assert banned and bool(calls) == (mode == "learned")
        open_ = may_call(memory, ids, prompt, 16)
        assert open_.shape == (*ids[:, prompt:].shape, 2)
        assert open_[0].any(0).tolist() == [False, True] and open_[1:].any((0, 1)).all()


def test_what_counts(memory):
    short, long = memory.tokens.begin
    hold, end, stop = memory.tokens.placeholder, memory.tokens.end, 2
    prompt = [7, 5]
    said = [
        [8, short, hold, end[0], 9, stop, 0, 0, 0, 0],
        [8, 9, 10, 11, 12, 13, 14, 15, 16, 17],
        [long, hold, hold, end[1], 8, short, hold, end[0], 9, 10],
    ]
    ids = torch.tensor([prompt + row for row in said])

    def marks(*rows):
        return torch.tensor([[mark == "x" for mark in row] for row in rows])

    text = learner_of(memory).counted(ids, 2)
    assert torch.equal(text, marks("....xx....", "..........", "....x...xx"))
    chosen = learner_of(memory, stage="invocation").counted(ids, 2)
    assert torch.equal(chosen, marks("xx..xx....", "xxxxxxxxxx", "x...xx..xx"))
    latents = learner_of(memory, latents="gaussian").counted(ids, 2)
    assert torch.equal(latents, marks("..x.......", "..........", ".xx...x..."))
    assert learner_of(memory).texts(ids[:, 2:]) == ["8 9", "8 9 10 11 12 13 14 15 16 17", "8 9 10"]


# --- gradients --------------------------------------------------------------------------------------------------------


def changed(before, memory):
    after = memory.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("kind", ["short", "long"])
def test_a_gradient_reaches_the_builder_and_the_former_that_was_called(memory, kind):
    learner = learner_of(memory)
    answers = answers_of(learner, f"random:0.5+{kind}")
    learner.loss(answers)[0].backward()
    moved = {name.split(".")[0] for name, p in memory.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"builder", kind} | ({"relook"} if kind == "short" else set())
    assert not any(parameter.requires_grad for parameter in memory.vlm.parameters())
    assert memory.tokens.rows.grad is None and memory.tokens.heads.grad is None


def test_a_gradient_reaches_only_the_tokens_in_the_second_stage(memory):
    learner = learner_of(memory, stage="invocation", group=8)
    parts, metrics = learner.roll_out(row_of(memory), 1)
    assert metrics["calls_short"] + metrics["calls_long"] > 0
    parts[0].advantage = torch.linspace(-1, 2, len(parts[0].ids))
    learner.loss(parts[0])[0].backward()
    assert {name for name, p in memory.named_parameters() if p.grad is not None} == {"tokens.rows", "tokens.heads"}
    assert memory.tokens.heads.grad.any() and memory.tokens.rows.grad.any()


def test_a_step_pushes_the_likelihood_along_the_advantage(memory):
    """The gradient of the loss at the ratio 1 is that of -A log p, and the clip then stops it."""
    learner = learner_of(memory, beta=0)
    answers = answers_of(learner, "random:0.5")
    loss, terms = learner.loss(answers)
    assert terms["clipped"] == 0 and terms["objective"] == pytest.approx(float(answers.advantage.sum() / 4), abs=1e-5)
    loss.backward()
    got = memory.builder.start.grad.clone()
    memory.zero_grad()
    per_answer = (learner.read(answers) * answers.counts).sum(1) / answers.counts.sum(1)
    (-(per_answer * answers.advantage).sum() / 4).backward()
    torch.testing.assert_close(got, memory.builder.start.grad, atol=1e-6, rtol=1e-4)
    answers.old = answers.old - answers.advantage.sign()[:, None] * answers.counts  # far beyond the clip
    memory.zero_grad()
    loss, terms = learner.loss(answers)
    loss.backward()
    assert terms["clipped"] == pytest.approx(int(answers.advantage.count_nonzero()) / 4)
    assert not memory.builder.start.grad.any()


def test_the_reference_is_the_memory_before_training(memory):
    learner = learner_of(memory)
    answers = answers_of(learner, "random:0.5")
    before = learner.read(answers).detach()
    assert learner.loss(answers)[1]["kl"] == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        memory.builder.start.add_(torch.randn_like(memory.builder.start))
        moved = memory.builder.start.clone()
    answers.reference = None
    assert learner.loss(answers)[1]["kl"] > 1e-4
    torch.testing.assert_close(answers.reference, before, atol=1e-6, rtol=0)
    assert torch.equal(memory.builder.start, moved)


def test_gaussian_latents_enter_again(memory):
    """So the text behind them has the likelihood that it was said with."""
    learner = learner_of(memory)
    inputs, drawn = row_of(memory)["inputs"], Drawn(TINY.group, 0.5, 0)
    prompt = inputs["input_ids"].shape[1]
    with plain_sampling(memory.vlm, TINY.answer, 1.0, TINY.group):
        torch.manual_seed(2)
        said = memory.generate(
            "random:0.5", 2, latents=drawn, **inputs, output_scores=True, return_dict_in_generate=True
        )
    vision = {name: inputs[name].repeat(TINY.group, 1) for name in ("pixel_values", "image_grid_thw")}
    there = torch.ones_like(said.sequences)
    for latents, same in ((Replayed(drawn.of), True), (None, False)):
        logits = memory.score(said.sequences, there, prompt, latents=latents, **vision)[:, prompt - 1 : -1]
        ours = learner.sampled_logits(logits, said.sequences, prompt).log_softmax(-1)
        counts = learner.counted(said.sequences, prompt)
        close = torch.allclose(ours[counts], torch.stack(said.scores, 1).log_softmax(-1)[counts], atol=1e-5)
        assert close == same


def test_gaussian_latents_have_a_density(memory):
    """Around what is formed; its gradient is (m - mean) / sigma^2."""
    learner = learner_of(memory, latents="gaussian", sigma=0.5)
    drawn = Drawn(TINY.group, 0.0, 0)
    answers = answers_of(learner, "random:0.5", latents=drawn)
    answers.latents = [latents for latents in drawn.of if latents]
    means = torch.cat([latents for of_row in answers.latents for latents in of_row])
    read = learner.read(answers)
    torch.testing.assert_close(read, means, atol=1e-4, rtol=0)
    leaf = (means + 0.1).requires_grad_()
    density = learner.log_probs(leaf, answers)
    assert torch.equal(density != 0, answers.counts)
    density.sum().backward()
    torch.testing.assert_close(leaf.grad, (means - leaf.detach()) / learner.spread**2)
    parts, _ = learner.roll_out(row_of(memory), 3)
    loss, terms = learner.loss(parts[0])
    loss.backward()
    assert terms["kl"] == terms["clipped"] == 0 and memory.builder.start.grad.any()


# --- the other kind ---------------------------------------------------------------------------------------------------


def test_the_other_kind_is_called_at_the_first_call(memory):
    learner = learner_of(memory, stage="invocation")
    short, long = memory.tokens.begin
    assert learner.turn([8, short, memory.tokens.placeholder]) == [8, long]
    assert learner.turn([8, 9]) == []
    assert learner.turn([8, long], sees=False) == [], "no image for a short memory to look at"
    late = [8] * (TINY.answer - 3)
    assert learner.turn([*late, short]) == [], "the longer kind has no room"
    assert learner.turn([*late[:-1], long]) == [*late[:-1], short]
    inputs = row_of(memory)["inputs"]
    prompt = inputs["input_ids"].shape[1]
    scripts = [[8, long], [9, 10, 11], [], [short]]
    ids, _ = learner.sample(inputs, "learned", 4, 0, [Script(scripts, prompt)])
    said = ids[:, prompt:].tolist()
    assert said[0][:5] == [8, long, memory.tokens.placeholder, memory.tokens.placeholder, long + 1]
    assert said[1][:3] == [9, 10, 11]
    assert said[3][:3] == [short, memory.tokens.placeholder, short + 1]


def test_an_answer_is_kept_up_to_the_call_that_is_turned(memory):
    learner = learner_of(memory, stage="invocation", group=8)
    row, texts = row_of(memory), []
    learner.reward = lambda prompt, answer, row: texts.append(answer) or small_words(prompt, answer, row)
    inputs = learner._inputs(row)
    ids, calls = learner.sample(inputs, "learned", 8, 4)
    prompt = inputs["input_ids"].shape[1]
    own = learner._scores(row, ids[:, prompt:])
    turned = learner._turned(row, inputs, ids, own, 4)
    first = {call.row: call.column - prompt for call in reversed(calls)}
    assert first and len(first) < 8
    for index in range(8):
        before, after = texts[index].split(), texts[8 + index].split()
        if index in first:
            assert before[: first[index]] == after[: first[index]]
        else:
            assert before == after and turned[index] == own[index]


# --- training ---------------------------------------------------------------------------------------------------------


def quick(delimiters=(5,), latents=2):
    """A memory that is called at once and once, behind the prompt: a roll-out takes little time."""
    config = replace(CONFIG, short=latents, long=latents, max_invocations=1)
    return remember("internvl", delimiters, config, num_hidden_layers=2)


def run(out, steps, **changes):
    return Run(out, steps, **({"learning_rate": 1e-2, "batch": 1, "warmup": 0.0, "log_every": 100} | changes))


def large_words(prompt, answer, row):
    return 1 - small_words(prompt, answer, row)


def test_the_first_stage_raises_a_reward(tmp_path):
    memory = quick(latents=4)
    with torch.no_grad():  # an untrained decoder hardly attends to anything
        memory.vlm.lm_head.weight.mul_(4)
        for layer in memory.vlm.model.language_model.layers:
            layer.self_attn.o_proj.weight.mul_(20)
    before = {name: tensor.clone() for name, tensor in memory.state_dict().items()}
    config = GRPO(group=16, base_group=4, answer=8, share=1.0, wide_after=1.0, beta=0.001)
    train(memory, [row_of(memory)], large_words, decode, config, run(tmp_path, 12, learning_rate=0.02))
    log = read_lines(tmp_path / "metrics.jsonl")
    scores = [line["score"] for line in log]
    assert sum(scores[-4:]) / 4 > sum(scores[:2]) / 2 + 0.2, scores
    assert log[-1]["kl"] > 0 and log[-1]["gradient_builder"] > 0
    assert {name.split(".")[0] for name in changed(before, memory)} == {"builder", "relook", "short", "long"}


def test_the_second_stage_calls_less_where_calls_cost(tmp_path):
    memory = quick(ANY)
    with torch.no_grad():
        memory.tokens.heads.mul_(2)
    before = {name: tensor.clone() for name, tensor in memory.state_dict().items()}
    config = GRPO("invocation", group=16, base_group=2, answer=7, alpha=0.0, cost=1.0, beta=0.0)
    train(memory, [row_of(memory)], lambda *_: 0.0, decode, config, run(tmp_path, 8, learning_rate=0.1))
    log = read_lines(tmp_path / "metrics.jsonl")
    calls = [line["calls_short"] + line["calls_long"] for line in log]
    assert sum(calls[-3:]) < 0.6 * sum(calls[:3]), calls
    assert changed(before, memory) == {"tokens.rows", "tokens.heads"}


def test_the_vlm_in_a_memory_is_bit_for_bit_what_it_was_after_both_stages(tmp_path):
    """Its weights and buffers, and its logits without memory, those of the very model that was trained around."""
    memory = quick(ANY)
    row = row_of(memory)
    weights, logits = copy.deepcopy(memory.vlm.state_dict()), memory.vlm(**row["inputs"]).logits
    before = copy.deepcopy(memory.state_dict())
    for stage in STAGES:
        train(memory, [row], small_words, decode, replace(TINY, stage=stage), run(tmp_path / stage, 2))
    assert {"builder", "tokens"} <= {name.split(".")[0] for name in changed(before, memory)}
    after = memory.vlm.state_dict()
    assert set(after) == set(weights) and all(torch.equal(after[name], weights[name]) for name in weights)
    assert torch.equal(memory.vlm(**row["inputs"]).logits, logits)


def test_beta_is_steered_towards_a_kl():
    """By hand: at most a fiftieth a step; not at all without a target."""
    learner = learner_of(quick(), beta=0.5, target_kl=0.1)
    for kl, factor in ((0.1, 1.0), (0.11, 1.01), (5.0, 1.02), (0.0, 0.98)):
        before = learner.beta
        learner.steer(kl)
        assert learner.beta == pytest.approx(before * factor)
    still = learner_of(quick(), beta=0.5)
    still.steer(5.0)
    assert still.beta == 0.5
    with pytest.raises(ValueError, match="target_kl needs beta above 0"):
        GRPO(beta=0.0, target_kl=0.1)


SHORT = replace(TINY, iterations=2, wide_share=0.5, beta=0.02, target_kl=1e-3)


def test_a_run_goes_on_where_it_stopped(tmp_path):
    """Killed in the middle of a step, asked to stop in the middle of another, or neither: the same weights."""

    def trained(out, stop=None, at=0):
        memory, calls = quick(), []

        def reward(prompt, answer, row):
            calls.append(1)
            if stop is not None and len(calls) == at:
                stop()
            return small_words(prompt, answer, row)

        rows = [row_of(memory), row_of(memory, (11, 5))]
        train(memory, rows, reward, decode, SHORT, run(tmp_path / out, 3, save_minutes=0.0))
        return memory.state_dict()

    def killed():
        raise RuntimeError("killed")

    whole = trained("whole")
    with pytest.raises(RuntimeError, match="killed"):
        trained("parts", killed, at=2 * 6 + 2)
    with Log(tmp_path / "parts" / "metrics.jsonl") as log:
        log.append({"step": 3})  # of a step behind the checkpoint
    with pytest.raises(KeyboardInterrupt, match="after step 3"):
        trained("parts", lambda: signal.raise_signal(signal.SIGTERM), at=3)
    assert [path.name for path in (tmp_path / "parts").glob("checkpoint-*")] == ["checkpoint-3"]
    resumed = trained("parts")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert read_lines(tmp_path / "parts" / "metrics.jsonl") == read_lines(tmp_path / "whole" / "metrics.jsonl")
    assert len({line["beta"] for line in read_lines(tmp_path / "whole" / "metrics.jsonl")}) > 1, "steered"
    written = load_memory(tiny_vlm("internvl", num_hidden_layers=2), tmp_path / "parts").state_dict()
    assert all(torch.equal(written[name], whole[name]) for name in whole)


def test_a_checkpoint_of_another_memory_is_refused(tmp_path):
    """What a stage does not train is not in it, and would change in the middle of a run."""
    config = replace(TINY, stage="invocation")
    train(quick(), [row_of(quick())], small_words, decode, config, run(tmp_path, 1))
    other = quick()
    with torch.no_grad():
        other.builder.start.add_(0.1)
    with pytest.raises(CheckpointError, match="what this stage does not train differs"):
        train(other, [row_of(other)], small_words, decode, config, run(tmp_path, 2))
    train(quick(), [row_of(quick())], small_words, decode, config, run(tmp_path, 2))
    assert [line["step"] for line in read_lines(tmp_path / "metrics.jsonl")] == [1, 2]


@pytest.mark.parametrize("score", [float("nan"), float("inf"), None, "right"])
def test_a_reward_that_is_no_number_is_named(score):
    def odd(prompt, answer, row):
        return score

    memory = quick()
    learner = Learner(memory, TINY, odd, decode)
    with pytest.raises(ValueError, match=r"the reward odd gave .* in answer to '\?': expected a finite number"):
        learner.roll_out(row_of(memory), 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"wide_share": 1.5}, "each is a share"),
        ({"share": -1.0}, "each is a share"),
        ({"wide_after": float("nan")}, "each is a share"),
        ({"temperature": 0.0}, "a temperature above 0"),
        ({"cost": -0.1}, "none of them is below 0"),
        ({"sigma": 0.0}, "a spread above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        GRPO(**settings)


def test_an_answer_needs_room_for_a_memory():
    memory = quick()
    learner_of(memory, stage="invocation", answer=4)
    for stage, answer in (("invocation", 3), ("memory", 4)):
        with pytest.raises(ValueError, match=f"answer={answer} tokens have no room for a memory"):
            learner_of(memory, stage=stage, answer=answer)


def test_a_checkpoint_of_the_other_stage_is_refused(tmp_path):
    memory = quick()
    train(memory, [row_of(memory)], small_words, decode, TINY, run(tmp_path, 1))
    with pytest.raises(ValueError, match="does not fit this model"):
        train(memory, [row_of(memory)], small_words, decode, replace(TINY, stage="invocation"), run(tmp_path, 2))


def shared(folder):
    """Two prompts to a step, of all processes together; returns what is trained to."""
    rank, world = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
    memory = quick()
    if rank:
        torch.nn.init.zeros_(memory.builder.start)  # processes begin with the first one's memory
    rows = [row_of(memory), row_of(memory, (11, 5)), row_of(memory, (12, 13, 5))]
    train(memory, rows, small_words, decode, TINY, run(folder, 2, batch=2 // world, seed=5))
    return memory.state_dict()


def second(index, environment, folder):
    torch.set_num_threads(1)
    os.environ.update(environment | {"RANK": "1"})
    save_file(shared(folder), folder / "second.safetensors")


def test_two_processes_are_one_with_twice_the_prompts(tmp_path, monkeypatch):
    one = shared(tmp_path / "one")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}  # as torchrun sets it
    other = torch.multiprocessing.spawn(second, (environment, tmp_path / "two"), nprocs=1, join=False)
    for name, value in (environment | {"RANK": "0"}).items():
        monkeypatch.setenv(name, value)
    two = shared(tmp_path / "two")
    assert other.join(timeout=60)
    there = load_file(tmp_path / "two" / "second.safetensors")
    for name in one:
        assert torch.equal(two[name], there[name]), name
        torch.testing.assert_close(two[name], one[name], atol=1e-5, rtol=0)
    logs = [read_lines(tmp_path / name / "metrics.jsonl") for name in ("one", "two")]
    assert [line["step"] for line in logs[1]] == [1, 2]
    for line, of_two in zip(*logs, strict=True):
        assert of_two == pytest.approx(line, abs=1e-4)


def test_memory_widens(memory):
    """At first behind delimiters only, then anywhere."""
    memory = remember(delimiters=(5,))
    learner = learner_of(memory, wide_share=0.9)
    _, narrow = learner.roll_out(row_of(memory, (5, 7)), 0)
    _, wide = learner.roll_out(row_of(memory, (5, 7)), 0, wide=True)
    calls = [metrics["calls_short"] + metrics["calls_long"] for metrics in (narrow, wide)]
    assert calls[0] < 1 <= calls[1]
    assert memory.delimiters == (5,)


def test_the_learning_rate_climbs_and_falls(tmp_path):
    settings = run_of("memory", tmp_path, 10, processes=2)
    assert (settings.learning_rate, settings.batch) == (5e-5, 4)
    rates = [schedule(settings, step) for step in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0] and rates == sorted(rates[:2]) + sorted(rates[2:], reverse=True)
    assert schedule(run_of("memory", tmp_path, 10, schedule="constant"), 9) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"bf16": True}, "leave matrices, bf16"), ({"matrices": "x"}, "leave matrices, bf16")],
)
def test_settings_that_nobody_would_heed_are_refused(memory, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train(memory, [row_of(memory)], small_words, decode, TINY, run(tmp_path, 1, **changes))


def test_what_cannot_be_trained_is_named(memory, tmp_path):
    with pytest.raises(ValueError, match="no prompts"):
        train(memory, [], small_words, decode, TINY, run(tmp_path, 1))
    with pytest.raises(ValueError, match="Gaussian"):
        GRPO("invocation", latents="gaussian")
    with pytest.raises(ValueError, match="at least 1"):
        GRPO(base_group=0)
    learner = learner_of(memory)
    with pytest.raises(ValueError, match="needs prompt; this one has inputs"):
        learner.roll_out({"inputs": row_of(memory)["inputs"]}, 0)
    with pytest.raises(ValueError, match="one prompt without padding"):
        learner.roll_out({"inputs": prompts("qwen2_5_vl", memory.vlm, [[5], [7, 5]]), "prompt": "?"}, 0)
    memory.vlm.requires_grad_(True)
    with pytest.raises(ValueError, match="the VLM is frozen"):
        learner_of(memory)
