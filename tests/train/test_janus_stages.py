"""Janus learns: what each stage teaches which parameters, from batches that follow from the seed."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dualsight.checkpoints.janus import from_pretrained
from dualsight.models.janus import IGNORE, JanusBatch
from dualsight.train.janus_data import JanusCollate, JanusPlan, place_of
from dualsight.train.janus_sources import Concatenation, open_sources
from dualsight.train.janus_stages import (
    CODECS,
    ENCODER,
    JANUS,
    JANUS_FLOW,
    JANUS_PRO,
    JanusTraining,
    compile_blocks,
    freeze,
    run_of,
    train_stage,
)
from dualsight.train.lora import add_lora, merge_lora
from dualsight.train.samples import contact_sheet
from dualsight.types import Conversation, Drawing, Turn
from tests.models.janus_tiny import tiny

COLORS = ("red", "green", "blue")


def picture(color):
    return np.asarray(Image.new("RGB", (20, 16), color))


def about(color):
    return Conversation((Turn("user", "<image> what is this"), Turn("assistant", color)), (picture(color),))


SOURCES = {
    "understanding": [about(color) for color in COLORS],
    "text": [Conversation((Turn("user", "yes"), Turn("assistant", "no"))) for _ in range(2)],
    "generation": [Drawing(f"a {color} cat", picture(color)) for color in COLORS],
}


@pytest.fixture
def janus():
    return tiny()


def no_dice():
    return np.random.default_rng(0)


def test_a_conversation_teaches_what_the_assistant_says(janus):
    model, processor = janus
    encoded = JanusCollate(processor, 100).encode(about("red"), no_dice())
    learnt = {i: label for i, label in enumerate(encoded.labels) if label != IGNORE}
    red, eos = processor.tokenizer.encode("red")[0], model.config.tokens.eos
    assert list(learnt.values()) == [red, eos]
    assert [encoded.ids[i + 1] for i in learnt] == [red, eos]
    assert sum(encoded.seen) == model.config.seen_tokens and not any(encoded.drawn)


def test_nothing_is_taught_for_or_against_what_the_data_leaves_out(janus):
    """Packed behind another conversation: the word is left out of the choice of that answer, and of no other."""
    model, processor = janus
    asked = Conversation(
        (Turn("user", "<image> what is this"), Turn("assistant", "red", ("green", "red"))), (picture("red"),)
    )
    batch = JanusCollate(processor, 400)([about("blue"), asked], no_dice())
    red, green, blue = (processor.tokenizer.encode(color)[0] for color in COLORS)
    (row, place, token), *others = batch["untaught"].tolist()
    assert not others, "the right answer is never left out"
    assert (batch["labels"][row, place], token) == (red, green)
    assert batch["segments"][row, place] == (2 if batch["segments"].max() == 2 else 1)

    scores = []

    def keep(module, inputs, logits):
        logits.retain_grad()
        scores.append(logits)

    model.language_model.lm_head.register_forward_hook(keep)
    JanusTraining(model)(**JanusCollate(processor, 400)([asked], no_dice()))["loss"].backward()
    answer, end = scores[0].grad  # of "red" and of the end of text
    assert answer[green] == 0 and answer[blue] > 0 and answer[red] < 0
    assert end[green] > 0


def test_a_drawing_teaches_the_image_and_sometimes_without_its_caption(janus):
    model, processor = janus
    drawing = SOURCES["generation"][0]
    kept = JanusCollate(processor, 100, caption_drop=0).encode(drawing, no_dice())
    dropped = JanusCollate(processor, 100, caption_drop=1).encode(drawing, no_dice())
    assert kept.ids[: -model.config.drawn_tokens] == processor.drawing(drawing.prompt)
    assert dropped.ids[: -model.config.drawn_tokens] == processor.unconditional(processor.drawing(drawing.prompt))
    assert sum(kept.drawn) == model.config.drawn_tokens
    assert set(kept.labels) == {IGNORE}
    often = JanusCollate(processor, 100)
    rng = no_dice()
    share = np.mean([often.encode(drawing, rng).ids[1] == model.config.tokens.pad for _ in range(1000)])
    assert 0.07 < share < 0.13


def test_rows_are_packed_and_lose_nothing(janus):
    _, processor = janus
    examples = [*SOURCES["understanding"], *SOURCES["generation"], *SOURCES["text"]]
    batch = JanusCollate(processor, 80, caption_drop=0)(examples, no_dice())
    assert batch["ids"].shape[1] <= 80 and len(batch["ids"]) < len(examples)
    per_row = batch["segments"].amax(1)
    assert int(per_row.sum()) == len(examples)
    assert len(batch["images"]) == 3 and len(batch["canvases"]) == 3


@torch.no_grad()
def test_a_packed_batch_has_the_losses_of_its_examples(janus):
    model, processor = janus
    training = JanusTraining(model)
    examples = [*SOURCES["understanding"], *SOURCES["generation"]]
    together = training(**JanusCollate(processor, 500, caption_drop=0)(examples, no_dice()))
    apart = [training(**JanusCollate(processor, 500, caption_drop=0)([example], no_dice())) for example in examples]
    for name, some in (("text_loss", apart[:3]), ("image_loss", apart[3:])):
        assert float(together[name]) == pytest.approx(float(np.mean([float(loss[name]) for loss in some])), abs=1e-5)


def test_an_example_that_is_too_long_shows_its_beginning(janus):
    with pytest.raises(ValueError, match=r"has \d+ tokens, a row 20; it begins 'a red cat'"):
        JanusCollate(janus[1], 20)([SOURCES["generation"][0]], no_dice())


def test_an_example_that_cannot_be_learnt_is_named_with_its_file_and_row(janus, tmp_path):
    rows = [{"prompt": prompt, "image": "a.png"} for prompt in ("a red cat", "a dog " * 30)]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    sources = open_sources(["scenes", str(path)])
    drawings = {"generation": Concatenation(sources["generation"].sources[1:])}
    collate = JanusCollate(janus[1], 60)
    assert collate.tokens(drawings["generation"][0]) == len(collate.encode(drawings["generation"][0], no_dice()).ids)
    with pytest.raises(ValueError, match=r"mine\.jsonl, line 2: an example has \d+ tokens, a row 60"):
        JanusPlan(drawings, {"generation": 2}, 2, 1, 0, collate)[0]
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"mine\.jsonl, line [12]: .*a\.png"):
        JanusPlan(drawings, {"generation": 2}, 2, 1, 0, JanusCollate(janus[1], 600))[0]
    assert place_of(sources["generation"], 3) == "", "scenes have no file"


def test_a_batch_is_a_function_of_its_number(janus):
    def plan():
        return JanusPlan(SOURCES, {"understanding": 2, "text": 1, "generation": 3}, 6, 5, 7, JanusCollate(janus[1], 99))

    first = [plan()[i] for i in range(5)]
    whole = plan()
    for i in (4, 0, 2):
        assert all(torch.equal(value, first[i][name]) for name, value in whole[i].items())
    assert all(len(batch["canvases"]) == 3 for batch in first), "the ratio holds inside each batch"


@pytest.mark.parametrize("recipe", [JANUS, JANUS_PRO])
def test_stages_freeze_what_the_papers_freeze(janus, recipe):
    model = janus[0]

    def learning(stage):
        freeze(model, recipe[stage])
        return {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}

    assert learning("I") == {"aligner", "gen_aligner", "gen_head", "gen_embed"}
    assert learning("II") == {"aligner", "gen_aligner", "gen_head", "gen_embed", "language_model"}
    assert learning("III") == {"aligner", "gen_aligner", "gen_head", "gen_embed", "language_model", "vision_model"}


def test_published_settings():
    """Tables of arXiv:2410.13848 and 2501.17811."""
    assert [JANUS[s].ratio for s in JANUS] == [(1, 0, 1), (2, 3, 5), (7, 3, 10)]
    assert [JANUS_PRO[s].ratio for s in JANUS_PRO] == [(1, 0, 3), (2, 3, 5), (5, 1, 4)]
    assert [JANUS_FLOW[s].ratio for s in JANUS_FLOW] == [(50, 0, 50), (14, 6, 80), (21, 9, 70)]  # arXiv:2411.07975
    assert [JANUS_FLOW[s].steps for s in JANUS_FLOW] == [10_000, 380_000, 26_000]
    assert [JANUS[s].learning_rate for s in JANUS] == [1e-3, 1e-4, 2e-5]
    assert [JANUS_PRO[s].learning_rate for s in JANUS_PRO] == [1e-3, 1e-4, 4e-5]
    assert [JANUS[s].weight_decay for s in JANUS] == [0, 0, 0.1]
    run = run_of(JANUS["II"], None, processes=8)
    assert (run.batch, run.betas, run.clip, run.schedule) == (64, (0.9, 0.95), 1.0, "constant")
    assert run.warmup * run.steps == pytest.approx(5000)
    with pytest.raises(ValueError, match="does not divide among 7"):
        run_of(JANUS["II"], None, processes=7)


def test_stage_three_learns_to_answer_and_to_draw(janus, tmp_path):
    """A few examples by heart: losses fall, the tokenizer stays, the encoder moves."""
    model, processor = janus
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    collate = JanusCollate(processor, 500, caption_drop=0)
    batch = collate([*SOURCES["understanding"], *SOURCES["generation"]], no_dice())
    with torch.no_grad():
        first = JanusTraining(model)(**batch)
    run = run_of(JANUS["III"], tmp_path, steps=60, batch=6, learning_rate=3e-3, log_every=20)
    folder = train_stage(
        model, processor, JANUS["III"], SOURCES, run, capacity=200, sample_prompts=["a red cat"], sample_every=30
    )
    again, _ = from_pretrained(folder)
    with torch.no_grad():
        last = JanusTraining(again)(**batch)
    assert float(last["text_loss"]) < 0.5 * float(first["text_loss"])
    assert float(last["image_loss"]) < 0.8 * float(first["image_loss"])
    after = again.state_dict()
    moved = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert not any(name.startswith(CODECS) for name in moved)
    assert any(name.startswith(ENCODER) for name in moved)
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == ["step-000030.png", "step-000060.png"]


def test_interrupted_and_resumed_equals_uninterrupted(tmp_path, monkeypatch):
    def trained(out, stop_at=None):
        model, processor = tiny()
        run = run_of(JANUS["I"], tmp_path / out, steps=6, batch=4, log_every=2)
        if stop_at:
            forward, calls = JanusTraining.forward, []

            def interrupted(self, *args, **batch):
                calls.append(1)
                if len(calls) == stop_at:
                    signal.raise_signal(signal.SIGINT)
                return forward(self, *args, **batch)

            monkeypatch.setattr(JanusTraining, "forward", interrupted)
            with pytest.raises(KeyboardInterrupt):
                train_stage(model, processor, JANUS["I"], SOURCES, run, capacity=200)
            monkeypatch.setattr(JanusTraining, "forward", forward)
            model, processor = tiny()
        train_stage(model, processor, JANUS["I"], SOURCES, run, capacity=200)
        return model.state_dict()

    whole, resumed = trained("whole"), trained("resumed", stop_at=3)
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())


SCRIPT = """
import sys
from pathlib import Path

sys.path.insert(0, {root!r})
from tests.models.janus_tiny import tiny
from tests.train.test_janus_stages import JANUS, SOURCES, run_of, train_stage

model, processor = tiny()
run = run_of(JANUS["III"], Path(sys.argv[1]), processes=2, steps=4, batch=1, log_every=2)
# one example a batch: at every step a pathway of one process has nothing to do
train_stage(model, processor, JANUS["III"], SOURCES, run, capacity=200)
sys.stdout.write(f"weight {{sum(p.double().sum().item() for p in model.parameters())}}\\n")
"""


def test_two_processes_train_one_model_on_batches_of_different_kinds(tmp_path):
    root = Path(__file__).parents[2]
    (tmp_path / "script.py").write_text(SCRIPT.format(root=str(root)))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29637"]
    done = subprocess.run(
        [*launcher, str(tmp_path / "script.py"), str(tmp_path / "run")],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=280, cwd=root,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    weights = {line for line in done.stdout.splitlines() if line.startswith("weight")}
    assert len(weights) == 1, done.stdout


def test_kinds_that_are_missing(janus, tmp_path):
    model, processor = janus
    run = run_of(JANUS["III"], tmp_path, steps=1, batch=2)
    some = {"generation": SOURCES["generation"]}
    with pytest.raises(ValueError, match="asks for understanding, but the data has none"):
        train_stage(model, processor, JANUS["III"], some, run, ratio=(1, 0, 1))
    with pytest.raises(ValueError, match="expected three"):
        train_stage(model, processor, JANUS["III"], some, run, ratio=(1, 1))
    with pytest.raises(ValueError, match="the data has none of it"):
        train_stage(model, processor, JANUS["III"], {}, run)
    with pytest.raises(ValueError, match="nothing of this model to learn"):
        train_stage(model, processor, replace(JANUS["III"], frozen=("",)), some, run)


def test_lora_starts_as_nothing_and_merges_to_what_it_was(tmp_path):
    peft = pytest.importorskip("peft")
    model, _ = tiny()
    ids = torch.randint(8, 30, (1, 7))
    with torch.no_grad():
        before = model.read(model.embed(ids), model.begin(1, 7))
    names = set(model.state_dict())
    add_lora(model.language_model, 4)
    learning = {name for name, p in model.language_model.named_parameters() if p.requires_grad}
    assert learning and all("lora_" in name for name in learning)
    with torch.no_grad():
        assert (model.read(model.embed(ids), model.begin(1, 7)) - before).abs().max() < 1e-6
        for name, parameter in model.language_model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
        adapted = model.read(model.embed(ids), model.begin(1, 7))
        merge_lora(model.language_model, 4, tmp_path)
        merged = model.read(model.embed(ids), model.begin(1, 7))
    assert (adapted - before).abs().max() > 1e-3
    assert (merged - adapted).abs().max() < 1e-5
    assert set(model.state_dict()) == names
    fresh, _ = tiny()
    loaded = peft.PeftModel.from_pretrained(fresh.language_model, tmp_path)
    with torch.no_grad():
        theirs = loaded.base_model.model.model(input_ids=ids).last_hidden_state
    assert (theirs - adapted).abs().max() < 1e-5


def test_lora_training_writes_a_whole_model(janus, tmp_path):
    pytest.importorskip("peft")
    model, processor = janus
    before = model.language_model.get_input_embeddings().weight.detach().clone()
    run = run_of(JANUS["III"], tmp_path, steps=3, batch=4, learning_rate=1e-2)
    train_stage(model, processor, JANUS["III"], SOURCES, run, capacity=200, lora_rank=2, checkpointing=True)
    again, _ = from_pretrained(tmp_path)
    assert torch.equal(again.language_model.get_input_embeddings().weight, before)
    assert (tmp_path / "lora" / "adapter_model.safetensors").exists()


def test_a_sheet_shows_images_in_order():
    sheet = np.asarray(contact_sheet([np.full((4, 6, 3), value, np.uint8) for value in (10, 20, 30)], 2, margin=1))
    assert sheet.shape == (11, 15, 3)
    assert (sheet[1, 1, 0], sheet[1, 8, 0], sheet[6, 1, 0], sheet[6, 8, 0]) == (10, 20, 30, 255)


def test_batches_are_fields_of_the_models_own(janus):
    batch = JanusCollate(janus[1], 200)(SOURCES["text"], no_dice())
    JanusBatch(**batch)


def test_what_learns_is_compiled_block_by_block(janus, monkeypatch):
    model, _ = janus
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda block: compiled.append(block))
    freeze(model, JANUS["II"])
    compile_blocks(model)
    assert compiled == list(model.language_model.model.layers)
    compiled.clear()
    freeze(model, JANUS["III"])
    compile_blocks(model)
    assert compiled == [*model.vision_model.vision_tower.blocks, *model.language_model.model.layers]


@pytest.mark.slow
def test_compiled_it_learns_the_same(janus, tmp_path):
    """Needs a C++ compiler."""
    weights = []
    for compiled in (False, True):
        model, processor = tiny()
        run = run_of(JANUS["III"], tmp_path / str(compiled), steps=3, batch=2)
        train_stage(model, processor, JANUS["III"], SOURCES, run, capacity=200, compiled=compiled)
        weights.append(torch.nn.utils.parameters_to_vector(model.parameters()).detach())
    torch.testing.assert_close(*weights, atol=1e-5, rtol=1e-4)
