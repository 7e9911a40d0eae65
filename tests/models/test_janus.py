"""Janus: one sequence read in any way gives the same hidden states, and learning sees what it should."""

import pytest
import torch

from dualsight.models.janus import IGNORE, JANUS_PRO_1B, JANUS_PRO_7B, Janus, JanusBatch, causal_lm
from dualsight.models.janus_config import JanusConfig, JanusTextConfig
from dualsight.pathways.encoders import Encoder, EncoderConfig
from dualsight.train.janus_stages import JanusTraining
from tests.models.janus_tiny import config, tiny


@pytest.fixture(scope="module")
def model():
    return tiny()[0]


def random_ids(*shape):
    return torch.randint(8, 30, shape, generator=torch.Generator().manual_seed(1))


def example(model, text=6, images=1, codes=1, seed=0):
    """One row: text, images to understand, text, images to make."""
    generator = torch.Generator().manual_seed(seed)
    c = model.config
    seen, drawn = c.seen_tokens * images, c.drawn_tokens * codes
    length = 2 * text + seen + drawn
    ids = torch.randint(8, 30, (1, length), generator=generator)
    places = torch.zeros(1, length, dtype=torch.bool)
    places[:, text : text + seen] = True
    made = torch.zeros_like(places)
    made[:, 2 * text + seen :] = True
    labels = torch.full_like(ids, IGNORE)
    labels[:, text + seen : 2 * text + seen - 1] = ids[:, text + seen + 1 : 2 * text + seen]
    return JanusBatch(
        ids,
        torch.ones_like(ids),
        labels,
        places,
        made,
        torch.rand(images, 3, c.seen_size, c.seen_size, generator=generator) * 2 - 1,
        torch.rand(codes, 3, c.image_size, c.image_size, generator=generator) * 2 - 1,
    )


def pack(*batches, padding=0):
    """Examples end to end in one row, with padding behind."""

    def joined(name, fill):
        row = torch.cat([getattr(batch, name) for batch in batches], 1)
        return torch.nn.functional.pad(row, (0, padding), value=fill)

    numbers = torch.cat([torch.full_like(batch.ids, i + 1) for i, batch in enumerate(batches)], 1)
    return JanusBatch(
        joined("ids", 0),
        torch.nn.functional.pad(numbers, (0, padding)),
        joined("labels", IGNORE),
        joined("seen", False),
        joined("drawn", False),
        torch.cat([batch.images for batch in batches]),
        torch.cat([batch.canvases for batch in batches]),
    )


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_token_by_token_equals_transformers_own_pass(architecture):
    text = JanusTextConfig(64, 48, 96, 2, 4, 2, architecture=architecture)
    model, _ = tiny(text=text)
    ids = random_ids(2, 12)
    expected = model.language_model.model(input_ids=ids).last_hidden_state
    reading = model.begin(2, 12)
    parts = [model.read(model.embed(part), reading) for part in ids.split([5, 1, 1, 3, 2], dim=1)]
    assert (torch.cat(parts, 1) - expected).abs().max() < 1e-5


@torch.no_grad()
def test_a_left_padded_row_equals_the_row_alone(model):
    ids, padding = random_ids(2, 9), 4
    valid = torch.ones(2, 9, dtype=torch.bool)
    valid[1, :padding] = False
    reading = model.begin(2, 12)
    together = [model.read(model.embed(ids), reading, valid)[:, -1]]
    alone_reading = model.begin(1, 12)
    alone = [model.read(model.embed(ids[1:, padding:]), alone_reading)[:, -1]]
    for _ in range(3):
        token = random_ids(2, 1)
        together.append(model.read(model.embed(token), reading)[:, -1])
        alone.append(model.read(model.embed(token[1:]), alone_reading)[:, -1])
    for batch, single in zip(together, alone, strict=True):
        assert (batch[1:] - single).abs().max() < 1e-5
        assert torch.isfinite(batch).all()


@torch.no_grad()
def test_rows_that_share_a_prompt_go_on_from_one_pass_over_it(model):
    ids = random_ids(2, 6)
    shared = model.begin(2, 8)
    model.read(model.embed(ids), shared)
    rows = torch.tensor([1, 0, 1])
    chosen = shared.select(rows)
    apart = model.begin(3, 8)
    model.read(model.embed(ids[rows]), apart)
    token = random_ids(3, 1)
    assert (model.read(model.embed(token), chosen) - model.read(model.embed(token), apart)).abs().max() < 1e-5
    assert shared.memory.length == 6, "the memory that was copied stays as it was"


def test_a_memory_that_is_full_says_so(model):
    reading = model.begin(1, 3)
    with pytest.raises(ValueError, match="4 tokens do not fit a memory of 3"):
        model.read(model.embed(random_ids(1, 4)), reading)


@torch.no_grad()
def test_packed_examples_learn_as_they_would_alone(model):
    one, two = example(model, text=5, seed=1), example(model, text=9, seed=2)
    apart = [model(one), model(two)]
    together = model(pack(one, two, padding=7))
    for kind in ("text", "image"):
        tokens = [getattr(losses, f"{kind}_tokens") for losses in apart]
        mean = sum(getattr(losses, kind) * n for losses, n in zip(apart, tokens, strict=True)) / sum(tokens)
        assert getattr(together, f"{kind}_tokens") == sum(tokens)
        assert float(getattr(together, kind)) == pytest.approx(float(mean), abs=1e-5)


@torch.no_grad()
def test_the_losses_are_those_of_reading_step_by_step(model):
    batch = example(model, codes=1)
    losses = model(batch)
    embeddings = model.embed(batch.ids, batch.images, batch.seen)
    first = int(batch.drawn[0].nonzero()[0])
    reading = model.begin(1, batch.ids.shape[1])
    hidden = model.read(embeddings[:, :first], reading)
    text = [
        -model.language_model.lm_head(hidden[0, i]).log_softmax(-1)[label]
        for i, label in enumerate(batch.labels[0, :first])
        if label != IGNORE
    ]
    assert float(losses.text) == pytest.approx(float(torch.stack(text).mean()), abs=1e-5)
    nats, hidden = [], hidden[:, -1]
    for code in model.gen_vision_model.encode(batch.canvases)[0]:
        nats.append(-model.gen_head(hidden)[0].log_softmax(-1)[code])
        hidden = model.read(model.embed_codes(code.view(1, 1)), reading)[:, -1]
    assert float(losses.image) == pytest.approx(float(torch.stack(nats).mean()), abs=1e-5)
    assert losses.image_tokens == model.config.drawn_tokens


def test_the_two_pathways_learn_from_their_own_task():
    model, _ = tiny()
    model(example(model)).text.backward()
    assert model.aligner.layers[0].weight.grad.abs().sum() > 0
    assert model.gen_head.vision_head.weight.grad is None
    model.zero_grad()
    model(example(model)).image.backward()
    assert model.gen_head.vision_head.weight.grad.abs().sum() > 0
    assert model.gen_embed.weight.grad.abs().sum() > 0
    assert model.language_model.lm_head.weight.grad is None, "the head of text is not tied to anything"


def test_an_image_is_learnt_through_what_the_encoder_sees_in_it_too():
    """Behind layer 1, by the position that predicts a token; nothing else changes, and the encoder does not move."""
    model, _ = tiny()
    batch = example(model, images=0)
    plain = model(batch)
    assert plain.alignment is None and "alignment_loss" not in JanusTraining(model)(**vars(batch))
    model.align(1)
    aligned = model(batch)
    with torch.no_grad():
        embeddings = model.embed(batch.ids)
        first = int(batch.drawn[0].nonzero()[0])
        embeddings[:, first:] = model.embed_codes(model.gen_vision_model.encode(batch.canvases))
        _, layers = model.run(batch.segments, embeddings, every_layer=True)
        told = model.repa_head(layers[1][:, first - 1 : -1])
        seen = model.vision_model(torch.nn.functional.interpolate(batch.canvases, (32, 32), mode="bilinear"))
        cosine = torch.cosine_similarity(told, seen, dim=-1).mean()
    assert aligned.alignment.item() == pytest.approx(-cosine.item(), abs=1e-5)
    assert aligned.image.item() == pytest.approx(plain.image.item(), abs=1e-6)
    losses = JanusTraining(model)(**vars(batch))
    assert losses["loss"].item() == pytest.approx((plain.text + plain.image - cosine).item(), abs=1e-5)
    losses["loss"].backward()
    assert model.repa_head.layers[0].weight.grad.any()
    assert not any(p.grad.any() for p in model.vision_model.parameters())
    assert model.config.align_after == 1
    with pytest.raises(ValueError, match="align_after is 3; what makes the images has layers 1 to 2"):
        model.align(3)
    with pytest.raises(ValueError, match="this model has no such tokens"):
        tiny(encoder=None)[0].align(1)


def test_embeddings_and_head_are_not_tied(model):
    language_model = model.language_model
    assert language_model.lm_head.weight is not language_model.get_input_embeddings().weight


@torch.no_grad()
def test_gradient_checkpointing_changes_nothing():
    model, _ = tiny()
    before = model(example(model))
    model.language_model.activation_checkpointing_enable()
    model.train()
    with torch.enable_grad():
        losses = model(example(model))
        losses.text.backward()
    assert float(losses.text.detach()) == pytest.approx(float(before.text), abs=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["siglip", "clip", "dinov2"])
def test_encoders_swap(kind):
    encoder = EncoderConfig(kind, 32, 8, 32, 2, 4)
    model, _ = tiny(encoder=encoder)
    assert model.see(torch.rand(2, 3, 32, 32)).shape == (2, 16, 48)
    losses = model(example(model))
    assert torch.isfinite(losses.text) and torch.isfinite(losses.image)


def test_clip_is_read_before_its_last_layer_and_without_its_class_token():
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig("clip", 32, 8, 32, 3, 4, layer=-2)).eval()
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        hidden = encoder.vision_tower(pixel_values=images, output_hidden_states=True).hidden_states
        assert torch.equal(encoder(images), hidden[2][:, 1:])


@torch.no_grad()
def test_without_an_encoder_understanding_goes_through_the_codes():
    model, _ = tiny(encoder=None)
    images = torch.rand(1, 3, 8, 8) * 2 - 1
    assert torch.equal(model.see(images), model.embed_codes(model.gen_vision_model.encode(images)))
    assert not hasattr(model, "vision_model")


def test_places_and_images_have_to_match(model):
    ids = random_ids(1, 20)
    ids[0, :5] = model.config.tokens.image
    with pytest.raises(ValueError, match="no image came with it"):
        model.embed(ids)
    with pytest.raises(ValueError, match=r"5 places .* 1 images of 16 tokens"):
        model.embed(ids, torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize(("size", "parameters"), [(JANUS_PRO_1B, 2_089_232_011), (JANUS_PRO_7B, 7_420_368_523)])
def test_released_sizes(size, parameters):
    with torch.device("meta"):
        model = Janus(size)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_configs_go_to_json_and_back():
    for made in (config(), config(encoder=None), JANUS_PRO_7B):
        assert JanusConfig.from_dict(made.to_dict()) == made
    with pytest.raises(ValueError, match="unknown key colour"):
        JanusConfig.from_dict({**config().to_dict(), "colour": 1})


def test_configs_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="expected llama or qwen2"):
        JanusTextConfig(64, 48, 96, 2, 4, 4, architecture="gpt")
    with pytest.raises(ValueError, match="expected siglip, clip or dinov2"):
        EncoderConfig("vgg", 32, 8, 32, 2, 4)
    with pytest.raises(ValueError, match="not made of 2-pixel cells"):
        config(image_size=9)
    with pytest.raises(ValueError, match="not made of 8-pixel patches"):
        EncoderConfig("siglip", 30, 8, 32, 2, 4)


def test_the_language_models_config_has_no_ids_of_its_own():
    made = causal_lm(config().text).config
    assert (made.pad_token_id, made.bos_token_id, made.eos_token_id) == (None, None, None)
