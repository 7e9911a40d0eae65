"""Reading binary glTF 2.0: the part of it that scans and our own exports use."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dualsight.envs.sim.scene import NOTHING, Instance, Material, Scene

MAGIC, JSON_CHUNK, BINARY_CHUNK = b"glTF", 0x4E4F534A, 0x004E4942
FLOAT, TRIANGLES = 5126, 4
COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", FLOAT: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
GAMMA = 2.2
"""glTF colours are linear light, ours are display values: ``linear = display ** GAMMA``."""
UNDERSTOOD = {"KHR_materials_unlit", "KHR_mesh_quantization", "KHR_texture_transform"}
"""Extensions that a file may require."""
ADVICE = {
    "KHR_draco_mesh_compression": "; decompress it first, for instance with `gltf-transform copy in.glb out.glb`",
    "EXT_meshopt_compression": "; decompress it first, for instance with `gltf-transform copy in.glb out.glb`",
    "KHR_texture_basisu": "; its textures are KTX2/Basis, take the variant of the scan with PNG or JPEG textures",
}


def load_glb(path: str | Path, up: Literal["y", "z"] = "y") -> Scene:
    """Read any GLB file as a scene, node transforms applied. Without vertex colours, ``light`` is 1.

    Args:
        path: the file, with PNG or JPEG textures inside.
        up: the file's vertical axis. glTF says "y"; scans of Matterport3D and HM3D have "z" and are turned as Habitat
            turns them, ``(x, y, z) -> (x, z, -y)``.

    Raises:
        ValueError: not a GLB file, cut short, or it needs a feature that is not read; the message names it.
    """
    if up not in ("y", "z"):
        raise ValueError(f'up must be "y" or "z", got {up!r}')
    root = np.eye(4) if up == "y" else np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    return _Reader(Path(path)).scene(root)


class _Reader:
    """One file being read: its JSON content, its binary chunk, and the parts of the scene found so far."""

    def __init__(self, path: Path):
        self.path = path
        self.content, self.binary = _chunks(path)
        for extension in self.content.get("extensionsRequired", []):
            if extension not in UNDERSTOOD:
                raise ValueError(f"{path} requires the glTF extension {extension}{ADVICE.get(extension, '')}")
        self.instances = [NOTHING]
        self.parts: list[dict[str, NDArray]] = []
        self.vertices = 0

    def scene(self, root: NDArray[np.float64]) -> Scene:
        content = self.content
        images = [self.image(entry) for entry in content.get("images", [])]
        materials = [self.material(entry, images) for entry in content.get("materials", [])]
        start = content.get("scenes", [{"nodes": range(len(content.get("nodes", [])))}])[content.get("scene", 0)]
        for node in start.get("nodes", []):
            self.node(node, root)
        if not self.parts:
            raise ValueError(f"{self.path} holds no triangles")
        whole = {name: np.concatenate([part[name] for part in self.parts]) for name in self.parts[0]}
        if whole["material"].max() == len(materials):
            materials.append(Material("default"))  # for meshes without a material
        return Scene(**whole, materials=materials, instances=self.instances)

    def node(self, index: int, parent: NDArray[np.float64]) -> None:
        """Add what node ``index`` and those below it show."""
        node = self.content["nodes"][index]
        transform = parent @ _local(node)
        mesh = self.content["meshes"][node["mesh"]] if "mesh" in node else None
        if mesh or "category" in node.get("extras", {}):
            instance = self.instance(node, mesh or {})
            for primitive in (mesh or {}).get("primitives", []):
                self.primitive(primitive, transform, instance)
        for child in node.get("children", []):
            self.node(child, transform)

    def instance(self, node: dict[str, Any], mesh: dict[str, Any]) -> int:
        """The index of the instance that a node is: ours know what they are, others have their name only."""
        name = node.get("name") or mesh.get("name") or "mesh"
        extras = node.get("extras", {})
        known = {field.name: extras[field.name] for field in fields(Instance) if field.name in extras}
        instance = Instance(**known) if "category" in known else Instance(category=name, name=name)
        if instance == NOTHING:
            return 0
        self.instances.append(instance)
        return len(self.instances) - 1

    def primitive(self, primitive: dict[str, Any], transform: NDArray[np.float64], instance: int) -> None:
        mode = primitive.get("mode", TRIANGLES)
        if mode < TRIANGLES:
            return  # points and lines have no surface
        if mode > TRIANGLES:
            raise ValueError(f"{self.path} holds triangle strips or fans (mode {mode}); export it with plain triangles")
        attributes = primitive["attributes"]
        position = self.accessor(attributes["POSITION"]).astype(np.float64)
        count = len(position)
        uv, light = np.zeros((count, 2)), np.ones((count, 3))
        if "TEXCOORD_0" in attributes:
            uv = self.texture_coordinates(self.accessor(attributes["TEXCOORD_0"]), primitive.get("material"))
        if "COLOR_0" in attributes:
            light = self.accessor(attributes["COLOR_0"])[:, :3].astype(np.float64) ** (1 / GAMMA)
        corners = self.accessor(primitive["indices"]) if "indices" in primitive else np.arange(count)
        triangles = corners.reshape(-1, 3).astype(np.int32)
        if np.linalg.det(transform[:3, :3]) < 0:
            triangles = triangles[:, ::-1]  # a mirrored mesh shows its other side
        material = primitive.get("material", len(self.content.get("materials", [])))
        self.parts.append(
            {
                "vertices": (position @ transform[:3, :3].T + transform[:3, 3]).astype(np.float32),
                "uv": uv.astype(np.float32),
                "light": light.astype(np.float32),
                "triangles": triangles + np.int32(self.vertices),
                "material": np.full(len(triangles), material, np.int32),
                "instance": np.full(len(triangles), instance, np.int32),
            }
        )
        self.vertices += count

    def texture_coordinates(self, uv: NDArray, material: int | None) -> NDArray[np.float64]:
        """glTF's (0, 0) is the upper left corner, ours the lower left one."""
        uv = uv.astype(np.float64)
        if material is not None:
            surface = self.content["materials"][material].get("pbrMetallicRoughness", {})
            extensions = surface.get("baseColorTexture", {}).get("extensions", {})
            if change := extensions.get("KHR_texture_transform"):
                sin, cos = np.sin(change.get("rotation", 0.0)), np.cos(change.get("rotation", 0.0))
                turn = np.array([[cos, sin], [-sin, cos]])
                uv = uv * change.get("scale", [1, 1]) @ turn.T + change.get("offset", [0, 0])
        return uv * [1, -1] + [0, 1]

    def accessor(self, index: int) -> NDArray:
        """(count,) or (count, width) values; normalised integers come as floats."""
        entry = self.content["accessors"][index]
        if "sparse" in entry or "bufferView" not in entry:
            raise ValueError(f"{self.path} holds a sparse or empty accessor ({index}); export it with plain ones")
        view = self.content["bufferViews"][entry["bufferView"]]
        dtype, width = np.dtype(COMPONENTS[entry["componentType"]]), WIDTHS[entry["type"]]
        values = np.ndarray(
            (entry["count"], width),
            dtype,
            self.bytes_of(view),
            entry.get("byteOffset", 0),
            (view.get("byteStride", width * dtype.itemsize), dtype.itemsize),
        )
        if entry.get("normalized"):
            largest = 2 ** (8 * dtype.itemsize - (dtype.kind == "i")) - 1
            values = np.maximum(values.astype(np.float32) / np.float32(largest), -1)
        return values[:, 0] if width == 1 else values

    def bytes_of(self, view: dict[str, Any]) -> memoryview:
        if view["buffer"] != 0 or "uri" in self.content["buffers"][0]:
            raise ValueError(f"{self.path} keeps data in other files; export it as one GLB file")
        start, length = view.get("byteOffset", 0), view["byteLength"]
        if start + length > len(self.binary):
            raise ValueError(
                f"{self.path} is cut short: {start + length} bytes of data needed, {len(self.binary)} there"
            )
        return self.binary[start : start + length]

    def image(self, entry: dict[str, Any]) -> NDArray[np.uint8]:
        if "bufferView" not in entry:
            raise ValueError(f"{self.path} keeps its textures in other files; export it with the images inside")
        data = self.bytes_of(self.content["bufferViews"][entry["bufferView"]])
        try:
            return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        except UnidentifiedImageError as error:
            kind = entry.get("mimeType", "an unknown format")
            raise ValueError(f"{self.path} holds a texture in {kind}; only PNG and JPEG are read") from error

    def material(self, entry: dict[str, Any], images: list[NDArray[np.uint8]]) -> Material:
        surface = entry.get("pbrMetallicRoughness", {})
        red, green, blue, _ = (channel ** (1 / GAMMA) for channel in surface.get("baseColorFactor", (1, 1, 1, 1)))
        texture = None
        if "baseColorTexture" in surface:
            source = self.content["textures"][surface["baseColorTexture"]["index"]]
            if "source" not in source:
                extension = next(iter(source.get("extensions", {})), "an unknown extension")
                raise ValueError(f"{self.path} needs the glTF extension {extension}{ADVICE.get(extension, '')}")
            texture = images[source["source"]]
        return Material(entry.get("name", ""), (red, green, blue), texture)


def _chunks(path: Path) -> tuple[dict[str, Any], memoryview]:
    """The JSON content and the binary chunk (perhaps empty) of a GLB file."""
    data = path.read_bytes()
    if data[:4] != MAGIC or len(data) < 20:
        raise ValueError(f"{path} is not a GLB file (it begins with {data[:4]!r}, not {MAGIC!r})")
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise ValueError(f"{path} is glTF version {version}; only version 2 is read")
    if length > len(data):
        raise ValueError(f"{path} is cut short: {length} bytes expected, {len(data)} there")
    chunks, start = {}, 12
    while start + 8 <= length:
        size, kind = struct.unpack_from("<II", data, start)
        chunks[kind] = memoryview(data)[start + 8 : start + 8 + size]
        start += 8 + size
    return json.loads(bytes(chunks[JSON_CHUNK])), chunks.get(BINARY_CHUNK, memoryview(b""))


def _local(node: dict[str, Any]) -> NDArray[np.float64]:
    """(4, 4) transform of a node: its matrix, or translation times rotation ([x, y, z, w]) times scale."""
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = node.get("rotation", (0, 0, 0, 1))
    local = np.eye(4)
    local[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    local[:3, :3] *= node.get("scale", (1, 1, 1))
    local[:3, 3] = node.get("translation", (0, 0, 0))
    return local
