import dataclasses
import hashlib
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from corridor_house import corridor_views
from render_scenes import Builder, checkers, furnished

from dualsight.envs.sim.camera import eye_of, intrinsics, world_to_camera
from dualsight.envs.sim.house import generate
from dualsight.envs.sim.raster import Rasteriser
from dualsight.envs.sim.scene import Material
from dualsight.envs.sim.shading import BACKGROUND
from dualsight.envs.sim.visibility import NEAR
from dualsight.types import Camera, Pose

WHITE = Material("white")
ORIGIN = Pose(np.zeros(3), 0.0)
CAMERA = Camera(64, 48, hfov=90, elevation=1.0)


def poses(count: int, seed: int = 1) -> list[Pose]:
    rng = np.random.default_rng(seed)
    return [Pose(np.array([rng.uniform(0.2, 7.8), 0, rng.uniform(0.2, 3.8)]), rng.uniform(-4, 4)) for _ in range(count)]


def sheet(material: Material, corner=(-1, 0, -2), right=(2, 0, 0), up=(0, 2, 0), steps=1):
    builder = Builder([material])
    builder.sheet("sheet", 0, corner, right, up, steps)
    return builder.build()


def test_depth_in_a_room_is_the_distance_of_its_walls():
    builder = Builder([WHITE])
    builder.room(0, (-2, 0, -3), (2, 2, 3))
    view = Rasteriser(builder.build()).render(ORIGIN, CAMERA)
    # hfov 90 and 64 pixels: focal length 32, so the west wall, 2 m off, ends 32 * 2 / 3 = 21.3 pixels from the middle
    north = view.instances == 3
    assert np.flatnonzero(north[24]).tolist() == list(range(11, 53))
    np.testing.assert_allclose(view.depth[north], 3.0, rtol=1e-6)
    x_off = np.abs(np.arange(64) - 31.5) / 32
    np.testing.assert_allclose(view.depth[24, :11], 2 / x_off[:11], rtol=1e-5)
    y_off = (np.arange(48) - 23.5) / 32
    np.testing.assert_allclose(view.depth[40:, 32], 1 / y_off[40:], rtol=1e-5)  # the floor, 1 m below
    assert (view.depth > 0).all() and set(np.unique(view.instances)) == {1, 2, 3, 5, 6}


def check_against_embree(scene, places: list[Pose], camera: Camera) -> None:
    """Instances agree in 99.5 % of the pixels, and depth where they do."""
    rtcore_scene = pytest.importorskip("embreex.rtcore_scene")
    mesh = pytest.importorskip("embreex.mesh_construction")
    tracer = rtcore_scene.EmbreeScene()
    mesh.TriangleMesh(tracer, np.ascontiguousarray(scene.vertices[scene.triangles]))
    renderer, shape = Rasteriser(scene), (camera.height, camera.width)
    x, y = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    rays = np.stack([x, y, np.ones(shape)], axis=-1).reshape(-1, 3) @ np.linalg.inv(intrinsics(camera)).T  # forward: 1
    agreed, seen = [], set()
    for pose in places:
        view = renderer.render(pose, camera)
        directions = (rays @ world_to_camera(pose, camera)[:, :3]).astype(np.float32)
        eye = np.broadcast_to(eye_of(pose, camera).astype(np.float32), directions.shape).copy()
        hit = tracer.run(eye, directions, output=True)
        traced = np.where(hit["primID"] >= 0, scene.instance[hit["primID"]], 0).reshape(shape)
        depth = hit["tfar"].reshape(shape)  # in lengths of a ray, which goes 1 m along the axis
        same = (traced == view.instances) | (depth < NEAR)
        agreed.append(same.mean())
        seen.update(np.unique(traced))
        off = np.abs(depth - view.depth)[same & (traced > 0) & (depth > NEAR)]
        assert (off > 1e-3).sum() <= 0.001 * off.size  # the rest: another triangle of the same thing along a silhouette
    assert np.mean(agreed) >= 0.995 and len(seen) > 10


def test_visibility_agrees_with_embree_on_fifty_poses():
    check_against_embree(furnished(), poses(50), Camera(96, 80, hfov=79, elevation=1.1, pitch=-0.2))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [7, 200_003])
def test_visibility_agrees_with_embree_in_generated_houses(seed):
    house = generate(seed)
    rng = np.random.default_rng(seed)
    rooms = [house.rooms[k % len(house.rooms)] for k in range(50)]
    places = [
        Pose(np.array([rng.uniform(r.x0, r.x1), r.y, rng.uniform(r.z0, r.z1)]), rng.uniform(-4, 4)) for r in rooms
    ]
    check_against_embree(house.scene, places, Camera(224, 224))


def digest() -> str:
    renderer, camera = Rasteriser(furnished()), Camera(112, 112)
    sha = hashlib.sha256()
    for pose in poses(5):
        view = renderer.render(pose, camera)
        sha.update(view.rgb.tobytes() + view.depth.tobytes() + view.instances.tobytes())
    return sha.hexdigest()


def test_bytes_are_the_same_again_in_another_process_and_in_threads():
    here = digest()
    assert digest() == here
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: digest(), range(3))) == [here] * 3
    code = "import test_raster; print(test_raster.digest())"
    other = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == here


def test_views_belong_to_the_caller():
    renderer = Rasteriser(furnished())
    first, second = poses(2)
    view = renderer.render(first, CAMERA)
    before = view.rgb.copy()
    renderer.render(second, CAMERA)
    np.testing.assert_array_equal(view.rgb, before)


def test_textures_stand_upright():
    texture = np.zeros((64, 64, 3), np.uint8)
    texture[:32, :32, 0] = 200  # upper left red, upper right green, lower left blue
    texture[:32, 32:, 1] = 200
    texture[32:, :32, 2] = 200
    rgb = Rasteriser(sheet(Material("t", texture=texture))).render(ORIGIN, CAMERA).rgb
    corners = [rgb[y, x].tolist() for y in (14, 34) for x in (22, 42)]
    assert corners == [[200, 0, 0], [0, 200, 0], [0, 0, 200], [0, 0, 0]]


def test_texture_coordinates_repeat_and_interpolate_with_perspective():
    """On a floor that runs away, the row at depth z shows v = z: the stripes of the texture tell."""
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[32:] = 255  # 0 <= v < 0.5, the lower half of the image
    scene = sheet(Material("stripes", texture=stripes), (-50, 0, 0), (100, 0, 0), (0, 0, -8))
    scene = dataclasses.replace(scene, uv=scene.uv * 8)
    view = Rasteriser(scene).render(ORIGIN, Camera(64, 480, hfov=20, elevation=1.0, pitch=-0.6))
    depth = view.depth[:, 32].astype(float)
    y = (np.arange(480) - 239.5) / Camera(64, 480, hfov=20).focal
    away = depth * (math.cos(0.6) - y * math.sin(0.6))  # distance along the floor
    clear = np.abs((away * 2) % 1 - 0.5) < 0.4
    expected = np.where(away % 1 < 0.5, 255, 0)
    floor = (view.instances[:, 32] == 1) & clear & (away < 3)
    assert floor.sum() > 100
    np.testing.assert_allclose(view.rgb[floor, 32, 0], expected[floor], atol=1)


def test_distant_checkers_turn_into_their_mean():
    scene = sheet(Material("checks", texture=checkers(256, 1)), (-1, 0, -40), steps=4)
    view = Rasteriser(scene).render(ORIGIN, Camera(224, 224, hfov=10, elevation=1))
    grey = view.rgb[view.instances == 1].astype(int)
    assert len(grey) > 1000 and np.abs(grey - 130).max() <= 2


def test_a_plain_material_shows_its_color_times_the_light():
    scene = sheet(Material("orange", (1.0, 0.5, 0.25)))
    light = np.stack([scene.uv[:, 0], np.ones(len(scene.uv)), np.full(len(scene.uv), 5.0)], axis=1)
    view = Rasteriser(dataclasses.replace(scene, light=light.astype(np.float32))).render(ORIGIN, CAMERA)
    x = np.arange(16, 48)
    u = (2 * (x - 31.5) / 32 + 1) / 2
    np.testing.assert_allclose(view.rgb[24, 16:48, 0], 255 * u, atol=0.51)
    assert (view.rgb[24, 16:48, 1] == 128).all()
    assert (view.rgb[24, 16:48, 2] == 255).all()  # too bright is white, not dark


def test_nothing_shows_the_sky():
    view = Rasteriser(sheet(WHITE)).render(ORIGIN.turned(math.pi), CAMERA)
    assert (view.rgb == np.array(BACKGROUND)).all()
    assert not view.depth.any() and not view.instances.any()


def test_headings_turn_left_and_pitch_looks_up():
    builder = Builder([WHITE])
    builder.room(0, (-2, 0, -3), (2, 2, 3))
    renderer = Rasteriser(builder.build())
    middle = [renderer.render(ORIGIN.turned(math.radians(a)), CAMERA).instances[24, 32] for a in (0, 90, 180, 270)]
    assert [builder.instances[i].category.split()[0] for i in middle] == ["north", "west", "south", "east"]
    up = renderer.render(ORIGIN, Camera(64, 48, elevation=1.0, pitch=1.2)).instances[24, 32]
    assert builder.instances[up].category == "ceiling"


def test_a_triangle_that_passes_the_camera_is_drawn_where_it_is_in_front():
    """The floor of a huge room runs from behind the camera to far ahead as two triangles; a wall stands 7 cm off."""
    builder = Builder([WHITE])
    builder.room(0, (-0.07, 0, -60), (60, 30, 60), steps=1)
    view = Rasteriser(builder.build()).render(ORIGIN, CAMERA)
    assert (view.instances > 0).all()
    y_off = (np.arange(48) - 23.5) / 32
    np.testing.assert_allclose(view.depth[26:, 40], 1 / y_off[26:], rtol=1e-4)
    np.testing.assert_allclose(view.depth[24, :20], 0.07 / (np.abs(np.arange(20) - 31.5) / 32), rtol=1e-4)


def test_a_closed_surface_has_no_cracks():
    builder = Builder([WHITE])
    builder.ball("ball", 0, (0, 1, 0), 5.0, steps=40)
    renderer = Rasteriser(builder.build())
    for heading in np.linspace(0, 6, 7):
        assert (renderer.render(Pose(np.array([0.3, 0.1, -0.2]), heading), Camera(224, 224)).instances == 1).all()


def test_triangles_without_area_are_not_drawn():
    scene = sheet(WHITE)
    line = np.array([[0, 0, 1], [1, 1, 1], [2, 0, 2]], np.int32)
    flat = dataclasses.replace(
        scene,
        triangles=np.concatenate([line, scene.triangles]),
        material=np.zeros(5, np.int32),
        instance=np.array([0, 0, 0, 1, 1], np.int32),
    )
    np.testing.assert_array_equal(
        Rasteriser(flat).render(ORIGIN, CAMERA).rgb, Rasteriser(scene).render(ORIGIN, CAMERA).rgb
    )


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("vertices", np.full((4, 3), np.nan, np.float32), "scene.vertices is not finite at 4 vertices"),
        ("light", np.ones((3, 3), np.float32), "scene.light has 3 rows for 4 vertices"),
        ("triangles", np.array([[0, 1, 4]], np.int32), r"scene.triangles holds 0\.\.4, but there are 4 vertices"),
        ("triangles", np.zeros((0, 3), np.int32), "no triangles"),
        ("material", np.array([0, 7], np.int32), "there are 1 materials"),
        ("instance", np.array([0, -1], np.int32), "there are 2 instances"),
    ],
)
def test_bad_scenes_are_named(field, value, message):
    with pytest.raises(ValueError, match=message):
        Rasteriser(dataclasses.replace(sheet(WHITE), **{field: value}))


def test_an_edge_along_a_row_of_pixels_stays_inside_the_image():
    """Looking south here, edges run so nearly along a row (slope 1e-18) that drawing them wrote beyond the image."""
    place = np.array([4.0, 0.0, -3.0])
    exactly, nearly = (corridor_views().render(Pose(place, heading), Camera(112, 112)) for heading in (math.pi, 3.1415))
    assert (exactly.instances == nearly.instances).mean() > 0.97
