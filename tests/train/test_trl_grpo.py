"""GRPO of a memory on TRL: the loss, its gradients and the rewards are those of the reference loop."""

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, ProcessorMixin
from transformers.image_utils import to_numpy_array

from dualsight.checkpoints.vismem import load_memory
from dualsight.data.files import write_json
from dualsight.data.rewards import exact_match
from dualsight.train.grpo import GRPO, Answers, advantages, shaped
from dualsight.train.trainer import Run
from tests.models.tiny_vlms import END, FAMILIES, IMAGE, START, VOCABULARY, image_tokens, images, take, tiny_vlm
from tests.train.test_grpo import CONFIG, changed, remember

trl = pytest.importorskip("trl", reason="the extra grpo is not installed")
datasets = pytest.importorskip("datasets")

from dualsight.train.trl_grpo import MemoryGRPOTrainer, reward_function, settings, train  # noqa: E402

TINY = GRPO(group=4, base_group=2, answer=10, rows=8, beta=0.0)
QUESTIONS = ("w7 w8 w9 w5", "w11 w5")


@pytest.fixture(autouse=True)
def at_home(monkeypatch):
    """TRL tells its makers of every trainer; not from tests."""
    monkeypatch.setenv("CI", "1")


class TinyProcessor(ProcessorMixin):
    """Words w0, w1... and images of 16 x 16 pixels, for one of the tiny VLMs."""

    def __init__(self, vlm):
        self.family = vlm.config.model_type
        self.marks = [START, *[IMAGE] * image_tokens(self.family, vlm), END]
        words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(VOCABULARY)}, unk_token="w3"))
        words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        self.tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=words, pad_token="w0", bos_token="w1", eos_token="w2", unk_token="w3"
        )

    def apply_chat_template(self, conversation, tokenize=True, **options):
        if not tokenize:
            return self._texts([conversation])[0]
        pictures = [part["image"] for messages in conversation for part in messages[-1]["content"] if "image" in part]
        return {"input_ids": self._ids(self._texts(conversation)), **self._pixels(pictures)}

    def __call__(self, images, text, **options):
        return self._pixels([picture for of_row in images for picture in of_row])

    def batch_decode(self, *arguments, **options):
        return self.tokenizer.batch_decode(*arguments, **options)

    def save_pretrained(self, folder, **options):
        write_json(Path(folder) / "processor.json", {})

    def _texts(self, conversations):
        return ["".join(part.get("text", "") for part in messages[-1]["content"]) for messages in conversations]

    def _ids(self, texts):
        return [[*self.marks, *ids] for ids in self.tokenizer(texts)["input_ids"]]

    def _pixels(self, pictures):
        like = images(self.family, len(pictures))
        pixels = torch.stack([torch.tensor(to_numpy_array(picture)).float() / 64 - 2 for picture in pictures])
        return like | {"pixel_values": pixels.permute(0, 3, 1, 2).reshape(like["pixel_values"].shape)}


def small_words(prompts, completions, **columns):
    """The share of an answer's words that are below w30."""
    answers = [completion[0]["content"].split() for completion in completions]
    return [sum(int(word[1:]) < 30 for word in words) / max(1, len(words)) for words in answers]


def questions(count=2):
    noise = np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
    pictures = [Image.fromarray(pixels) for pixels in noise]
    prompts = [[{"role": "user", "content": QUESTIONS[index % 2]}] for index in range(count)]
    return datasets.Dataset.from_dict({"prompt": prompts, "image": pictures, "answer": ["w9"] * count})


def talkative(family="qwen2_5_vl"):
    """A memory that is called often; in 64 bits, so that equal is equal."""
    memory = remember(family)
    with torch.no_grad():
        memory.tokens.heads.copy_(6 * memory.vlm.get_output_embeddings().weight[[7, 8]])
    memory.vlm.double()
    return memory.double()


def quick():
    """A memory that is called at once and once, behind the prompt."""
    config = replace(CONFIG, short=2, long=2, max_invocations=1)
    return remember("internvl", (5,), config, num_hidden_layers=2)


def run(out, steps=1, **changes):
    return Run(out, steps, **({"learning_rate": 1e-2, "batch": 2, "warmup": 0.0, "seed": 7} | changes))


def trainer_of(memory, out, reward=small_words, changes=None, **stage):
    trainer = MemoryGRPOTrainer(
        memory, replace(TINY, **stage), run(out), [reward], questions(), TinyProcessor(memory.vlm), **(changes or {})
    )
    trainer.current_gradient_accumulation_steps = 1  # as it is while it trains
    return trainer


def gradients(learner, loss):
    learner.memory.zero_grad()
    loss.backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in learner.trained.items()}


def assert_alike(learner, ours, theirs):
    """Losses and gradients; and there are some."""
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)
    expected, got = gradients(learner, ours), gradients(learner, theirs)
    assert any(gradient.any() for gradient in expected.values())
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], atol=1e-5, rtol=1e-5, msg=lambda text, n=name: n + text)


def inputs_of(answers, family, left=2, right=1):
    """The same answers as TRL has them, with prompts padded on the left and answers on the right."""
    rows, prompt = len(answers.ids), answers.ids[:, : answers.prompt]
    pad = torch.zeros(rows, left, dtype=torch.long), torch.zeros(rows, right, dtype=torch.long)
    vision = {name: images.repeat(rows, *[1] * (images.ndim - 1)) for name, images in answers.vision.items()}
    given = {
        "prompt_ids": torch.cat([pad[0], prompt], 1), "prompt_mask": torch.cat([pad[0], torch.ones_like(prompt)], 1),
        "completion_ids": torch.cat([answers.said, pad[1]], 1),
        "completion_mask": torch.cat([torch.ones_like(answers.said), pad[1]], 1),
        "tool_mask": torch.cat([answers.counts.long(), pad[1]], 1), "advantages": answers.advantage,
        "num_images": [1] * rows, **vision,
    }  # fmt: skip
    return given | ({"mm_token_type_ids": torch.zeros_like(answers.ids)} if family.startswith("qwen") else {})


@pytest.mark.parametrize(
    ("family", "stage"), [*((family, "memory") for family in FAMILIES), ("qwen2_5_vl", "invocation")]
)
def test_the_loss_and_its_gradients_are_the_references(family, stage, tmp_path):
    """For the same answers, advantages and masks, when the memory has moved on from what said them and from what it was
    before training."""
    memory = talkative(family)
    trainer = trainer_of(memory, tmp_path, stage=stage, beta=0.2, clip=1e-3, temperature=0.8)
    learner, processor = trainer.learner, trainer.processing_class
    given = {"input_ids": torch.tensor(processor._ids([QUESTIONS[0]])), **images(family, 1)}
    ids, _ = learner.sample(given, "learned" if stage == "invocation" else "random:0.5", 4, 1)
    prompt = given["input_ids"].shape[1]
    counts = learner.counted(ids, prompt)
    assert counts.any(1).all()
    vision = images(family, 1)
    answers = Answers(ids, prompt, vision, counts, torch.linspace(-1, 2, 4), 1 / 4)
    theirs = inputs_of(answers, family)

    def moved(size):
        torch.manual_seed(5)
        with torch.no_grad():
            for parameter in learner.trained.values():
                parameter.add_(size * torch.randn_like(parameter))

    moved(0.02)  # from the reference
    with torch.no_grad():
        answers.old = learner.read(answers)
    theirs["old_per_token_logps"] = torch.nn.functional.pad(answers.old, (0, 1))
    moved(0.02)  # from what said them
    ours, terms = learner.loss(answers)
    assert terms["clipped"] > 0 and terms["kl"] > 0
    width = theirs["completion_ids"].shape[1]
    whole = [torch.cat([theirs[f"{part}_{what}"] for part in ("prompt", "completion")], 1) for what in ("ids", "mask")]
    images_of = {name: theirs[name] for name in (*vision, "num_images", "mm_token_type_ids") if name in theirs}
    with torch.no_grad():
        theirs["ref_per_token_logps"], _, _ = trainer._get_per_token_logps_and_entropies(
            trainer.ref_model, *whole, width, batch_size=3, **images_of
        )
    torch.testing.assert_close(theirs["ref_per_token_logps"][:, :-1], answers.reference, atol=1e-5, rtol=1e-5)
    assert_alike(learner, ours, trainer.compute_loss(trainer.model, theirs))
    assert trainer._metrics["train"]["kl"][0] > 0 and trainer._metrics["train"]["entropy"][0] > 0


@pytest.mark.parametrize(("family", "stage"), [("qwen2_5_vl", "invocation"), ("internvl", "memory")])
def test_answers_of_trl_have_the_references_loss(family, stage, tmp_path):
    """Prompts of two lengths in one batch there, one after the other here."""
    memory = talkative(family)
    trainer = trainer_of(memory, tmp_path, stage=stage)
    learner, rows = trainer.learner, [row for row in questions() for _ in range(4)]
    before = memory.vlm.generation_config.to_dict()
    made = trainer._generate_and_score_completions(rows)
    assert memory.vlm.generation_config.to_dict() == before
    ids = torch.cat([made["prompt_ids"], made["completion_ids"]], 1)
    prompt = made["prompt_ids"].shape[1]
    counts = learner.counted(ids, prompt)
    assert torch.equal(made["tool_mask"].bool() & made["completion_mask"].bool(), counts) and counts.any()
    assert trainer._metrics["train"]["calls_short"][0] + trainer._metrics["train"]["calls_long"][0] > 0
    loss = torch.zeros(())
    vision = {name: made[name] for name in ("pixel_values", "image_grid_thw") if name in made}
    for group in (slice(0, 4), slice(4, 8)):
        kept = [row for row in range(group.start, group.stop) if counts[row].any()]
        assert kept
        padding = int((made["prompt_mask"][kept[0]] == 0).sum())
        answers = Answers(
            ids[kept, padding:], prompt - padding, take(family, vision, kept[0]),
            counts[kept], made["advantages"][kept], 1 / 4,
        )  # fmt: skip
        loss = loss + learner.loss(answers)[0] / 2
    assert_alike(learner, loss, trainer.compute_loss(trainer.model, made))


def recorded():
    """A reward, and what it gave: a list for each call."""
    given = []

    def reward(prompts, completions, **columns):
        assert len(columns["answer"]) == len(prompts)
        given.append(torch.tensor(small_words(prompts, completions)))
        return given[-1].tolist()

    return reward, given


@pytest.mark.parametrize("baseline", ["base", "group"])
def test_rewards_and_advantages_are_the_references(baseline, tmp_path):
    reward, given = recorded()
    trainer = trainer_of(talkative(), tmp_path, reward, stage="invocation", baseline=baseline, alpha=0.4, cost=0.1)
    made = trainer._generate_and_score_completions([row for row in questions() for _ in range(4)])
    scores, base, turned = (of.view(2, -1) for of in given)
    assert base.shape == (2, 2) and not torch.equal(scores, turned)
    begins = torch.tensor(trainer.policy.memory.tokens.begin)
    calls = torch.isin(made["completion_ids"], begins).sum(1).view(2, 4)
    rewards = [shaped(*of_group, 0.4, 0.1) for of_group in zip(scores, base, turned, calls, strict=True)]
    expected = torch.cat([advantages(r, b, baseline) for r, b in zip(rewards, base, strict=True)])
    if baseline == "group":  # TRL's std is the unbiased one
        expected = expected * (3 / 4) ** 0.5
    torch.testing.assert_close(made["advantages"], expected, atol=5e-3 if baseline == "group" else 1e-5, rtol=5e-3)
    penalties = torch.tensor(trainer._logs["rewards"]["memory_penalty"])
    torch.testing.assert_close(penalties, torch.cat(rewards) - given[0])
    metrics = trainer._metrics["train"]
    assert metrics["score_base"] == pytest.approx([float(base.mean())])
    assert metrics["score_turned"] == pytest.approx([float(turned.mean())])
    assert len(metrics["completions/mean_length"]) == 1, "of answers that are learnt from alone"


def test_answers_without_memory_are_made_where_they_are_needed(tmp_path):
    for stage, expected in (
        ({"baseline": "group"}, 1), ({}, 2), ({"stage": "invocation", "baseline": "group", "alpha": 0.0}, 1),
    ):  # fmt: skip
        reward, given = recorded()
        trainer = trainer_of(quick(), tmp_path, reward, **stage)
        trainer._generate_and_score_completions([row for row in questions() for _ in range(4)])
        assert len(given) == expected


def test_where_no_memory_is_called_nothing_is_learnt_and_later_it_is_called_anywhere(tmp_path):
    memory = remember(delimiters=(5,))
    trainer = trainer_of(memory, tmp_path, share=0.0, wide_share=0.9)
    rows = [row for row in questions() for _ in range(4)]
    loss = trainer.compute_loss(trainer.model, trainer._generate_and_score_completions(rows))
    assert loss == 0 and not any(gradient.any() for gradient in gradients(trainer.learner, loss).values())
    trainer.state.global_step = 1  # the last
    assert trainer._generate_and_score_completions(rows)["tool_mask"].any() and memory.delimiters == (5,)


# --- training ---------------------------------------------------------------------------------------------------------


def trained(out, stage, steps, memory=None, reward=small_words, **config):
    memory = memory or quick()
    config = replace(TINY, stage=stage, answer=8, beta=0.05, **config)
    train(memory, questions(2 * steps), [reward], TinyProcessor(memory.vlm), config, run(out, steps))
    return memory


@pytest.mark.parametrize(
    ("stage", "parts"), [("memory", {"builder", "relook", "short", "long"}), ("invocation", {"tokens"})]
)
def test_a_stage_trains_its_parts(stage, parts, tmp_path):
    memory = quick()
    before = {name: tensor.clone() for name, tensor in memory.state_dict().items()}
    stock = {name: tensor.clone() for name, tensor in memory.vlm.state_dict().items()}
    trained(tmp_path, stage, 1, memory, iterations=2, share=1.0, alpha=0.1, cost=0.1)
    assert {name.split(".")[0] for name in changed(before, memory)} == parts
    assert all(torch.equal(stock[name], tensor) for name, tensor in memory.vlm.state_dict().items())
    written = load_memory(tiny_vlm("internvl", num_hidden_layers=2), tmp_path).state_dict()
    assert all(torch.equal(written[name], tensor) for name, tensor in memory.state_dict().items())


def test_a_run_goes_on_where_it_stopped(tmp_path):
    calls = []

    def stopping(prompts, completions, **columns):
        calls.append(1)
        if len(calls) == 1:
            signal.raise_signal(signal.SIGTERM)
        return small_words(prompts, completions)

    whole = trained(tmp_path / "whole", "memory", 2, wide_after=1.0).state_dict()
    with pytest.raises(KeyboardInterrupt, match="the same command resumes"):
        trained(tmp_path / "parts", "memory", 2, reward=stopping, wide_after=1.0)
    assert load_memory(tiny_vlm("internvl", num_hidden_layers=2), tmp_path / "parts" / "checkpoint-1")
    resumed = trained(tmp_path / "parts", "memory", 2, wide_after=1.0).state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


# --- borders ----------------------------------------------------------------------------------------------------------


def test_our_rewards_are_trls():
    reward = reward_function(exact_match)
    said = [[{"role": "assistant", "content": text}] for text in ("W9.", "w8")]
    prompts = [[{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]}]] * 2
    assert reward.__name__ == "exact_match"
    assert reward(prompts, said, answer=["w9", "w9"], trainer_state=None) == [1.0, 0.0]
    asked = reward_function(lambda prompt, answer, row: float((prompt, answer, row) == ("?", "W9.", {"n": 1})))
    assert asked(prompts, said, n=[1, 1]) == [1.0, 0.0]


def test_another_release_of_trl_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(trl, "__version__", "1.17.0")
    with pytest.raises(ImportError, match=r"expected TRL 1\.16\.x.*found 1\.17\.0"):
        trainer_of(quick(), tmp_path)


@pytest.mark.parametrize(
    ("stage", "changes", "message"),
    [
        ({"latents": "gaussian"}, {}, r"latents='exact', or use the reference loop, dualsight\.train\.grpo\.train"),
        ({"target_kl": 0.1, "beta": 0.1}, {}, "nothing steers the KL here: leave target_kl at 0"),
        ({"base_group": 5}, {}, "base_group=5 answers without memory do not fit beside group=4"),
        ({}, {"beta": 0.1, "top_p": 0.9}, "beta, top_p: these follow from GRPO and Run"),
    ],
)
def test_what_trl_cannot_do_is_refused(stage, changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        trainer_of(quick(), tmp_path, changes=changes, **stage)


def test_16_bits_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"the memory is in torch\.bfloat16.*load the VLM in float32"):
        trainer_of(quick().bfloat16(), tmp_path)
    with pytest.raises(ValueError, match="leave matrices and bf16"):
        settings(TINY, run(tmp_path, bf16=True))


def test_settings_hold_whole_groups(tmp_path):
    found = settings(GRPO(group=6, rows=4, iterations=2), run(tmp_path, 10, batch=3, warmup=0.2), loss_type="dapo")
    assert (found.per_device_train_batch_size, found.gradient_accumulation_steps) == (2, 9)
    assert found.generation_batch_size == 3 * 6 and found.max_steps == 20 and found.warmup_steps == 4
    assert found.loss_type == "dapo"
