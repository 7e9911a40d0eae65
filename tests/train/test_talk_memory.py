"""The warm start of a memory around a policy that talks about grids, and what it is compared with."""

from dataclasses import replace

import torch

from dualsight.checkpoints.vismem import load_memory
from dualsight.data.talks import MARK
from dualsight.inference.talk_vlm import FULL, SMALL, load_policy, new_policy
from dualsight.models.janus_core import IGNORE
from dualsight.models.vismem import VisMem, VisMemConfig
from dualsight.train.talk_memory import MemoryTalks, MemoryTraining, SoftPromptTraining, soft_prompt, warm_start
from dualsight.train.talk_policy import pretrain_policy
from dualsight.train.trainer import Run
from tests.train.learning import learn

CONFIG = VisMemConfig(queries=2, short=2, long=3, width=16, heads=2, rank=4)


def test_memories_are_lone_and_looks_are_taught_before_there_are_many(batches=20):
    memory = VisMem(new_policy(SMALL), [6], CONFIG)
    plan = MemoryTalks(SMALL, memory, 2, batches, 0, lesson=0.5, lone=0.65)
    calls = [int(torch.isin(plan[i]["input_ids"][0], torch.tensor(memory.tokens.begin)).sum()) for i in range(batches)]
    assert calls[:13] == [1] * 13 and max(calls[13:]) > 3
    assert all((plan[index]["labels"] != IGNORE).sum() == 6 for index in range(batches))  # of the last one only
    assert ["answer" in plan[index] for index in range(batches)] == [True] * 10 + [False] * 10


def test_a_lesson_has_the_same_talk_with_the_image_in_the_place_of_the_memory():
    """Its last sentence, alone; and says which questions the image has to be looked at for."""
    memory = VisMem(new_policy(FULL), [6], CONFIG)
    visual, ours = list(FULL.image), memory.written("short")
    texts = [FULL.index[word] for word in ("first", "last")]
    in_image = []
    for index in range(6):
        batch = MemoryTalks(FULL, memory, 4, 10, index, ("short",), lesson=0.5)[0]
        for row in range(4):
            ids, again = batch["input_ids"][row].tolist(), batch["shown_again"][row].tolist()
            start = ids.index(ours[0])
            assert again == ids[start - 4 : start] + visual + ids[start + len(ours) :]
            assert FULL.task.vocabulary[again[0]] == "ask"
            assert again.count(MARK["<seen>"]) == FULL.visual_tokens, "one image, and all of it"
            assert batch["labels"][row, -1] == batch["answer"][row]
            assert batch["in_image"][row] == (ids[start + len(ours)] not in texts)
            in_image.append(bool(batch["in_image"][row]))
    assert any(in_image) and not all(in_image)


def test_a_memory_learns_the_answer_behind_it():
    torch.manual_seed(0)
    memory = VisMem(new_policy(SMALL), [6], CONFIG)
    training = MemoryTraining(memory)
    batch = MemoryTalks(SMALL, memory, 6, 10, 0, ("short",))[9]
    losses = learn(training, batch, 30, 1e-2)
    assert losses[-1]["loss"] < 0.85 * losses[0]["loss"]
    assert all(parameter.grad is None for parameter in memory.vlm.parameters())


def test_a_policy_without_memory_learns_in_sight_of_the_image_too():
    """From late answers alone it could learn nothing but to guess."""
    batch = MemoryTalks(SMALL, None, 2, 20, 0)[0]
    learnt = (batch["labels"][0] != IGNORE).nonzero()[:, 0]
    assert len(learnt) >= 3 * (SMALL.late - 1) and learnt[0] < len(SMALL.image) + 8
    assert not torch.isin(batch["input_ids"], torch.tensor(len(SMALL.task.vocabulary))).any()


def test_a_soft_prompt_learns_and_nothing_else_does(tmp_path, monkeypatch):
    monkeypatch.setattr("dualsight.train.talk_memory.SEEN", 8)
    pretrain_policy(SMALL, Run(tmp_path / "policy", 1, batch=2))
    vlm, _ = load_policy(tmp_path / "policy")
    torch.manual_seed(0)
    memory = VisMem(vlm, [6], CONFIG)
    training, before = SoftPromptTraining(memory), {name: p.clone() for name, p in memory.named_parameters()}
    batch = MemoryTalks(SMALL, memory, 6, 10, 0, ("short",))[9]
    losses = learn(training, batch, 20, 1e-2)
    assert losses[-1]["loss"] < losses[0]["loss"]
    moved = {name for name, p in memory.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {"constant.short", "tokens.rows"}
    assert all(parameter.grad is None for parameter in vlm.parameters())
    soft_prompt(tmp_path / "policy", CONFIG, Run(tmp_path / "soft", 1, batch=2))
    assert load_memory(vlm, tmp_path / "soft").constant["long"].std() > 0


def test_both_stages_write_what_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr("dualsight.train.talk_memory.SEEN", 32)
    pretrain_policy(SMALL, Run(tmp_path / "policy", 2, batch=2))
    warm_start(tmp_path / "policy", CONFIG, Run(tmp_path / "memory", 2, batch=2))
    vlm, config = load_policy(tmp_path / "policy")
    memory = load_memory(vlm, tmp_path / "memory")
    assert config == replace(SMALL, interleaved=0.1, steps=2) and memory.config == CONFIG
    assert all(latents.abs().sum() > 0 for latents in memory.constant.values())
    assert not torch.equal(memory.builder.whiten_h.matrix, torch.eye(SMALL.width))
