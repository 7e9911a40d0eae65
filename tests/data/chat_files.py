"""Small data sets of every format, for the tests of their readers."""

import io
import json
import tarfile
import zlib

from PIL import Image

CHAT = {
    "messages": [{"role": "user", "content": "<image> What is this?"}, {"role": "assistant", "content": "A cup. ☕"}],
    "images": ["a.png"],
    "system": "Be brief.",
}
TEXT = {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]}
DRAWING = {"prompt": "ein roter Würfel", "image": "b.png"}
LLAVA = {
    "id": "7",
    "image": "a.png",
    "conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A [cup] {\"x\"}, so."}],
}  # fmt: skip


def encoded(width=6, height=4, colour="red", format="PNG") -> bytes:
    """A picture as the bytes of its file."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, format)
    return buffer.getvalue()


def bomb(side=20_000) -> bytes:
    """A PNG of a few bytes that says that it is ``side`` pixels wide and high."""
    header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    chunk = b"IHDR" + header
    data = encoded()
    return data[:8] + (13).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + data[33:]


def write_images(folder):
    """a.png (6 x 4, red) and b.png (8 x 8, blue)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.png").write_bytes(encoded())
    (folder / "b.png").write_bytes(encoded(8, 8, "blue"))


def write_jsonl(path, *rows):
    """Rows as lines; bytes stand in the file as they are."""
    lines = [row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() for row in rows]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def write_tar(path, files, links=()):
    """A shard of (name, bytes or JSON value or text) and of (name, target) symbolic links after them."""
    with tarfile.open(path, "w") as tar:
        for name, content in files:
            data = content if isinstance(content, bytes) else _text(content).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for name, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, str(target)
            tar.addfile(member)
    return path


def _text(content) -> str:
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
