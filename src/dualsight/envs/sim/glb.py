"""Scenes as GLB files (binary glTF 2.0): ours out and in, and the scans of others in (``load_glb``, from ``gltf``).

A file of ours has one node per instance, with its name, category, colour and room in ``extras``; one primitive per
material; textures as PNG. The baked light is the vertex colour, in linear light as glTF wants it, and the materials are
unlit, so that other viewers show nearly what the rasteriser shows.
"""

from __future__ import annotations

import io
import json
import os
import struct
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dualsight.envs.sim.gltf import BINARY_CHUNK, FLOAT, GAMMA, JSON_CHUNK, MAGIC, TRIANGLES, load_glb
from dualsight.envs.sim.scene import Material, Scene

__all__ = ["load_glb", "save_glb"]

UNSIGNED_INT = 5125


def save_glb(scene: Scene, path: str | Path) -> None:
    """Write ``scene`` to ``path``: a whole file or, if something fails, none."""
    writer = _Writer()
    materials = [writer.material(material) for material in scene.materials]
    nodes, meshes = [], []
    for index, instance in enumerate(scene.instances):
        used = np.flatnonzero(scene.instance == index)
        if not len(used) and index == 0:
            continue  # "nothing" usually has no triangles; the reader puts it back
        primitives = [
            writer.primitive(scene, used[scene.material[used] == material], material)
            for material in np.unique(scene.material[used])
        ]
        node: dict[str, Any] = {"name": f"{index} {instance.name or instance.category}", "extras": asdict(instance)}
        if primitives:
            meshes.append({"primitives": primitives})
            node["mesh"] = len(meshes) - 1
        nodes.append(node)
    content = {
        "asset": {"version": "2.0", "generator": "dualsight"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": list(range(len(nodes)))}],
        "nodes": nodes,
        "meshes": meshes,
        "materials": materials,
        **writer.tables(),
    }
    _write_chunks(Path(path), content, bytes(writer.binary))


def _write_chunks(path: Path, content: dict[str, Any], binary: bytes) -> None:
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(struct.pack("<4sII", MAGIC, 2, 28 + len(text) + len(binary)))
        file.write(struct.pack("<II", len(text), JSON_CHUNK) + text)
        file.write(struct.pack("<II", len(binary), BINARY_CHUNK) + binary)
    temporary.replace(path)


class _Writer:
    """Gathers the binary chunk and the tables of a glTF file that point into it."""

    def __init__(self) -> None:
        self.binary = bytearray()
        self.views: list[dict[str, int]] = []
        self.accessors: list[dict[str, Any]] = []
        self.images: dict[int, int] = {}  # by id(): materials that share a texture share an image

    def tables(self) -> dict[str, Any]:
        images = [{"bufferView": view, "mimeType": "image/png"} for view in self.images.values()]
        tables = {
            "buffers": [{"byteLength": len(self.binary)}],
            "bufferViews": self.views,
            "accessors": self.accessors,
            "images": images,
            "textures": [{"source": i} for i in range(len(images))],
        }
        return {name: table for name, table in tables.items() if table}

    def view(self, data: bytes) -> int:
        self.views.append({"buffer": 0, "byteOffset": len(self.binary), "byteLength": len(data)})
        self.binary += data + b"\0" * (-len(data) % 4)
        return len(self.views) - 1

    def accessor(self, values: NDArray, kind: str) -> int:
        component = FLOAT if values.dtype == np.float32 else UNSIGNED_INT
        entry: dict[str, Any] = {"componentType": component, "count": len(values), "type": kind}
        entry["bufferView"] = self.view(values.tobytes())
        if kind == "VEC3":
            entry |= {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()}
        self.accessors.append(entry)
        return len(self.accessors) - 1

    def material(self, material: Material) -> dict[str, Any]:
        surface: dict[str, Any] = {
            "baseColorFactor": [*(channel**GAMMA for channel in material.color), 1.0],
            "metallicFactor": 0.0,
            "roughnessFactor": 1.0,
        }
        if material.texture is not None:
            if id(material.texture) not in self.images:
                png = io.BytesIO()
                Image.fromarray(material.texture).save(png, "PNG")
                self.images[id(material.texture)] = self.view(png.getvalue())
            surface["baseColorTexture"] = {"index": list(self.images).index(id(material.texture))}
        return {
            "name": material.name,
            "pbrMetallicRoughness": surface,
            "doubleSided": True,
            "extensions": {"KHR_materials_unlit": {}},
        }

    def primitive(self, scene: Scene, triangles: NDArray[np.int64], material: int) -> dict[str, Any]:
        vertices, indices = np.unique(scene.triangles[triangles], return_inverse=True)
        uv = scene.uv[vertices] * [1, -1] + [0, 1]  # glTF counts v from the top
        attributes = {
            "POSITION": self.accessor(np.asarray(scene.vertices[vertices], np.float32), "VEC3"),
            "TEXCOORD_0": self.accessor(np.asarray(uv, np.float32), "VEC2"),
            "COLOR_0": self.accessor(np.asarray(scene.light[vertices] ** GAMMA, np.float32), "VEC3"),
        }
        indices = self.accessor(indices.reshape(-1).astype(np.uint32), "SCALAR")
        return {"attributes": attributes, "indices": indices, "material": int(material), "mode": TRIANGLES}
