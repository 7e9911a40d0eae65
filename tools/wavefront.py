"""Read the furniture library: Wavefront models and materials, the catalogue of sizes, the licence of each model."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
import zipfile
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ARCHIVE = "./usr/share/sweethome3d/furniture/BlendSwap-CC-0.sh3f"
FOLDER = "blendswap-cc-0"
CATALOG = "PluginFurnitureCatalog.properties"


@dataclass(frozen=True)
class Mesh:
    """Triangles as a modelling program wrote them: an index of its own for positions and for texture coordinates."""

    vertices: NDArray  # (V, 3)
    uv: NDArray  # (U, 2)
    triangles: NDArray  # (T, 3) into vertices
    uv_triangles: NDArray  # (T, 3) into uv; -1 where there are none
    material: NDArray  # (T,)
    names: list[str]

    def at(self, vertices: NDArray) -> Mesh:
        """The same mesh at other places."""
        return replace(self, vertices=vertices)

    def only(self, keep: NDArray) -> Mesh:
        """The same mesh with the triangles where ``keep`` is true."""
        return replace(
            self, triangles=self.triangles[keep], uv_triangles=self.uv_triangles[keep], material=self.material[keep]
        )


@dataclass(frozen=True)
class Look:
    """A material: what it is unless its MTL says otherwise."""

    color: tuple[float, float, float] = (0.7, 0.7, 0.7)
    opacity: float = 1.0
    texture: str = ""


def open_package(deb: Path) -> zipfile.ZipFile:
    """The CC0 furniture library inside the Debian package."""
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(deb)], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        member = tar.extractfile(ARCHIVE)
        if member is None:
            raise FileNotFoundError(f"{deb} holds no {ARCHIVE}; expected the package sweethome3d-furniture 1.8-1")
        return zipfile.ZipFile(io.BytesIO(member.read()))


def read_catalog(library: zipfile.ZipFile) -> dict[str, dict[str, str]]:
    """{model folder: {"width": centimetres, "creator": ...}} from ``key#number=value`` lines."""
    numbered: dict[str, dict[str, str]] = {}
    for key, number, value in re.findall(r"^(\w+)#(\d+)=(.*)$", library.read(CATALOG).decode("latin-1"), re.M):
        numbered.setdefault(number, {})[key] = value.strip()
    return {entry["model"].split("/")[-2]: entry for entry in numbered.values()}


def read_obj(text: str) -> Mesh:
    """Positions, texture coordinates, triangulated faces and their materials of a Wavefront OBJ."""
    vertices, uv, triangles, uv_triangles, material = [], [], [], [], []
    names: list[str] = []
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        if word == "v":
            vertices.append([float(x) for x in rest[:3]])
        elif word == "vt":
            uv.append([float(x) for x in rest[:2]])
        elif word == "usemtl":
            name = " ".join(rest)
            if name not in names:
                names.append(name)
            current = names.index(name)
        elif word == "f":
            corners = [(corner + "//").split("/") for corner in rest]
            for b, c in pairwise(corners[1:]):
                triangles.append([int(k[0]) - 1 for k in (corners[0], b, c)])
                uv_triangles.append([int(k[1] or 0) - 1 for k in (corners[0], b, c)])
                material.append(current)
    # The catalogue measures what is drawn: vertices of no face (guides, curves) do not count.
    used, renamed = np.unique(triangles, return_inverse=True)
    return Mesh(
        vertices=np.array(vertices)[used],
        uv=np.array(uv).reshape(-1, 2),
        triangles=renamed.reshape(-1, 3),
        uv_triangles=np.array(uv_triangles),
        material=np.array(material),
        names=names,
    )


def read_mtl(text: str) -> dict[str, Look]:
    """What each material of a Wavefront MTL looks like."""
    looks: dict[str, Look] = {}
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        if word == "newmtl":
            name = " ".join(rest)
            looks[name] = Look()
        elif word == "Kd":
            red, green, blue = (float(x) for x in rest[:3])
            looks[name] = replace(looks[name], color=(red, green, blue))
        elif word == "d":
            looks[name] = replace(looks[name], opacity=float(rest[0]))
        elif word == "map_Kd":
            looks[name] = replace(looks[name], texture=" ".join(rest))
    return looks


def licence_of(library: zipfile.ZipFile, source: str) -> tuple[str, str]:
    """(what the licence file of a model says, where it says so).

    Raises:
        ValueError: the file is there and does not say CC0.
    """
    folder = f"{FOLDER}/{source}/"
    found = [name for name in library.namelist() if name.startswith(folder) and "licen" in name.lower()]
    if not found:
        return "CC0 (no file of its own)", "LICENSE.TXT of the library"
    text = re.sub(r"<[^>]+>", " ", library.read(found[0]).decode("utf-8", "replace"))
    stated = re.search(r"Creative Commons (Zero|Attribution)[\w .()-]{0,20}", " ".join(text.split()))
    if stated is None or stated[1] != "Zero":
        raise ValueError(f"{found[0]} does not say CC0: drop {source} from furniture_pieces.csv")
    blend = re.search(r"blendswap\.com/blends/view/(\d+)", text) or re.search(r"(\d{4,6}) - ", found[0])
    return "CC0" + (f", blendswap.com/blends/view/{blend[1]}" if blend else ""), found[0].removeprefix(FOLDER + "/")
