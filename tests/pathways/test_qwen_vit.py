import pytest
import torch
from safetensors import safe_open

from dualsight.pathways.qwen_vit import encode, merge_order, patchify, vision_transformer


@pytest.fixture(scope="module")
def visual():
    torch.manual_seed(0)
    return vision_transformer(
        48, depth=3, hidden_size=64, intermediate_size=96, num_heads=4, window_size=56, fullatt_block_indexes=[1]
    ).eval()


def test_merge_order_puts_the_four_patches_of_a_cell_together():
    assert merge_order(2, 4, 2).tolist() == [0, 1, 4, 5, 2, 3, 6, 7]
    assert merge_order(3, 5, 2).tolist() == [0, 1, 5, 6, 2, 3, 7, 8]  # the odd row and column are cut off


@pytest.mark.parametrize("rows, cols", [(4, 4), (8, 8), (6, 10), (2, 6)])
@torch.no_grad()
def test_equals_transformers_own_forward_pass(visual, rows, cols):
    frames = torch.rand(3, 3, rows * 14, cols * 14)
    patches = patchify(frames)
    features = encode(visual, patches, rows, cols)
    stock = visual(patches.flatten(0, 1), grid_thw=torch.tensor([[1, rows, cols]] * 3))
    torch.testing.assert_close(visual.merger(features.flatten(0, 1)), stock.pooler_output, atol=1e-5, rtol=1e-5)


def test_patches_are_bitwise_those_of_the_release():
    with safe_open("tests/golden/janusvln.safetensors", "pt") as golden:
        frames, expected = golden.get_tensor("frames"), golden.get_tensor("step0.pixel_values")
    assert torch.equal(patchify(frames[:1])[0], expected)


def test_pixels_beyond_an_even_number_of_patches_are_cut_at_the_bottom_and_the_right():
    frames = torch.rand(1, 3, 5 * 14, 3 * 14)
    assert torch.equal(patchify(frames), patchify(frames[..., : 4 * 14, : 2 * 14]))
