import numpy as np
from render_scenes import Builder, furnished

from dualsight.envs.sim.packing import LEVELS, MESHLET, pack
from dualsight.envs.sim.scene import Material


def test_meshlets_keep_every_triangle_and_own_their_vertices():
    scene = furnished()
    packed = pack(scene)
    order = packed.tree.order
    np.testing.assert_array_equal(packed.vertices[packed.triangles], scene.vertices[scene.triangles[order]])
    uv_and_light = np.concatenate([scene.uv, scene.light], axis=1)
    np.testing.assert_array_equal(packed.attributes[packed.triangles], uv_and_light[scene.triangles[order]])
    np.testing.assert_array_equal(packed.instance, scene.instance[order])
    for leaf in np.flatnonzero(packed.tree.child < 0):
        start, count = packed.tree.first[leaf], packed.tree.count[leaf]
        used = np.unique(packed.triangles[start : start + count])
        assert used.tolist() == list(range(packed.first_vertex[leaf], packed.first_vertex[leaf + 1]))
        assert len(used) <= 3 * MESHLET


def level(packed, material, index):
    """(H, W, 3) of one mip level, upper row first."""
    width, height = (1 << max(0, size - index) for size in packed.log_size[material])
    start = packed.offset[material, index]
    words = packed.texels[start : start + width * height].reshape(height, width)[::-1]
    return np.stack([words & 255, words >> 8 & 255, words >> 16], axis=-1)


def test_mip_levels_are_means_down_to_one_texel():
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (8, 4, 3)).astype(np.uint8)
    builder = Builder([Material("t", texture=texture), Material("plain"), Material("again", (1, 0, 0), texture)])
    builder.sheet("sheet", 0, (0, 0, 0), (1, 0, 0), (0, 1, 0))
    packed = pack(builder.build())
    assert packed.log_size.tolist() == [[2, 3], [0, 0], [2, 3]]
    np.testing.assert_array_equal(level(packed, 0, 0), texture)
    np.testing.assert_allclose(level(packed, 0, 1), texture.reshape(4, 2, 2, 2, 3).mean(axis=(1, 3)), atol=0.5)
    np.testing.assert_allclose(level(packed, 0, LEVELS - 1)[0, 0], texture.mean(axis=(0, 1)), atol=1.5)
    assert (level(packed, 1, 0) == 255).all()
    np.testing.assert_array_equal(packed.offset[0], packed.offset[2])  # one texture, stored once


def test_textures_of_any_size_are_brought_to_powers_of_two():
    builder = Builder([Material("t", texture=np.full((100, 300, 3), 77, np.uint8))])
    builder.sheet("sheet", 0, (0, 0, 0), (1, 0, 0), (0, 1, 0))
    packed = pack(builder.build())
    assert packed.log_size.tolist() == [[8, 7]]
    assert (level(packed, 0, 0) == 77).all()
