"""The warm start of a memory around any VLM."""

import copy
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dualsight.checkpoints.vismem import load_memory
from dualsight.cli import main
from dualsight.models.janus_core import IGNORE
from dualsight.models.vismem import VisMem, VisMemConfig
from dualsight.train.sft import MemorySft, Sequences, warm_start, without_memories
from dualsight.train.trainer import Run
from tests.models.tiny_vlms import DELIMITERS, FAMILIES, janus_folder, prompts, take, tiny_vlm
from tests.train.learning import learn

CONFIG = VisMemConfig(queries=2, short=2, long=3, width=16, heads=2, rank=4)
SAID = {"a": [21, 22, 5, 23, 6, 24], "b": [25], "c": [26, 27, 5, 28, 29]}
TEXTS = [[7, 8, 9, 5], [11, 5], [12, 13, 6]]


def rows(family, vlm, texts=TEXTS):
    """Prompts of different lengths, each with its image."""
    found = []
    for number, (text, answer) in enumerate(zip(texts, SAID, strict=False)):
        inputs = prompts(family, vlm, texts)
        there = inputs["attention_mask"][number].bool()
        words = {
            name: inputs[name][number : number + 1, there]
            for name in ("input_ids", "attention_mask", "mm_token_type_ids")
            if name in inputs
        }
        images = take(family, {name: value for name, value in inputs.items() if name not in words}, number)
        found.append({"inputs": words | images, "prompt": str(text), "answer": answer})
    return found


def remember(family, **changes) -> VisMem:
    torch.manual_seed(3)
    return VisMem(tiny_vlm(family), DELIMITERS, VisMemConfig(**vars(CONFIG) | changes))


def sequences(memory, family, share=1.0, texts=TEXTS, **options) -> Sequences:
    return Sequences(memory, rows(family, memory.vlm, texts), SAID.__getitem__, 3, 40, 0, share=share, **options)


def test_memories_stand_behind_prompts_and_delimiters_and_what_follows_is_learnt():
    memory = remember("internvl")
    plan = sequences(memory, "internvl", kinds=("long",))
    batch = plan.batch([1, 0], np.random.default_rng(0), "long")
    m, end = memory.written("long"), 2
    answers = [[*m, 25, end], [*m, 21, 22, 5, *m, 23, 6, *m, 24, end]]
    learnt = [[25, end], [21, 22, 5, 23, 6, 24, end]]
    prompt = int(batch["prompt"])
    for row, (answer, text) in enumerate(zip(answers, learnt, strict=True)):
        there = batch["attention_mask"][row].bool()
        assert batch["input_ids"][row][there].tolist()[-len(answer) :] == answer
        assert batch["input_ids"][row, prompt : prompt + len(answer)].tolist() == answer
        at = (batch["labels"][row] != IGNORE).nonzero()[:, 0]
        assert batch["labels"][row][at].tolist() == text
        assert batch["input_ids"][row][at + 1].tolist() == text, "a label is of the next token"
    assert batch["attention_mask"].sum(1).tolist() == [8 + len(answers[0]), 10 + len(answers[1])]


def test_the_share_and_the_kinds_are_drawn():
    memory = remember("internvl")
    found = [sequences(memory, "internvl", 0.5)[index]["input_ids"] for index in range(20)]
    calls = [memory.tokens.calls(ids) for ids in found]
    assert {len(set(ids[at].tolist())) for ids, at in zip(found, calls, strict=True)} == {1, 2}
    inside = sum(int(at.sum()) for at in calls) - 20 * 3
    assert 10 < inside < 50, "half of sixty delimiters"
    plain = sequences(memory, "internvl").batch([0, 1, 2], np.random.default_rng(0), None)
    assert not memory.tokens.calls(plain["input_ids"]).any()
    assert (plain["labels"] != IGNORE).sum() == sum(len(ids) + 1 for ids in SAID.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_as_its_rows_alone(family):
    """What is said behind memories is as likely as in each row by itself."""
    memory = remember(family)
    plan = sequences(memory, family)
    batch = plan.batch([0, 1, 2], np.random.default_rng(1), "short")
    inputs = {name: value for name, value in batch.items() if name not in ("labels", "prompt")}
    together = memory.score(prompt=int(batch["prompt"]), **inputs)
    for row in range(3):
        there = batch["attention_mask"][row].bool()
        images = take(family, {k: v for k, v in inputs.items() if k not in ("input_ids", "attention_mask")}, row)
        cut = int(batch["prompt"]) - int((~there[: int(batch["prompt"])]).sum())
        ids = batch["input_ids"][row : row + 1, there]
        alone = memory.score(ids, torch.ones_like(ids), cut, **images)
        torch.testing.assert_close(together[row, there], alone[0], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_without_their_memories_are_what_they_were(family):
    """Text, labels and all that comes with them; what is said is as likely as if no memory had been put in. The row
    with most memories is the shortest without them."""
    memory = remember(family)
    plan = sequences(memory, family, texts=[[11, 5], [7, 8, 9, 12, 13, 14, 15, 16, 5], [12, 13, 6]])
    batch = plan.batch([0, 1, 2], np.random.default_rng(1), "short")
    plain = plan.batch([0, 1, 2], np.random.default_rng(1), None)
    names = ("input_ids", "attention_mask", "labels", "prompt")
    vision = {name: value for name, value in batch.items() if name not in names}
    found = without_memories(memory, batch["input_ids"], batch["attention_mask"], batch["labels"], vision)
    assert set(found) == set(plain) - {"prompt"}
    assert (found["input_ids"] < memory.tokens.first).all(), "of padding, too: a VLM has no embedding of the rest"
    for row in range(3):
        ours, theirs = (of["attention_mask"][row].bool() for of in (found, plain))
        for name in found.keys() & {"input_ids", "labels", "mm_token_type_ids"}:
            assert found[name][row, ours].tolist() == plain[name][row, theirs].tolist(), name
    assert all(torch.equal(found[name], plain[name]) for name in vision if name not in ("mm_token_type_ids",))
    lesson = MemorySft(memory)(**batch, lesson=torch.tensor(True))["loss"]
    assert lesson > MemorySft(memory)(**batch)["loss"] + 0.1, "where to look is learnt, too"


def test_lessons_stand_at_the_beginning():
    memory = remember("internvl")
    taught = [bool(sequences(memory, "internvl", lesson=0.25)[index]["lesson"]) for index in range(40)]
    assert taught == [True] * 10 + [False] * 30
    with pytest.raises(ValueError, match="lesson=7 of the steps: give each from 0 to 1"):
        sequences(memory, "internvl", lesson=7)


def test_a_memory_learns_what_is_said_behind_it():
    memory = remember("internvl", short=8, long=8)
    words = {"a": [21], "b": [25], "c": [26]}.__getitem__
    plan = Sequences(memory, rows("internvl", memory.vlm), words, 3, 40, 0)
    losses = learn(MemorySft(memory), plan.batch([0, 1, 2], np.random.default_rng(1), "short"), 60, 1e-2)
    assert losses[-1]["loss"] < 0.8 * losses[0]["loss"]
    assert all(parameter.grad is None for parameter in memory.vlm.parameters())


def test_a_row_in_which_nothing_can_be_called_is_named():
    memory = remember("internvl")
    given = rows("internvl", memory.vlm, [[7, 8], [11, 5]])
    plan = Sequences(memory, given, {"a": [21], "b": [22]}.__getitem__, 2, 1, 0)
    with pytest.raises(ValueError, match=r"no memory can be called in the answer 'a' to '\[7, 8\]'"):
        plan[0]
    later = Sequences(memory, given, {"a": [21, 5, 22], "b": [5, 23]}.__getitem__, 2, 1, 0, ("short",), 0.0)
    answers = [[21, 5, *memory.written("short"), 22, 2], [*memory.written("short"), 5, 23, 2]]
    batch = later.batch([0, 1], np.random.default_rng(0), "short")
    assert [row[row != 0].tolist()[-len(of) :] for row, of in zip(batch["input_ids"], answers, strict=True)] == answers
    anywhere = Sequences(remember("internvl", anchored=False), given, {"a": [21], "b": [22]}.__getitem__, 2, 1, 0)
    assert (anywhere[0]["labels"] != IGNORE).sum() == 4


def test_a_warm_start_writes_what_can_be_read(tmp_path):
    memory = remember("qwen2_5_vl")
    run, before = Run(tmp_path, 2, batch=2), copy.deepcopy(memory.vlm.state_dict())
    start = memory.builder.start.detach().clone()
    warm_start(memory, rows("qwen2_5_vl", memory.vlm), SAID.__getitem__, run)
    assert not torch.equal(memory.builder.start, start)
    after = memory.vlm.state_dict()
    assert set(after) == set(before)
    assert all(torch.equal(after[name], before[name]) for name in before), "the VLM is what it was, bit for bit"
    again = load_memory(tiny_vlm("qwen2_5_vl"), tmp_path)
    assert all(again.constant[kind].abs().sum() > 0 for kind in ("short", "long"))
    for name, tensor in memory.state_dict().items():
        if not name.startswith(("parts", "short.parts")) and name in again.state_dict():
            torch.testing.assert_close(again.state_dict()[name], tensor)


def without_image(text, answer):
    ids = torch.tensor([text])
    return {"inputs": {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, "prompt": str(text), "answer": answer}


@pytest.mark.parametrize("lesson", [0.0, 1.0])
def test_rows_without_an_image_are_learnt_through_long_memories(tmp_path, lesson):
    memory = remember("qwen2_5_vl")
    plain = [without_image([7, 9, 5], "a"), without_image([8, 5], "b")]
    mixed = [*plain, *rows("qwen2_5_vl", memory.vlm)]
    plan = Sequences(memory, mixed, SAID.__getitem__, 5, 1, 0)
    calls = [memory.tokens.kind(int(row[memory.tokens.calls(row)][0])) for row in
             plan.batch(range(5), np.random.default_rng(0), "short")["input_ids"]]  # fmt: skip
    assert calls == ["long", "long", "short", "short", "short"]
    warm_start(memory, mixed, SAID.__getitem__, Run(tmp_path, 3, batch=5), lesson=lesson)
    assert all(tensor.isfinite().all() for tensor in memory.state_dict().values())
    assert memory.builder.whiten_v.mean.abs().sum() > 0 and memory.constant["short"].abs().sum() > 0


def test_a_row_without_an_image_is_named_where_there_are_only_short_memories():
    memory = remember("qwen2_5_vl")
    plan = Sequences(memory, [without_image([7, 9, 5], "a")], SAID.__getitem__, 1, 1, 0, ("short",))
    with pytest.raises(ValueError, match=r"'\[7, 9, 5\]' shows no image, and a short memory looks at one"):
        plan[0]


def test_whitening_is_fitted_where_there_are_images(tmp_path):
    """Though the file begins with text; and where there are none at all, it stays what it is."""
    memory = remember("qwen2_5_vl")
    plain = [without_image([7, 9, 5], "a")] * 40
    warm_start(memory, [*plain, *rows("qwen2_5_vl", memory.vlm)], SAID.__getitem__, Run(tmp_path / "a", 1, batch=2),
               ("long",))  # fmt: skip
    assert memory.builder.whiten_v.mean.abs().sum() > 0
    blind = remember("qwen2_5_vl")
    warm_start(blind, plain, SAID.__getitem__, Run(tmp_path / "b", 1, batch=2), ("long",), lesson=1.0)
    assert torch.equal(blind.builder.whiten_v.matrix, torch.eye(len(blind.builder.whiten_v.matrix)))
    assert all(tensor.isfinite().all() for tensor in blind.state_dict().values())


def test_a_memory_around_a_vlm_of_half_precision_is_trained(tmp_path):
    """As far as one in 32 bits: at this rate, a step of bfloat16 itself would be rounded off in most weights."""
    moved = {}
    for dtype in (torch.float32, torch.bfloat16):
        memory = VisMem(tiny_vlm("qwen2_5_vl").to(dtype), DELIMITERS, CONFIG)
        before = {name: parameter.detach().clone() for name, parameter in memory.named_parameters()}
        run = Run(tmp_path / str(dtype), 12, batch=3, learning_rate=1e-3, weight_decay=0.0)
        warm_start(memory, rows("qwen2_5_vl", memory.vlm), SAID.__getitem__, run)
        moved[dtype] = {
            name: (p.detach() - before[name]).float().abs().mean().item() for name, p in memory.named_parameters()
        }
    for name in ("builder.start", "short.slots.start", "long.slots.start"):
        assert moved[torch.bfloat16][name] > 0.5 * moved[torch.float32][name], name


def test_parameters_that_a_batch_does_not_use_have_gradients_of_their_own():
    """One tensor for all would be what accumulating, or averaging over processes, writes into for all of them."""
    memory = remember("internvl")
    plan = sequences(memory, "internvl", kinds=("long",))
    MemorySft(memory)(**plan.batch([0, 1, 2], np.random.default_rng(0), "long"))["loss"].backward()
    found = [p.grad for p in memory.parameters() if p.requires_grad]
    assert all(gradient is not None for gradient in found)
    assert len({gradient.data_ptr() for gradient in found}) == len(found)


def test_from_the_command_line_around_a_folder_of_transformers(tmp_path):
    """Warm start, then both stages of GRPO, on a file of questions."""
    vlm = janus_folder(tmp_path / "vlm")
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(tmp_path / "a.png")
    lines = [{"question": "w7 w8", "answer": f"w{n} w9", "image": "a.png"} for n in (10, 11, 12, 13)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    common = [f"--vlm={vlm}", f"--data={tmp_path / 'data.jsonl'}", "--steps=1", "--batch=2"]
    sizes = ["--queries=2", "--short=2", "--long=2", "--width=16"]
    main(["train", "memory", *common, *sizes, "--lesson=1", f"--out={tmp_path / 'first'}"])
    main(["train", "memory", *common, f"--init={tmp_path / 'first'}", f"--out={tmp_path / 'warm'}"])
    first, warm = (load_file(tmp_path / name / "memory.safetensors") for name in ("first", "warm"))
    moved = [name for name in first if not torch.equal(first[name], warm[name])]
    assert moved and not any("whiten" in name for name in moved), "it keeps what it was whitened with"
    main(
        ["train", "grpo", *common, "--stage=memory", f"--memory={tmp_path / 'warm'}", f"--out={tmp_path / 'memory'}",
         "--group=2", "--answer=8"]
    )  # fmt: skip
    assert (tmp_path / "memory" / "metrics.jsonl").exists()


def test_a_new_memory_follows_from_the_seed_and_is_not_taught_when_it_is_called(tmp_path, monkeypatch):
    vlm = janus_folder(tmp_path / "vlm")
    (tmp_path / "data.jsonl").write_text(json.dumps({"question": "w7", "answer": "w9"}) + "\n")
    made = []
    monkeypatch.setattr("dualsight.train.grpo.train", lambda memory, *_: made.append(memory.state_dict()))
    given = ["train", "grpo", f"--vlm={vlm}", f"--data={tmp_path / 'data.jsonl'}", f"--out={tmp_path / 'out'}"]
    for seed in (7, 7, 8):
        main([*given, "--stage=memory", f"--seed={seed}"])
    same, other = ([torch.equal(made[0][name], made[which][name]) for name in made[0]] for which in (1, 2))
    assert all(same) and not all(other)
    with pytest.raises(SystemExit) as ended:
        main([*given, "--stage=invocation"])
    assert ended.value.code == 2
