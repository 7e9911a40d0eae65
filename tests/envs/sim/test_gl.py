import sys

import numpy as np
import pytest
from render_scenes import furnished

from dualsight.envs.sim.raster import Rasteriser
from dualsight.envs.sim.renderer import make_renderer
from dualsight.types import Camera, Pose

CAMERA = Camera(200, 160, hfov=79, elevation=1.1, pitch=-0.1)


@pytest.fixture(scope="module")
def scene():
    return furnished()


@pytest.fixture(scope="module")
def gl(scene):
    pytest.importorskip("moderngl", reason="the extra gl is not installed")
    try:
        return make_renderer(scene, "gl")
    except RuntimeError as error:
        pytest.skip(str(error))


@pytest.mark.gl
def test_opengl_shows_what_the_rasteriser_shows(scene, gl):
    raster = Rasteriser(scene)
    for heading in (0.0, 1.3, 2.9, -2.0):
        pose = Pose(np.array([2.2, 0.0, 2.0]), heading)
        ours, theirs = raster.render(pose, CAMERA), gl.render(pose, CAMERA)
        same = ours.instances == theirs.instances
        assert same.mean() > 0.995
        assert (np.abs(ours.depth - theirs.depth)[same] < 1e-3).mean() > 0.99
        assert np.abs(ours.rgb.astype(int) - theirs.rgb)[same].mean() < 3


@pytest.mark.gl
def test_opengl_draws_in_several_sizes_and_leaves_the_arrays_to_the_caller(gl):
    pose = Pose(np.array([2.2, 0.0, 2.0]), 0.5)
    view = gl.render(pose, CAMERA)
    before = view.rgb.copy()
    assert gl.render(pose, Camera(64, 48)).rgb.shape == (48, 64, 3)
    np.testing.assert_array_equal(view.rgb, before)
    np.testing.assert_array_equal(gl.render(pose, CAMERA).rgb, before)


def test_the_missing_extra_is_named(scene, monkeypatch):
    monkeypatch.setitem(sys.modules, "moderngl", None)
    monkeypatch.delitem(sys.modules, "dualsight.envs.sim.gl", raising=False)
    with pytest.raises(ImportError, match=r"\.\[gl\]"):
        make_renderer(scene, "gl")


def test_renderers_are_chosen_by_name(scene):
    assert isinstance(make_renderer(scene), Rasteriser)
    with pytest.raises(ValueError, match="no renderer 'vulkan'; choose one of numba, gl"):
        make_renderer(scene, "vulkan")
