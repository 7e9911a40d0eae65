"""The way into the language model and out of it, against its equations and against what is published of its size."""

import pytest
import torch
from torch.nn import functional as F

from dualsight.pathways.shallow_uvit import ConvNeXtBlock, GlobalResponseNorm, ShallowUViTDecoder, ShallowUViTEncoder


@pytest.fixture
def ends():
    torch.manual_seed(0)
    return ShallowUViTEncoder(3, 16, 2, 24).eval(), ShallowUViTDecoder(3, 16, 2, 24).eval()


def test_a_patch_is_a_token_and_comes_back(ends):
    encoder, decoder = ends
    features, time = encoder(torch.randn(2, 3, 6, 8), torch.rand(2))
    assert features.shape == (2, 16, 3, 4) and time.shape == (2, 24)
    assert decoder(torch.randn(2, 16, 3, 4), features, time).shape == (2, 3, 6, 8)


def test_a_block_is_its_equation():
    torch.manual_seed(0)
    block = ConvNeXtBlock(6, 5)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x, time = torch.randn(2, 6, 4, 3), torch.randn(2, 5)
    y = F.conv2d(x, block.depthwise.weight, block.depthwise.bias, padding=3, groups=6).permute(0, 2, 3, 1)
    y = y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt() * block.norm.weight
    y = F.gelu(y @ block.channelwise_linear_1.weight.T + block.channelwise_linear_1.bias)
    norms = y.square().sum((1, 2), keepdim=True).sqrt()
    norm = block.channelwise_norm
    y = norm.weight * y * norms / (norms.mean(-1, keepdim=True) + 1e-6) + norm.bias + y
    y = x + (y @ block.channelwise_linear_2.weight.T + block.channelwise_linear_2.bias).permute(0, 3, 1, 2)
    scale, shift = (F.silu(time) @ block.cond_embeds_mapper.weight.T + block.cond_embeds_mapper.bias).split(6, 1)
    expected = y * (1 + scale[:, :, None, None]) + shift[:, :, None, None]
    torch.testing.assert_close(block(x, time), expected, atol=1e-5, rtol=1e-5)


def test_a_new_response_norm_passes_its_input_on():
    x = torch.randn(2, 3, 3, 4)
    assert torch.equal(GlobalResponseNorm(4)(x), x)


def test_the_time_and_the_skip_matter(ends):
    encoder, decoder = ends
    x, t = torch.randn(1, 3, 4, 4), torch.tensor([0.3])
    features, time = encoder(x, t)
    assert (encoder(x, t + 0.1)[0] - features).abs().max() > 1e-3
    hidden = torch.randn_like(features)
    v = decoder(hidden, features, time)
    assert (decoder(hidden, features.flip(3), time) - v).abs().max() > 1e-3
    assert (decoder(hidden, features, time + 1) - v).abs().max() > 1e-3


def test_released_names_and_sizes():
    """Names as in the official state dict; counts worked by hand from its layers, 72 M of the paper's "about 70 M"."""
    with torch.device("meta"):
        encoder, decoder = (end(4, 768, 2, 2048) for end in (ShallowUViTEncoder, ShallowUViTDecoder))

    def block(c, t=2048):
        mlp = c * 4 * c + 4 * c + 4 * c * c + c
        return (49 * c + c) + c + mlp + 2 * 4 * c + (t * 2 * c + 2 * c)

    time = 768 * 2048 + 2048 + 2048 * 2048 + 2048
    expected = time + (4 * 4 * 768 + 768) + 2 * block(768)
    assert sum(p.numel() for p in encoder.parameters()) == expected == 21_614_336
    expected = 768 + 2 * block(2 * 768) + 2 * 768 + (2 * 768 * 16 + 16)
    assert sum(p.numel() for p in decoder.parameters()) == expected == 50_561_296
    names = {f"mid_block.res_blocks.{i}" for i in range(2)}
    of_block = {
        "depthwise", "norm", "channelwise_linear_1", "channelwise_norm", "channelwise_linear_2", "cond_embeds_mapper"
    }  # fmt: skip
    expected = {f"{name}.{part}" for name in names for part in of_block}

    def modules(end):
        return {name.rpartition(".")[0] for name in end.state_dict()}

    assert modules(encoder) == expected | {"time_embed.linear_1", "time_embed.linear_2", "in_conv"}
    assert modules(decoder) == expected | {"input_norm", "out_convs.0.norm", "out_convs.0.unpatch_conv"}
    assert decoder.state_dict()["mid_block.res_blocks.0.channelwise_norm.weight"].shape == (1, 1, 1, 6144)


@pytest.mark.parametrize("shape", [(1, 4, 4, 4), (1, 3, 5, 4), (1, 3, 4, 5)])
def test_latents_that_do_not_fit_are_named(ends, shape):
    with pytest.raises(ValueError, match=r"expected 3 channels, and sides that are multiples of 2"):
        ends[0](torch.randn(shape), torch.rand(1))
