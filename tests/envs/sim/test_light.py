import dataclasses

import numpy as np
import pytest
from render_scenes import Builder, furnished

from dualsight.envs.sim.light import AMBIENT, LAMP, SOFTNESS, _tone, bake_light
from dualsight.envs.sim.scene import Material

LAMPS = [np.array([0.0, 2.4, 0.0])]


def nearest(scene, point, instance):
    """The light of the vertex of ``instance`` that is nearest to ``point``, one number."""
    own = np.unique(scene.triangles[scene.instance == instance])
    distance = np.linalg.norm(scene.vertices[own] - point, axis=1)
    return scene.light[own[distance.argmin()]].mean()


def room(steps=12):
    builder = Builder([Material("m")])
    builder.room(0, (-3, 0, -3), (3, 2.6, 3), steps)
    return builder


def test_light_of_a_lamp_over_an_open_floor_is_its_formula():
    """Far from any wall there is no occlusion: full ambient light, and the lamp by angle and distance."""
    builder = Builder([Material("m")])
    builder.sheet("floor", 0, (-4, 0, 4), (8, 0, 0), (0, 0, -8), 40)
    scene = bake_light(builder.build(), LAMPS)
    height = 2.4
    for x in (0.0, 1.0, 2.0):
        d = np.hypot(height, x)
        direct = (0.4 + 0.6 * height / d) * (height / d) / (d * d + SOFTNESS)
        expected = _tone(AMBIENT + direct * LAMP).mean()
        assert nearest(scene, (x, 0, 0), 1) == pytest.approx(expected, rel=0.02)


def test_corners_are_darker_than_the_middle_of_a_wall():
    scene = bake_light(room().build(), [])
    middle, edge, corner = (nearest(scene, p, 3) for p in ((0, 1.3, -3), (-3, 1.3, -3), (-3, 0, -3)))
    assert middle > edge > corner > 0.1 * middle


def test_things_cast_soft_shadows():
    builder = room(24)
    builder.sheet("table", 0, (0.6, 1.2, 0.5), (1, 0, 0), (0, 0, -1), 4)
    scene = bake_light(builder.build(), LAMPS)
    # the lamp is 2.4 m high and the table 1.2: its shadow lies from 1.2 to 3.2
    lit, shadow = nearest(scene, (-2.0, 0, 0), 1), nearest(scene, (2.0, 0, 0), 1)
    assert shadow < 0.9 * lit


def test_a_wall_keeps_a_lamp_in_its_room():
    builder = room()
    builder.sheet("partition", 0, (1, 0, -3), (0, 0, 6), (0, 2.6, 0), 10)
    plan = builder.build()
    dark, lit = bake_light(plan, []), bake_light(plan, LAMPS)
    behind = (2.5, 0.0, 0.0)
    assert nearest(lit, behind, 1) == pytest.approx(nearest(dark, behind, 1))
    assert nearest(lit, (-1.0, 0.0, 0.0), 1) > 1.2 * nearest(dark, (-1.0, 0.0, 0.0), 1)


def test_what_hangs_about_a_lamp_belongs_to_it():
    plain, shaded = room(), room()
    shaded.ball("lamp shade", 0, LAMPS[0], 0.2)
    floor = [nearest(bake_light(b.build(), LAMPS), (0, 0, 0), 1) for b in (plain, shaded)]
    assert floor[0] == pytest.approx(floor[1])


@pytest.mark.parametrize("steps", [4, 24])
def test_a_box_turned_inside_out_is_lit_from_outside(steps):
    def light(flip):
        builder = room()
        builder.ball("ball", 0, (0.8, 0.5, 0.2), 0.5, steps)
        scene = builder.build()
        triangles = scene.triangles.copy()
        if flip:
            triangles[scene.instance == 7] = triangles[scene.instance == 7][:, ::-1]
        baked = bake_light(dataclasses.replace(scene, triangles=triangles), LAMPS)
        return baked.light[np.unique(baked.triangles[baked.instance == 7])]

    np.testing.assert_allclose(light(True), light(False), atol=0.12)


def test_what_is_buried_takes_the_light_of_its_neighbours():
    """A wall whose lower row of vertices stands in a plinth is not smeared dark above it."""
    bare, framed = room(10), room(10)
    framed.room(0, (-3.1, -0.1, -3.1), (3.1, 0.3, -2.98), 4)
    height = 0.52
    light = [nearest(bake_light(b.build(), LAMPS), (0, height, -3), 3) for b in (bare, framed)]
    assert light[1] > 0.85 * light[0]


def test_baking_changes_light_alone_and_repeats():
    scene = furnished()
    lamps = [np.array([2.0, 2.4, 2.0]), np.array([6.0, 2.4, 2.0])]
    first, second = bake_light(scene, lamps), bake_light(scene, lamps)
    assert first.light.dtype == np.float32 and first.light.shape == scene.vertices.shape
    assert first.light.tobytes() == second.light.tobytes()
    assert first.vertices is scene.vertices and first.materials is scene.materials
    assert first.light.min() > 0 and first.light.max() < 1.25
    turned = bake_light(scene, lamps, seed=5).light
    assert 0 < np.abs(turned - first.light).mean() < 0.05


def test_bad_scenes_are_named():
    scene = furnished()
    vertices = scene.vertices.copy()
    vertices[17, 1] = np.inf
    with pytest.raises(ValueError, match=r"scene\.vertices is not finite at 1 vertices \(the first is vertex 17\)"):
        bake_light(dataclasses.replace(scene, vertices=vertices), [])
