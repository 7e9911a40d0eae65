"""Make the furniture pack from Debian's ``sweethome3d-furniture`` package, of which it takes the CC0 models only.

    apt-get download sweethome3d-furniture=1.8-1
    python tools/make_furniture_pack.py sweethome3d-furniture_1.8-1_all.deb src/dualsight/envs/sim/assets

``furniture_pieces.csv`` beside this file names the models that are taken and what a house may do with them. Each is
read (OBJ, MTL, textures), checked for its licence, scaled to its real size, freed from glass and from what nobody can
see, decimated, and written with its texture coordinates and ambient occlusion. The same input gives the same bytes.

Besides `pip install dualsight[dev,sim]` it needs trimesh, which the library itself never uses.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mesh_ops import ambient_occlusion, areas, outward, split_at_creases, to_metres, transfer_uv, visible, weld
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save
from simplify import simplify
from wavefront import FOLDER, Look, Mesh, licence_of, open_package, read_catalog, read_mtl, read_obj

TEXTURE_SIZE = 128
"""Longest side of a shipped texture, pixels."""
TINY = 0.004
"""Materials that cover less of a piece (screws, labels) are left out."""
OPAQUE = 0.6
"""Materials less opaque than this are glass, and are left out: the renderer draws no glass."""


@dataclass(frozen=True)
class Piece:
    """One piece of furniture as it goes into the pack."""

    arrays: dict[str, NDArray]
    record: dict
    """Its entry in furniture.json."""
    textures: dict[str, bytes]
    """JPEG files by name."""
    provenance: dict
    """Its row of PROVENANCE.csv."""


def make_piece(library: zipfile.ZipFile, row: dict[str, str], entry: dict[str, str]) -> Piece:
    """The piece that a ``row`` of furniture_pieces.csv asks for; ``entry`` is what the catalogue says of its model."""
    source = row["source"]
    licence, stated_in = licence_of(library, source)
    original, looks = load(library, source, entry)
    mesh = cleaned(original, looks)

    places, welded, left = weld(mesh.vertices, mesh.triangles)
    vertices, triangles, material = simplify(places, welded, mesh.material[left], int(row["triangles"]))
    uv, materials, textures = surfaces(library, source, mesh, looks, vertices, triangles, material)
    vertices = centred(vertices)
    kept, material = np.unique(material, return_inverse=True)
    facing = outward(vertices, triangles)
    turned = (facing != triangles).any(axis=1)
    uv[turned] = uv[turned, ::-1]
    vertices, uv, normal, triangles = split_at_creases(vertices, facing, material, uv)
    occlusion = ambient_occlusion(vertices, triangles, normal, row["placement"].startswith("floor"))

    tint = mesh.names if row["tint"] == "*" else row["tint"].split(";")
    width, height, depth = (round(float(extent), 4) for extent in np.ptp(vertices, axis=0))
    size = {"width": width, "height": height, "depth": depth}
    return Piece(
        arrays={
            "vertices": vertices.astype(np.float32),
            "uv": uv.astype(np.float32),
            "triangles": triangles.astype(np.uint16),
            "material": material.astype(np.uint8),
            "occlusion": (255 * occlusion).astype(np.uint8),
        },
        record={
            "name": row["name"],
            "category": row["category"],
            "rooms": row["rooms"].split(";"),
            "placement": row["placement"],
            **size,
            "elevation": float(entry.get("elevation", 0)) / 100,
            "materials": materials,
            "tintable": [index for index, old in enumerate(kept) if mesh.names[old] in tint],
            "color": row["color"],
            "palette": row["colors"],
        },
        textures=textures,
        provenance={
            "name": row["name"],
            "category": row["category"],
            "source": f"{source}/{source}.obj",
            "author": entry.get("creator", ""),
            "licence": licence,
            "stated in": stated_in,
            "triangles before": len(original.triangles),
            "triangles after": len(triangles),
            **{f"{key} m": value for key, value in size.items()},
        },
    )


def load(library: zipfile.ZipFile, source: str, entry: dict[str, str]) -> tuple[Mesh, dict[str, Look]]:
    """A model at its real size, and what its materials look like."""
    path = f"{FOLDER}/{source}/{source}"
    mesh = read_obj(library.read(path + ".obj").decode("latin-1"))
    looks = read_mtl(library.read(path + ".mtl").decode("latin-1"))
    width, height, depth = (float(entry[key]) / 100 for key in ("width", "height", "depth"))
    return mesh.at(to_metres(mesh.vertices, width, height, depth)), looks


def cleaned(mesh: Mesh, looks: dict[str, Look]) -> Mesh:
    """Without glass, without what cannot be seen, without materials that hardly cover anything."""
    opaque = np.array([looks.get(name, Look()).opacity > OPAQUE for name in mesh.names])
    mesh = mesh.only(opaque[mesh.material])
    mesh = mesh.only(visible(mesh.vertices, mesh.triangles))
    share = np.bincount(mesh.material, areas(mesh.vertices, mesh.triangles), len(mesh.names))
    return mesh.only((share > TINY * share.sum())[mesh.material])


def surfaces(library: zipfile.ZipFile, source: str, mesh: Mesh, looks: dict[str, Look], vertices, triangles, material):
    """Texture coordinates (T, 3, 2) of the simplified piece, its materials for the record, its textures."""
    uv = np.zeros((len(triangles), 3, 2))
    listed, textures = [], {}
    for index in np.unique(material):
        name = mesh.names[index]
        look = looks.get(name, Look())
        image = read_texture(library, source, look.texture)
        if image is None:
            listed.append({"name": name, "color": [round(c, 3) for c in look.color], "texture": ""})
        else:
            file, textures[file] = image
            listed.append({"name": name, "color": [1.0, 1.0, 1.0], "texture": file})
            chosen = material == index
            uv[chosen] = transfer_uv(mesh.only(mesh.material == index), vertices, triangles[chosen])
    return uv, listed, textures


def centred(vertices: NDArray) -> NDArray:
    """The footprint centred at the origin, the lowest point at y = 0."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return vertices - np.array([(low[0] + high[0]) / 2, low[1], (low[2] + high[2]) / 2])


def read_texture(library: zipfile.ZipFile, source: str, file: str) -> tuple[str, bytes] | None:
    """(name by content, JPEG of at most ``TEXTURE_SIZE``), or None where the model ships no such image."""
    path = f"{FOLDER}/{source}/{file}"
    if not file or path not in library.namelist():
        return None
    data = library.read(path)
    image = opaque(Image.open(io.BytesIO(data)))
    image.thumbnail((TEXTURE_SIZE, TEXTURE_SIZE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=88)
    return f"{Path(file).stem.lower()}_{hashlib.sha256(data).hexdigest()[:6]}.jpg", out.getvalue()


def opaque(image: Image.Image) -> Image.Image:
    """RGB; what is transparent takes the mean colour of the rest (cane work becomes a plain weave)."""
    pixels = np.asarray(image.convert("RGBA"), float)
    alpha = pixels[..., 3:] / 255
    mean = (pixels[..., :3] * alpha).sum(axis=(0, 1)) / max(alpha.sum(), 1)
    return Image.fromarray((pixels[..., :3] * alpha + mean * (1 - alpha)).round().astype(np.uint8))


def main() -> None:
    """Read the package and the list of pieces, write the pack, its textures and PROVENANCE.csv."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("deb", type=Path, help="sweethome3d-furniture_1.8-1_all.deb")
    parser.add_argument("out", type=Path, help="the assets folder")
    parser.add_argument("--only", nargs="*", help="names of the pieces to make (to try something out)")
    arguments = parser.parse_args()
    library = open_package(arguments.deb)
    catalog = read_catalog(library)
    with open(Path(__file__).with_name("furniture_pieces.csv"), newline="") as file:
        rows = [row for row in csv.DictReader(file) if not arguments.only or row["name"] in arguments.only]

    pieces = []
    for row in rows:
        pieces.append(make_piece(library, row, catalog[row["source"]]))
        counts = pieces[-1].provenance
        print(f"{row['name']:28} {counts['triangles before']:6} -> {counts['triangles after']:5}", flush=True)

    tensors = {f"{piece.record['name']}/{key}": array for piece in pieces for key, array in piece.arrays.items()}
    (arguments.out / "textures").mkdir(parents=True, exist_ok=True)
    write(arguments.out / "furniture.safetensors", save(tensors))
    write(arguments.out / "furniture.json", json.dumps([piece.record for piece in pieces], indent=1).encode())
    for piece in pieces:
        for name, data in piece.textures.items():
            write(arguments.out / "textures" / name, data)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(pieces[0].provenance), lineterminator="\n")
    writer.writeheader()
    writer.writerows(piece.provenance for piece in pieces)
    write(arguments.out / "PROVENANCE.csv", text.getvalue().encode())


def write(path: Path, data: bytes) -> None:
    """Write to a temporary name beside ``path``, then rename."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(data)
    temporary.replace(path)


if __name__ == "__main__":
    main()
