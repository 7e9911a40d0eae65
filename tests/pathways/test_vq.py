"""The golden file was recorded from the released Janus on random weights; its metadata says how."""

import gzip
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from dualsight.pathways.vq import TINY, UNUSED, VQ_16, VQConfig, VQTokenizer, unit

GOLDEN = Path(__file__).parents[1] / "golden"
PREFIX = "weights.gen_vision_model."
SMALL = replace(TINY, base_channels=8, encoder_ch_mult=(1, 2), decoder_ch_mult=(1, 2), z_channels=8, codebook_size=32)


def close(actual, expected, tolerance=1e-5):
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


@pytest.fixture(scope="module")
def golden():
    with safe_open(GOLDEN / "janus.safetensors", "pt") as file:
        names = [name for name in file.keys() if name.startswith(("vq.", "generation", PREFIX))]  # noqa: SIM118
        return {name: file.get_tensor(name) for name in names} | json.loads(file.metadata()["config"])


@pytest.fixture(scope="module")
def released(golden):
    sizes = {name: tuple(x) if isinstance(x, list) else x for name, x in golden["vq"].items()}
    model = VQTokenizer(VQConfig(codebook_dim=sizes.pop("codebook_embed_dim"), **sizes))
    weights = {name.removeprefix(PREFIX): x for name, x in golden.items() if name.startswith(PREFIX)}
    weights.pop(UNUSED)
    model.load_state_dict(weights, strict=True)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return VQTokenizer(SMALL).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images():
    return torch.rand(5, 3, 8, 12, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_encoding_equals_the_release(golden, released):
    ids = released.encode(golden["vq.images"])
    assert torch.equal(ids, golden["vq.indices"])
    close(released.lookup(ids), golden["vq.quantised"].flatten(2).transpose(1, 2))


def test_decoding_equals_the_release(golden, released):
    close(released.decode(golden["vq.indices"], (8, 8)), golden["vq.decoded"])
    for number in range(2):
        tokens = golden[f"generation{number}.tokens"][None]
        close(released.decode(tokens, (8, 8)), golden[f"generation{number}.image"])


def test_the_released_size_has_the_released_names_shapes_and_count():
    with gzip.open(GOLDEN / "janus_keys.json.gz") as file:
        official = json.load(file)["janus_pro_7b"]
    prefix = "gen_vision_model."
    expected = {name.removeprefix(prefix): tuple(s) for name, s in official.items() if name.startswith(prefix)}
    expected.pop(UNUSED)
    with torch.device("meta"):
        model = VQTokenizer(VQ_16)
    assert {name: tuple(x.shape) for name, x in model.state_dict().items()} == expected
    assert sum(math.prod(shape) for shape in expected.values()) == 71_883_403
    assert VQ_16.grid(384, 384) == (24, 24)


def test_grids_that_are_not_square_keep_rows_and_columns(small, images):
    """Token r * columns + c is the cell at row r and column c, of the encoder's map and of the decoder's."""
    assert small.config.grid(8, 12) == (4, 6)
    ids = small.encode(images)
    seen = small.quant_conv(small.encoder(images))
    read = torch.empty(5, 8, 4, 6)
    for row in range(4):
        for column in range(6):
            token = row * 6 + column
            assert torch.equal(ids[:, token], small.quantize.nearest(unit(seen[:, :, row, column])))
            read[:, :, row, column] = small.lookup(ids)[:, token]
    close(small.decode(ids, (4, 6)), small.decoder(small.post_quant_conv(read)))


def test_ids_and_their_codes_decode_to_the_same_image(small, images):
    ids = small.encode(images)
    assert torch.equal(small.decode(ids, (4, 6)), small.decode(small.lookup(ids), (4, 6)))


def test_a_batch_in_chunks_equals_one_by_one(small, images):
    ids = small.encode(images, chunk=2)
    assert torch.equal(ids, torch.cat([small.encode(image[None]) for image in images]))
    decoded = small.decode(ids, (4, 6), chunk=2)
    close(decoded, torch.cat([small.decode(row[None], (4, 6)) for row in ids]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_runs_in_its_own_type(small, images, dtype):
    half = VQTokenizer(SMALL).to(dtype)
    half.load_state_dict(small.state_dict())
    ids = half.encode(images)
    codes = half.lookup(ids)
    close(codes.float().norm(dim=-1), torch.ones(5, 24), 1e-2)
    decoded = half.decode(ids, (4, 6))
    assert decoded.dtype == dtype
    close(decoded.float(), small.decode(ids, (4, 6)), 0.1)


def test_ids_are_exact_under_autocast(small, images):
    """Where a model is trained in bfloat16, its codec is not: rounded, images would be learnt as other tokens."""
    with torch.autocast("cpu", torch.bfloat16):
        ids = small.encode(images)
    assert torch.equal(ids, small.encode(images))
    rough = VQTokenizer(small.config).bfloat16()
    rough.load_state_dict(small.state_dict())
    assert not torch.equal(ids, rough.encode(images)), "it does make a difference"


def test_only_the_direction_of_a_code_counts(small, images):
    scaled = VQTokenizer(SMALL)
    scaled.load_state_dict(small.state_dict())
    scaled.quantize.embedding.weight.data *= torch.rand(32, 1).exp() * 10
    assert torch.equal(scaled.encode(images), small.encode(images))
    close(scaled.lookup(torch.arange(32)[None]), small.lookup(torch.arange(32)[None]))


def test_the_gradient_passes_the_choice_of_a_code(images):
    torch.manual_seed(0)
    model = VQTokenizer(SMALL)
    output = model(images)
    close(output.images, model.decode(output.ids, (4, 6)))
    output.images.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.encoder.parameters())
    assert model.quantize.embedding.weight.grad is None, "codes move by their own loss only"


def test_each_loss_moves_its_own_side(images):
    torch.manual_seed(0)
    model = VQTokenizer(SMALL)
    output = model(images)
    close(output.codebook_loss.detach(), output.commitment_loss.detach())
    output.codebook_loss.backward()
    assert model.quantize.embedding.weight.grad is not None and model.quant_conv.weight.grad is None
    model.zero_grad()
    model(images).commitment_loss.backward()
    assert model.quantize.embedding.weight.grad is None and model.quant_conv.weight.grad is not None


def test_bad_input_is_named(small, images):
    with pytest.raises(ValueError, match=r"8 x 11 pixels.*multiples of 2"):
        small.encode(images[..., :11])
    with pytest.raises(ValueError, match=r"24 tokens per image.*5 x 6"):
        small.decode(small.encode(images), (5, 6))
    with pytest.raises(ValueError, match="differ in length"):
        VQConfig(encoder_ch_mult=(1, 2))
