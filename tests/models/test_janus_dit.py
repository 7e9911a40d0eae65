"""Janus with a diffusion transformer: what it learns from, and what an image depends on."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dualsight.checkpoints.janus import from_pretrained, save_pretrained
from dualsight.inference.assistant import Assistant
from dualsight.inference.flow import draw_by_flow
from dualsight.models.janus import Janus
from dualsight.models.janus_config import DiTPathwayConfig, JanusConfig
from dualsight.models.janus_core import JanusBatch
from dualsight.models.janus_dit import JanusDiT, prompts_of
from dualsight.models.janus_processor import JanusProcessor
from dualsight.pathways.dit import DiTConfig
from dualsight.pathways.vae import VAEConfig
from dualsight.train.janus_data import JanusCollate
from dualsight.train.janus_stages import JANUS, JanusTraining, run_of, train_stage
from dualsight.types import Drawing
from tests.models.janus_tiny import check_that_images_do_not_depend_on_their_batch, config, tokenizer
from tests.train.learning import learn

PATHWAY = DiTPathwayConfig(
    DiTConfig(channels=3, width=32, depth=2, heads=2, condition_width=48, condition_layers=(0, 1, 2)),
    VAEConfig(base_channels=8, ch_mult=(1, 2), res_blocks=1, latent_channels=3, norm_groups=4),
)


@pytest.fixture
def janus():
    torch.manual_seed(0)
    made = config(vq=None, dit=PATHWAY)
    model = JanusDiT(made).eval()
    for name, parameter in model.dit.named_parameters():  # a new transformer answers 0, whatever it is asked
        if "modulation" in name or name.startswith("out"):
            torch.nn.init.normal_(parameter, std=0.2)
    return model, JanusProcessor(made, tokenizer())


def drawings(count=3):
    rng = np.random.default_rng(0)
    texts = ("a red cat", "the dog on the two red cat", "green")
    return [Drawing(texts[i], rng.integers(0, 255, (8, 8, 3), np.uint8)) for i in range(count)]


@torch.no_grad()
def test_every_image_is_asked_for_by_its_own_prompt(janus):
    """Packed prompts of different lengths, over two rows: the states of each are those of the prompt alone."""
    model, processor = janus
    examples = drawings()
    batch = JanusCollate(processor, 30, caption_drop=0)(examples, np.random.default_rng(0))
    training = JanusTraining(model)
    assert len(batch["ids"]) > 1 and len(batch["canvases"]) == 3
    made = JanusBatch(**batch)
    _, layers = model.run(made.segments, model.embed(made.ids), every_layer=True)
    states, visible = prompts_of(made, torch.stack(layers, 2))
    lengths = visible.sum(1).tolist()
    prompts = {len(processor.drawing(d.prompt)): processor.drawing(d.prompt) for d in examples}
    assert sorted(lengths) == sorted(prompts)
    for row, length in enumerate(lengths):
        ids = torch.tensor([prompts[length]])
        alone = model.read(model.embed(ids), model.begin(1, length))[0]
        assert (states[row, :length, -1] - alone).abs().max() < 1e-5
        assert torch.equal(states[row, :length, 0], model.embed(ids)[0])
    assert torch.isfinite(training(**batch)["image_loss"])


def test_the_transformer_learns_what_the_encoder_sees_and_the_encoder_is_not_moved_by_it():
    torch.manual_seed(0)
    made = config(vq=None, image_size=16, dit=PATHWAY, align_after=1)
    model, rng = JanusDiT(made), np.random.default_rng(0)
    examples = [Drawing("green", rng.integers(0, 255, (16, 16, 3), np.uint8)) for _ in range(3)]
    batch = JanusCollate(JanusProcessor(made, tokenizer()), 100)(examples, rng)
    first, *_, last = learn(JanusTraining(model), batch, 20, 3e-3)
    assert last["alignment_loss"] < first["alignment_loss"] - 0.2, "the cosine rises, too"
    plain = JanusDiT(replace(made, align_after=None))
    assert not hasattr(plain, "repa_head")
    assert not any(p.grad.any() for p in model.vision_model.parameters())
    with pytest.raises(ValueError, match="align_after is 3; what makes the images has layers 1 to 2"):
        plain.align(3)
    with pytest.raises(ValueError, match=r"the 4 tokens of an image to make .* this model has 16 such tokens"):
        replace(made, image_size=8)


def test_the_flow_teaches_the_language_model(janus):
    model, processor = janus
    batch = JanusCollate(processor, 100)(drawings(), np.random.default_rng(0))
    JanusTraining(model)(**batch)["image_loss"].backward()
    assert model.language_model.model.layers[0].self_attn.q_proj.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.gen_vae.parameters())


def test_an_image_does_not_depend_on_its_batch(janus):
    check_that_images_do_not_depend_on_their_batch(*janus, [d.prompt for d in drawings()], steps=4, side=8)


def test_images_of_a_prompt_share_its_pass(janus, monkeypatch):
    model, processor = janus
    run, rows = model.run, []
    monkeypatch.setattr(model, "run", lambda x, *rest, **how: (rows.append(len(x)), run(x, *rest, **how))[1])
    draw_by_flow(model, processor, ["a red cat"], per_prompt=3, steps=1)
    draw_by_flow(model, processor, ["a red cat"], per_prompt=3, steps=1, guidance=1.0)
    assert rows == [2, 1], "with guidance the prompt and the unconditional one; without, the prompt"


def test_progress_and_partial_images(janus):
    steps, partial = [], []
    draw_by_flow(*janus, ["green"], steps=4, on_step=lambda *s: steps.append(s), on_partial=partial.append,
                 partial_every=2)  # fmt: skip
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert len(partial) == 1 and partial[0][0].shape == (8, 8, 3)


def test_it_is_saved_and_loaded_whole(janus, tmp_path):
    model, processor = janus
    save_pretrained(model, processor, tmp_path)
    again, its_processor = from_pretrained(tmp_path)
    assert isinstance(again, JanusDiT) and again.config == model.config
    assert all(torch.equal(t, again.state_dict()[name]) for name, t in model.state_dict().items())
    first, second = (draw_by_flow(*pair, ["green"], steps=2)[0] for pair in (janus, (again, its_processor)))
    assert np.array_equal(first, second)


def test_it_learns_by_the_same_stages(janus, tmp_path):
    model, processor = janus
    run = run_of(JANUS["III"], tmp_path, steps=2, batch=3)
    train_stage(model, processor, JANUS["III"], {"generation": drawings()}, run, capacity=100)
    assert isinstance(from_pretrained(tmp_path)[0], JanusDiT)


def test_a_setting_of_the_other_way_is_refused(janus):
    assistant = Assistant(*janus)
    with pytest.raises(ValueError, match="draws by flow: it has no temperature"):
        assistant.generate_images(["green"], temperature=0.5)
    assert assistant.generate_images(["green"], steps=1, guidance=2.0)[0].shape == (8, 8, 3)
    with pytest.raises(ValueError, match=r"guidance is 0\.2"):
        assistant.generate_images(["green"], guidance=0.2)


def test_pictures_through_the_autoencoder_and_back(janus):
    model, processor = janus
    picture = np.full((8, 8, 3), (200, 30, 90), np.uint8)
    (back,) = Assistant(*janus).reconstruct([picture])
    with torch.no_grad():
        expected = model.gen_vae.decode(model.gen_vae.encode(processor.canvas(picture)[None]))
    assert np.array_equal(back, processor.finished(expected)[0])


def test_configs_that_cannot_be_are_refused(janus):
    made = janus[0].config
    assert JanusConfig.from_dict(made.to_dict()) == made
    with pytest.raises(ValueError, match="give one of the three"):
        replace(made, dit=None)
    with pytest.raises(ValueError, match="understands through the tokens of vq"):
        replace(made, encoder=None)
    with pytest.raises(ValueError, match="see JanusDiT"):
        Janus(made)
    with pytest.raises(ValueError, match=r"reads states of width 48.* 32 wide"):
        JanusDiT(replace(made, text=replace(made.text, hidden_size=32)))
