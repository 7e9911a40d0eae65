"""JanusFlow: what it learns from, what an image depends on, and that a prompt is read once."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dualsight.checkpoints.janus import from_pretrained, model_of, save_pretrained
from dualsight.inference.assistant import Assistant
from dualsight.inference.flow import draw_by_flow
from dualsight.models import janus_flow
from dualsight.models.janus import Janus
from dualsight.models.janus_config import JANUS_FLOW_1_3B, FlowPathwayConfig, JanusConfig
from dualsight.models.janus_core import JanusBatch
from dualsight.models.janus_flow import JanusFlow
from dualsight.models.janus_processor import JanusProcessor
from dualsight.pathways.flow import guided, integrate, seeded_noise
from dualsight.pathways.vae import VAE, DiffusersVAE, PretrainedVAE, VAEConfig
from dualsight.train.janus_data import JanusCollate
from dualsight.train.janus_stages import JANUS_FLOW, JanusTraining, freeze, run_of, train_stage
from dualsight.types import Conversation, Drawing, Turn
from tests.models.janus_tiny import check_that_images_do_not_depend_on_their_batch, config, tokenizer
from tests.train.learning import learn

VAE_SIZES = VAEConfig(base_channels=8, ch_mult=(1, 2), res_blocks=1, latent_channels=3, norm_groups=4)
PATHWAY = FlowPathwayConfig(16, 1, VAE_SIZES)
OPTIONS = {"plain": PATHWAY, "released": replace(PATHWAY, begin_token=True, hides_padding=True)}
TEXTS = ("a red cat", "the dog on the two red cat", "green")


def made(pathway=PATHWAY, **changes):
    torch.manual_seed(0)
    model = JanusFlow(config(vq=None, flow=pathway, image_size=16, **changes)).eval()
    for name, parameter in model.named_parameters():
        if "bias" in name or "beg_of" in name:
            torch.nn.init.normal_(parameter, std=0.1)  # zeros would hide mistakes
    return model, JanusProcessor(model.config, tokenizer())


@pytest.fixture(params=list(OPTIONS))
def janus(request):
    return made(OPTIONS[request.param])


def drawings(count=3):
    rng = np.random.default_rng(0)
    return [Drawing(TEXTS[i % 3], rng.integers(0, 255, (16, 16, 3), np.uint8)) for i in range(count)]


def asked(question="what is this"):
    picture = np.random.default_rng(1).integers(0, 255, (16, 16, 3), np.uint8)
    return Conversation((Turn("user", f"<image> {question}"), Turn("assistant", "red")), (picture,))


def batch_of(processor, examples, capacity=300, drop=0.0):
    return JanusCollate(processor, capacity, caption_drop=drop)(examples, np.random.default_rng(0))


def same_points(monkeypatch):
    """Every image gets the noise and the time that follow from its own latents."""

    def points(latents):
        noise = seeded_noise([int(1000 * x.abs().sum()) for x in latents], latents.shape[1:])
        t = noise[:, 0, 0, 0].sigmoid()
        target = latents - noise
        return noise + t[:, None, None, None] * target, t, target

    monkeypatch.setattr(janus_flow, "on_the_way", points)


# --- one sequence ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def reread(model, prompt, unconditional, x, t):
    """The velocity by one plain pass over the whole of prompt, t and latents, as the release's loop makes it."""
    ids = torch.tensor([prompt[:-1]])
    entering = model.enter(x, t)
    embeddings = torch.cat([model.language_model.model.embed_tokens(ids), entering.tokens], 1)
    length, size = ids.shape[1], embeddings.shape[1]
    mask = torch.ones(1, size, dtype=torch.long)
    if unconditional and model.flow.hides_padding:
        mask[:, 1:length] = 0
    # the position of what is hidden is counted
    states = model.language_model.model(
        inputs_embeds=embeddings, attention_mask=mask, position_ids=torch.arange(size)[None], use_cache=False
    )
    return model.leave(states.last_hidden_state[:, -(size - length - 1) :], entering)


@torch.inference_mode()
@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_prompts_that_are_read_once_draw_what_rereading_draws(janus, solver):
    """Prompts of different lengths in one batch, with guidance, against each alone without any memory."""
    model, processor = janus
    latents = []
    decode = model.gen_vae.decode
    model.gen_vae.decode = lambda x: (latents.append(x), decode(x))[1]
    draw_by_flow(model, processor, TEXTS, seeds=[5, 6, 5], guidance=2.5, steps=4, solver=solver)
    for text, seed, latent in zip(TEXTS, [5, 6, 5], latents[0], strict=True):
        prompt = processor.drawing(text)
        away = processor.unconditional(prompt)
        velocity = guided(
            lambda x, t, p=prompt: reread(model, p, False, x, t), lambda x, t, p=away: reread(model, p, True, x, t), 2.5
        )
        (expected,) = integrate(velocity, seeded_noise([seed], model.config.latents), 4, solver)
        torch.testing.assert_close(latent, expected, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_a_step_reads_only_what_follows_the_prompt(janus, monkeypatch):
    model, processor = janus
    read, sizes = model.read, []
    monkeypatch.setattr(model, "read", lambda x, *rest: (sizes.append(tuple(x.shape[:2])), read(x, *rest))[1])
    draw_by_flow(model, processor, ["a red cat"], per_prompt=3, steps=2, guidance=2.0)
    length = len(processor.drawing("a red cat")) - 1
    assert sizes[0] == (2, length), "one prompt and the unconditional one"
    assert sizes[1:] == [(3, 1 + model.config.drawn_tokens)] * 4
    sizes.clear()
    draw_by_flow(model, processor, ["a red cat"], per_prompt=3, steps=2, guidance=1.0)
    assert sizes == [(1, length), *[(3, 1 + model.config.drawn_tokens)] * 2], "without guidance nothing unconditional"


@torch.inference_mode()
def test_a_step_leaves_the_prompt_as_it_is(janus):
    model, processor = janus
    ids, valid = processor.left_padded([processor.drawing(text) for text in TEXTS])
    reading = model.ask(ids, valid)
    length, before = reading.memory.length, reading.memory.buffer[:, :, :, :, : ids.shape[1] - 1].clone()
    x, t = torch.randn(3, *model.config.latents), torch.rand(3)
    first = model.velocity(x, t, reading)
    model.velocity(-x, t, reading)
    assert reading.memory.length == length == ids.shape[1] - 1
    assert torch.equal(reading.memory.buffer[:, :, :, :, :length], before)
    assert torch.equal(model.velocity(x, t, reading), first)


def test_an_image_does_not_depend_on_its_batch(janus):
    check_that_images_do_not_depend_on_their_batch(*janus, TEXTS, steps=3, side=16)


@torch.no_grad()
def test_the_prompt_and_the_time_matter(janus):
    model, processor = janus
    x, t = torch.randn(1, *model.config.latents), torch.tensor([0.4])

    def velocity(text, time=t):
        return model.velocity(x, time, model.ask(*processor.left_padded([processor.drawing(text)])))

    assert (velocity("a red cat") - velocity("a green cat")).abs().max() > 1e-4
    assert (velocity("a red cat") - velocity("a red cat", t + 0.1)).abs().max() > 1e-4


# --- learning -------------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("drop", [0.0, 1.0])
def test_a_packed_batch_has_the_losses_of_its_examples(janus, monkeypatch, drop):
    """Over two rows, with answers between; with all captions and with none."""
    model, processor = janus
    same_points(monkeypatch)
    training = JanusTraining(model)
    examples = [drawings()[0], asked(), *drawings()[1:]]
    together = batch_of(processor, examples, 90, drop)
    assert len(together["ids"]) > 1 and together["segments"].max() > 1
    apart = [training(**batch_of(processor, [example], 90, drop)) for example in examples]
    losses = training(**together)
    mean = np.mean([float(apart[i]["image_loss"]) for i in (0, 2, 3)])
    assert float(losses["image_loss"]) == pytest.approx(float(mean), abs=1e-5)
    assert float(losses["text_loss"]) == pytest.approx(float(apart[1]["text_loss"]), abs=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("drop", [0.0, 1.0])
def test_what_is_learnt_is_what_draws(janus, monkeypatch, drop):
    """The training pass has the velocity that sampling asks for, behind the prompt and behind the unconditional one."""
    model, processor = janus
    (drawing,) = drawings(1)
    batch = JanusBatch(**batch_of(processor, [drawing], drop=drop))
    same_points(monkeypatch)
    x, t, target = janus_flow.on_the_way(model.gen_vae.encode(batch.canvases))
    prompt = processor.drawing(drawing.prompt)
    prompt = processor.unconditional(prompt) if drop else prompt
    velocity = model.velocity(x, t, model.ask(*processor.left_padded([prompt])))
    assert float(model(batch).image) == pytest.approx(float((velocity - target).square().mean()), abs=1e-5)


def test_the_flow_teaches_the_language_model_and_both_ends(janus):
    model, processor = janus
    JanusTraining(model)(**batch_of(processor, [*drawings(), asked()]))["loss"].backward()
    silent = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert {name.split(".")[0] for name in silent} == {"gen_vae"}


def test_four_images_are_learnt_by_heart():
    """Each prompt draws its own image."""
    model, processor = made()
    colors = ("red", "green", "blue", "cat")
    pictures = [np.full((16, 16, 3), rgb, np.uint8) for rgb in ((230, 20, 20), (20, 230, 20), (20, 20, 230), (9, 9, 9))]
    examples = [Drawing(f"a {color}", picture) for color, picture in zip(colors, pictures, strict=True)]
    canvases = torch.stack([processor.canvas(picture) for picture in pictures])
    model.gen_vae.standardise(canvases + 0.05 * torch.randn(canvases.shape))
    freeze(model, JANUS_FLOW["III"])
    batch = batch_of(processor, examples * 4, 80)
    losses = [step["image_loss"] for step in learn(JanusTraining(model), batch, 80, 5e-3)]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    latents = []
    decode = model.gen_vae.decode
    model.gen_vae.decode = lambda x: (latents.append(x), decode(x))[1]
    draw_by_flow(model.eval(), processor, [f"a {color}" for color in colors], steps=10, guidance=1.0)
    with torch.no_grad():
        distance = torch.cdist(latents[0].flatten(1), model.gen_vae.encode(canvases).flatten(1))
    assert distance.argmin(1).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("stage", list(JANUS_FLOW))
def test_stages_freeze_what_the_paper_freezes(stage):
    model, _ = made(OPTIONS["released"], align_after=1)
    freeze(model, JANUS_FLOW[stage])
    learning = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    ends = {
        f"vision_gen_{part}" for part in ("enc_model", "enc_aligner", "dec_aligner_norm", "dec_aligner", "dec_model")
    }
    first = ends | {"aligner", "beg_of_und_embed", "repa_head"}
    assert learning == first | {"I": set(), "II": {"language_model"}, "III": {"language_model", "vision_model"}}[stage]


def test_it_learns_by_the_same_stages_and_draws_samples(tmp_path):
    model, processor = made()
    run = run_of(JANUS_FLOW["III"], tmp_path, steps=2, batch=3)
    sources = {"generation": drawings(), "understanding": [asked()]}
    train_stage(model, processor, JANUS_FLOW["III"], sources, run, 100, sample_prompts=["green"], sample_every=2)
    assert isinstance(from_pretrained(tmp_path)[0], JanusFlow)
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["step-000002.png"]


# --- REPA -----------------------------------------------------------------------------------------------------------


def test_alignment_is_learnt_and_the_encoder_is_not_moved_by_it():
    model, processor = made(align_after=1)
    batch = batch_of(processor, drawings())
    model(JanusBatch(**batch)).alignment.backward()
    assert model.repa_head.layers[0].weight.grad.any()
    assert all(p.grad is None for p in model.vision_model.parameters())
    with torch.no_grad():
        canvases = batch["canvases"]
        seen = model.vision_model(torch.nn.functional.interpolate(canvases, (32, 32), mode="bilinear", antialias=True))
        states = torch.randn(*seen.shape[:2], model.config.text.hidden_size)
        cosine = torch.cosine_similarity(model.repa_head(states), seen, dim=-1).mean()
        assert float(model.alignment_loss(states, canvases)) == pytest.approx(-float(cosine), abs=1e-5)
        assert float(model.alignment_loss(states.repeat(3, 1, 1), canvases)) == pytest.approx(-float(cosine), abs=1e-5)
    first, *_, last = learn(JanusTraining(model), batch, 12, 3e-3)
    assert last["alignment_loss"] < first["alignment_loss"] - 0.2, "the cosine rises, too"
    plain, _ = made()
    assert "repa_head.layers.4.weight" in model.state_dict() and not hasattr(plain, "repa_head")


# --- understanding --------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_begin_token_stands_in_front_of_every_image():
    """At the place of <begin_of_image>: with the image's own tokens one more than it has patches."""
    model, processor = made(OPTIONS["released"])
    prompts = processor.prompts([Conversation(asked().turns[:1], asked().images)])
    embeddings = model.embed(prompts.ids, prompts.images)
    begin = (prompts.ids[0] == model.config.tokens.begin_image).nonzero().item()
    assert torch.equal(embeddings[0, begin], model.beg_of_und_embed[0])
    assert torch.equal(embeddings[0, begin + 1 : begin + 1 + model.config.seen_tokens], model.see(prompts.images)[0])
    others = torch.ones(prompts.ids.shape[1], dtype=torch.bool)
    others[begin : begin + 1 + model.config.seen_tokens] = False
    assert torch.equal(embeddings[0, others], model.language_model.model.embed_tokens(prompts.ids[0, others]))
    assert JANUS_FLOW_1_3B.seen_tokens + 1 == 577


def test_it_answers(janus):
    assistant = Assistant(*janus)
    assert isinstance(assistant.answer(asked().images[0], "what is this", max_tokens=3), str)


# --- for users ------------------------------------------------------------------------------------------------------


def test_the_caller_need_not_know_which_janus_it_is(janus):
    assistant = Assistant(*janus)
    steps, partial = [], []
    (image,) = assistant.generate_images(
        ["green"], steps=4, on_step=lambda *s: steps.append(s), on_partial=partial.append, partial_every=2
    )
    assert image.shape == (16, 16, 3) and len(partial) == 1
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    (again,) = assistant.generate_images(["green"], guidance=2.0, steps=30, solver="euler")
    assert np.array_equal(again, assistant.generate_images(["green"])[0]), "the release's settings are the default"
    picture = np.full((16, 16, 3), (200, 30, 90), np.uint8)
    assert assistant.reconstruct([picture])[0].shape == (16, 16, 3)
    with pytest.raises(ValueError, match="draws by flow: it has no temperature"):
        assistant.generate_images(["green"], temperature=0.5)


def test_it_is_saved_and_loaded_whole(tmp_path):
    model, processor = made(OPTIONS["released"], align_after=2)
    save_pretrained(model, processor, tmp_path)
    again, its_processor = from_pretrained(tmp_path)
    assert isinstance(again, JanusFlow) and again.config == model.config
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())
    first, second = (
        draw_by_flow(*pair, ["green"], steps=2)[0] for pair in ((model, processor), (again, its_processor))
    )
    assert np.array_equal(first, second)


def test_an_autoencoder_that_is_no_part_of_the_checkpoint(monkeypatch):
    vae = PretrainedVAE("somewhere", latent_channels=3, factor=2)
    model, processor = made(replace(PATHWAY, vae=vae))
    assert not [name for name in model.state_dict() if "vae" in name]
    asked_for = []

    class Fetched(VAE):
        @classmethod
        def fetch(cls, name):
            asked_for.append(name)
            return cls(VAE_SIZES)

    monkeypatch.setattr(DiffusersVAE, "from_pretrained", Fetched.fetch)
    for _ in range(2):
        draw_by_flow(model, processor, ["green"], steps=1)
    assert asked_for == ["somewhere"], "fetched once, when it is needed"
    assert not [name for name in model.state_dict() if "vae" in name], "and no part of the model then either"
    assert torch.isfinite(JanusTraining(model)(**batch_of(processor, drawings()))["image_loss"])
    with pytest.raises(ValueError, match="4 channels, 2 pixels per cell; the model was made for 3 and 2"):
        model.use_codec(VAE(replace(VAE_SIZES, latent_channels=4)))
    with pytest.raises(ValueError, match="a codec of its own"):
        made()[0].use_codec(VAE(VAE_SIZES))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_draws(dtype):
    model, processor = made(OPTIONS["released"])
    (exact,) = draw_by_flow(model, processor, ["green"], steps=2)
    (rough,) = draw_by_flow(model.to(dtype), processor, ["green"], steps=2)
    assert np.abs(exact.astype(int) - rough).max() < 10


def test_the_released_size_is_577_tokens_of_an_image():
    """Shapes only: t and 24 x 24 patches of 4 x 48 x 48 latents go in, a velocity comes out."""
    with torch.device("meta"):
        model = JanusFlow(JANUS_FLOW_1_3B)
        entering = model.enter(torch.empty(2, *JANUS_FLOW_1_3B.latents), torch.empty(2))
        velocity = model.leave(entering.tokens[:, 1:], entering)
    assert entering.tokens.shape == (2, 577, 2048) and velocity.shape == (2, 4, 48, 48)


def test_configs_that_cannot_be_are_refused():
    good = made()[0].config
    assert JanusConfig.from_dict(good.to_dict()) == good
    assert JanusConfig.from_dict(JANUS_FLOW_1_3B.to_dict()) == JANUS_FLOW_1_3B
    assert isinstance(model_of(good), JanusFlow)
    with pytest.raises(ValueError, match="give one of the three"):
        replace(good, flow=None)
    with pytest.raises(ValueError, match="give one of the three"):
        replace(good, vq=config().vq)
    with pytest.raises(ValueError, match="understands through the tokens of vq"):
        replace(good, encoder=None)
    with pytest.raises(ValueError, match="18 pixels is not made of 4-pixel cells"):
        replace(good, image_size=18)
    with pytest.raises(ValueError, match="a width of 15 and 1 blocks"):
        replace(PATHWAY, width=15)
    with pytest.raises(ValueError, match="see Janus"):
        JanusFlow(config())
    with pytest.raises(ValueError, match="see JanusDiT, JanusFlow"):
        Janus(good)
