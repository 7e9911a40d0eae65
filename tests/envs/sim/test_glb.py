import io
import json
import struct

import numpy as np
import pytest
from PIL import Image
from render_scenes import Builder, checkers, furnished

from dualsight.envs.sim.glb import load_glb, save_glb
from dualsight.envs.sim.raster import Rasteriser
from dualsight.envs.sim.scene import Instance, Material
from dualsight.types import Camera, Pose


def write(path, content, binary=b""):
    """A GLB file made by hand."""
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(binary), 0x004E4942) + binary
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)
    return path


def one_triangle(positions=((0, 0, 0), (1, 0, 0), (0, 1, 0)), node=None, component=5123, **changes):
    """Content and binary of a file with one triangle, its indices 0, 1, 2 of the given width."""
    dtype = {5121: "<u1", 5123: "<u2", 5125: "<u4"}[component]
    data = np.array(positions, "<f4").tobytes()
    content = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "thing", "mesh": 0} | (node or {})],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"},
            {"bufferView": 1, "componentType": component, "count": 3, "type": "SCALAR"},
        ],
        "buffers": [{"byteLength": 60}],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": 36},
            {"buffer": 0, "byteOffset": 36, "byteLength": 3 * np.dtype(dtype).itemsize},
        ],
    }
    return content | changes, data + np.arange(3, dtype=dtype).tobytes()


def test_a_saved_scene_renders_the_same_image(tmp_path):
    scene = furnished()
    rng = np.random.default_rng(0)
    scene.light[:] = rng.uniform(0.2, 1.2, scene.light.shape)
    save_glb(scene, tmp_path / "scene.glb")
    assert [path.name for path in tmp_path.iterdir()] == ["scene.glb"]
    loaded = load_glb(tmp_path / "scene.glb")
    assert loaded.instances == scene.instances
    assert [m.name for m in loaded.materials] == [m.name for m in scene.materials]
    first, second = Rasteriser(scene), Rasteriser(loaded)
    for heading in (0.0, 1.0, 2.5, -2.0):
        pose = Pose(np.array([2.0, 0.0, 2.0]), heading)
        a, b = first.render(pose, Camera()), second.render(pose, Camera())
        np.testing.assert_array_equal(a.instances, b.instances)
        np.testing.assert_allclose(a.depth, b.depth, rtol=1e-6)
        assert np.abs(a.rgb.astype(int) - b.rgb).max() <= 1  # rounding of light to linear light and back


def test_instances_keep_their_words_and_their_numbers(tmp_path):
    builder = Builder([Material("m")])
    builder.sheet("sofa", 0, (0, 0, 0), (1, 0, 0), (0, 1, 0))
    builder.instances.append(Instance("lamp", "red", 3, "lamp2"))  # has no triangles
    builder.sheet("bed", 0, (0, 0, 1), (1, 0, 0), (0, 1, 0))
    scene = builder.build()
    save_glb(scene, tmp_path / "s.glb")
    loaded = load_glb(tmp_path / "s.glb")
    assert loaded.instances == scene.instances
    np.testing.assert_array_equal(loaded.instance, scene.instance)


def test_shared_textures_are_stored_once(tmp_path):
    texture = checkers()
    builder = Builder([Material("a", texture=texture), Material("b", (1, 0, 0), texture)])
    builder.sheet("x", 0, (0, 0, 0), (1, 0, 0), (0, 1, 0))
    builder.sheet("y", 1, (0, 0, 0), (1, 0, 0), (0, 1, 0))
    save_glb(builder.build(), tmp_path / "s.glb")
    loaded = load_glb(tmp_path / "s.glb")
    assert loaded.materials[0].texture is loaded.materials[1].texture
    np.testing.assert_array_equal(loaded.materials[0].texture, texture)


def test_others_read_our_files(tmp_path):
    trimesh = pytest.importorskip("trimesh")
    scene = furnished()
    save_glb(scene, tmp_path / "scene.glb")
    other = trimesh.load(tmp_path / "scene.glb", process=False)
    assert sum(len(mesh.faces) for mesh in other.geometry.values()) == len(scene.triangles)
    np.testing.assert_allclose(other.bounds, scene.bounds, atol=1e-6)


@pytest.mark.parametrize("component", [5121, 5123, 5125])
def test_indices_of_any_width(tmp_path, component):
    scene = load_glb(write(tmp_path / "t.glb", *one_triangle(component=component)))
    assert scene.triangles.tolist() == [[0, 1, 2]]
    assert scene.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert scene.instances[1] == Instance(category="thing", name="thing")
    assert (scene.light == 1).all() and scene.materials[scene.material[0]].color == (1, 1, 1)


def test_z_up_files_are_turned_like_habitat_does(tmp_path):
    path = write(tmp_path / "t.glb", *one_triangle(((1, 2, 3), (4, 5, 6), (7, 8, 10))))
    assert load_glb(path, up="z").vertices.tolist() == [[1, 3, -2], [4, 6, -5], [7, 10, -8]]
    with pytest.raises(ValueError, match='up must be "y" or "z", got \'x\''):
        load_glb(path, up="x")  # ty: ignore[invalid-argument-type]


def test_node_transforms_are_applied_down_the_tree(tmp_path):
    content, binary = one_triangle(node={"scale": [2, 2, 2]})
    half = np.sqrt(0.5)
    content["nodes"].append({"children": [0], "rotation": [0, half, 0, half], "translation": [10, 0, 0]})
    content["scenes"][0]["nodes"] = [1]
    vertices = load_glb(write(tmp_path / "t.glb", content, binary)).vertices
    # doubled, then a quarter turn to the left (x becomes -z), then moved
    np.testing.assert_allclose(vertices, [[10, 0, 0], [10, 0, -2], [10, 2, 0]], atol=1e-6)
    content["nodes"][1] = {"children": [0], "matrix": [-1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 5, 1]}
    mirrored = load_glb(write(tmp_path / "t.glb", content, binary))
    np.testing.assert_allclose(mirrored.vertices, [[0, 0, 5], [-2, 0, 5], [0, 2, 5]], atol=1e-6)
    assert mirrored.triangles.tolist() == [[2, 1, 0]]


def test_interleaved_normalised_and_coloured_vertices(tmp_path):
    """Position, 8-bit colour and 16-bit texture coordinates share a buffer view of stride 20."""
    vertex = np.dtype([("position", "<f4", 3), ("color", "u1", 4), ("uv", "<u2", 2)])
    color = (255, 0, 51, 255)
    rows = [((0, 0, 0), color, (0, 0)), ((1, 0, 0), color, (65535, 0)), ((0, 1, 0), color, (0, 65535))]
    data = np.array(rows, vertex)
    content, _ = one_triangle()
    view = {"buffer": 0, "byteLength": 60, "byteStride": 20}
    content["meshes"][0]["primitives"][0] = {"attributes": {"POSITION": 0, "COLOR_0": 1, "TEXCOORD_0": 2}}
    content["bufferViews"] = [view]
    content["accessors"] = [
        {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"},
        {"bufferView": 0, "byteOffset": 12, "componentType": 5121, "count": 3, "type": "VEC4", "normalized": True},
        {"bufferView": 0, "byteOffset": 16, "componentType": 5123, "count": 3, "type": "VEC2", "normalized": True},
    ]
    scene = load_glb(write(tmp_path / "t.glb", content, data.tobytes()))
    np.testing.assert_allclose(scene.light, [[1, 0, 0.2 ** (1 / 2.2)]] * 3, rtol=1e-6)
    assert scene.uv.tolist() == [[0, 1], [1, 1], [0, 0]]  # v counted from the bottom
    assert scene.triangles.tolist() == [[0, 1, 2]]


def test_jpeg_textures_and_factors(tmp_path):
    jpeg = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 100, np.uint8)).save(jpeg, "JPEG")
    content, binary = one_triangle()
    binary += b"\0" * (-len(binary) % 4)
    content["bufferViews"].append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(jpeg.getvalue())})
    content["images"] = [{"bufferView": 2, "mimeType": "image/jpeg"}]
    content["textures"] = [{"source": 0}]
    surface = {"baseColorTexture": {"index": 0}, "baseColorFactor": [0.5, 1, 1, 1]}
    content["materials"] = [{"name": "m", "pbrMetallicRoughness": surface}]
    content["meshes"][0]["primitives"][0]["material"] = 0
    material = load_glb(write(tmp_path / "t.glb", content, binary + jpeg.getvalue())).materials[0]
    assert material.texture is not None and material.texture.shape == (8, 8, 3) and (material.texture == 100).all()
    assert material.color == pytest.approx((0.5 ** (1 / 2.2), 1, 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extensionsRequired": ["KHR_draco_mesh_compression"]}, "KHR_draco_mesh_compression; decompress it first"),
        ({"extensionsRequired": ["KHR_texture_basisu"]}, "KHR_texture_basisu; its textures are KTX2/Basis"),
        ({"extensionsRequired": ["VENDOR_new"]}, "requires the glTF extension VENDOR_new"),
        ({"images": [{"uri": "wall.png"}]}, "keeps its textures in other files"),
        ({"images": [{"bufferView": 0, "mimeType": "image/ktx2"}]}, "texture in image/ktx2; only PNG and JPEG"),
        ({"buffers": [{"uri": "a.bin", "byteLength": 60}]}, "keeps data in other files"),
        ({"bufferViews": [{"buffer": 0, "byteOffset": 40, "byteLength": 36}] * 2}, "is cut short: 76 bytes"),
        ({"scenes": [{"nodes": []}]}, "holds no triangles"),
        ({"meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "mode": 5}]}]}, "triangle strips or fans"),
    ],
)
def test_what_is_not_read_is_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        load_glb(write(tmp_path / "t.glb", *one_triangle(**changes)))


def test_files_that_are_no_glb(tmp_path):
    path = tmp_path / "t.glb"
    path.write_bytes(b"PK\3\4" + bytes(40))
    with pytest.raises(ValueError, match="is not a GLB file"):
        load_glb(path)
    write(path, *one_triangle())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="is cut short"):
        load_glb(path)
    path.write_bytes(struct.pack("<4sII", b"glTF", 1, 20) + bytes(8))
    with pytest.raises(ValueError, match="glTF version 1"):
        load_glb(path)
