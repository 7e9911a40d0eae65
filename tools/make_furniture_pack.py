"""Make the furniture pack from Debian's ``sweethome3d-furniture`` package, of which it takes the CC0 models only.

    apt-get download sweethome3d-furniture=1.8-1
    python tools/make_furniture_pack.py sweethome3d-furniture_1.8-1_all.deb src/dualsight/envs/sim/assets

``furniture_pieces.csv`` beside this file names the models that are taken and what a house may do with them. Each is
read (OBJ, MTL, textures), checked for its licence, scaled to its real size, freed from glass and from what nobody can
see, decimated, and written with its texture coordinates and ambient occlusion. The same input gives the same bytes.

Needs numba, Pillow, embreex and safetensors (`pip install dualsight[dev,sim]`).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
from mesh_ops import ambient_occlusion, areas, outward, split_at_creases, to_metres, transfer_uv, visible, weld
from PIL import Image
from safetensors.numpy import save
from simplify import simplify
from wavefront import FOLDER, licence_of, open_package, read_catalog, read_mtl, read_obj

TEXTURE_SIZE = 128
"""Longest side of a shipped texture, pixels."""
TINY = 0.004
"""Materials that cover less of a piece (screws, labels) are left out."""
OPAQUE = 0.6
"""Materials less opaque than this are glass, and are left out: the renderer draws no glass."""


def make_piece(library: zipfile.ZipFile, row: dict[str, str], entry: dict[str, str]) -> tuple[dict, dict, dict, dict]:
    """One piece of furniture.

    Returns:
        its arrays, its record in the pack, its textures {file name: JPEG bytes}, its row of the provenance table.
    """
    source = row["source"]
    licence, stated_in = licence_of(library, source)
    path = f"{FOLDER}/{source}/{source}"
    mesh = read_obj(library.read(path + ".obj").decode("latin-1"))
    materials = read_mtl(library.read(path + ".mtl").decode("latin-1"))
    width, height, depth = (float(entry[key]) / 100 for key in ("width", "height", "depth"))
    before = len(mesh.triangles)

    mesh = mesh.scaled(to_metres(mesh.vertices, width, height, depth))
    opacity = np.array([materials.get(name, GREY)["opacity"] for name in mesh.names])
    mesh = mesh.only(opacity[mesh.material] > OPAQUE)
    mesh = mesh.only(visible(mesh.vertices, mesh.triangles))
    share = np.bincount(mesh.material, areas(mesh.vertices, mesh.triangles), len(mesh.names))
    mesh = mesh.only((share > TINY * share.sum())[mesh.material])

    places, welded, left = weld(mesh.vertices, mesh.triangles)
    vertices, triangles, material = simplify(places, welded, mesh.material[left], int(row["triangles"]))
    triangles = outward(vertices, triangles)
    kept, material = np.unique(material, return_inverse=True)

    uv = np.zeros((len(triangles), 3, 2))
    listed, textures = [], {}
    for index, old in enumerate(kept):
        description = materials.get(mesh.names[old], GREY)
        image = read_texture(library, source, description["texture"])
        if image is not None:
            chosen = mesh.material == old
            uv[material == index] = transfer_uv(mesh.only(chosen), vertices, triangles[material == index])
            name, data = image
            textures[name] = data
        listed.append(
            {
                "name": mesh.names[old],
                "color": [1.0, 1.0, 1.0] if image else [round(c, 3) for c in description["color"]],
                "texture": image[0] if image else "",
            }
        )
    tint = mesh.names if row["tint"] == "*" else row["tint"].split(";")
    vertices, uv, normal, triangles = split_at_creases(vertices, triangles, material, uv)
    elevation = float(entry.get("elevation", 0)) / 100
    arrays = {
        "vertices": vertices.astype(np.float32),
        "uv": uv.astype(np.float32),
        "triangles": triangles.astype(np.uint16),
        "material": material.astype(np.uint8),
        "occlusion": (
            255 * ambient_occlusion(vertices, triangles, normal, row["placement"].startswith("floor"))
        ).astype(np.uint8),
    }
    record = {
        "name": row["name"], "category": row["category"], "rooms": row["rooms"].split(";"),
        "placement": row["placement"], "width": width, "height": height, "depth": depth, "elevation": elevation,
        "materials": listed, "tintable": [i for i, old in enumerate(kept) if mesh.names[old] in tint],
        "color": row["color"], "palette": row["colors"],
    }  # fmt: skip
    provenance = {
        "name": row["name"], "category": row["category"], "source": f"{source}/{source}.obj",
        "author": entry.get("creator", ""), "licence": licence, "stated in": stated_in,
        "triangles before": before, "triangles after": len(triangles),
        "width m": width, "depth m": depth, "height m": height,
    }  # fmt: skip
    return arrays, record, textures, provenance


GREY = {"color": (0.7, 0.7, 0.7), "opacity": 1.0, "texture": ""}
"""What a material is that the model uses and its library does not describe."""


def read_texture(library: zipfile.ZipFile, source: str, file: str) -> tuple[str, bytes] | None:
    """(name by content, JPEG of at most ``TEXTURE_SIZE``), or None where the model ships no such image."""
    path = f"{FOLDER}/{source}/{file}"
    if not file or path not in library.namelist():
        return None
    data = library.read(path)
    image = Image.open(io.BytesIO(data)).convert("RGB")
    image.thumbnail((TEXTURE_SIZE, TEXTURE_SIZE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=88)
    return f"{Path(file).stem.lower()}_{hashlib.sha256(data).hexdigest()[:6]}.jpg", out.getvalue()


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

    tensors, records, textures, table = {}, [], {}, []
    for row in rows:
        arrays, record, images, provenance = make_piece(library, row, catalog[row["source"]])
        tensors |= {f"{row['name']}/{key}": array for key, array in arrays.items()}
        records.append(record)
        textures |= images
        table.append(provenance)
        print(f"{row['name']:28} {provenance['triangles before']:6} -> {provenance['triangles after']:5}", flush=True)

    (arguments.out / "textures").mkdir(parents=True, exist_ok=True)
    write(arguments.out / "furniture.safetensors", save(tensors))
    write(arguments.out / "furniture.json", json.dumps(records, indent=1).encode())
    for name, data in textures.items():
        write(arguments.out / "textures" / name, data)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write(arguments.out / "PROVENANCE.csv", text.getvalue().encode())


def write(path: Path, data: bytes) -> None:
    """Write to a temporary name beside ``path``, then rename."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(data)
    temporary.replace(path)


if __name__ == "__main__":
    main()
