"""`open_data`: the kind is recognised, or the error says what would be."""

import gzip
import json
import pickle

import pytest
from chat_files import CHAT, DRAWING, LLAVA, TEXT, encoded, write_jsonl, write_tar

from dualsight.data.chats import by_kind, expand, open_data
from dualsight.data.json_chats import JsonLines, JsonList
from dualsight.data.rows import BadData
from dualsight.data.tar_chats import TarShard


def test_the_kind_is_recognised_by_content_then_by_name(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", TEXT)
    write_jsonl(tmp_path / "lines.json", TEXT, TEXT)
    write_jsonl(tmp_path / "broken.jsonl", b"broken", TEXT)
    (tmp_path / "llava.json").write_text(json.dumps([LLAVA]))
    (tmp_path / "one_line_list.jsonl").write_text("\ufeff " + json.dumps([TEXT]), encoding="utf-8")
    write_tar(tmp_path / "a.tar", [("1.json", TEXT)])
    write_tar(tmp_path / "shard", [("1.json", TEXT)])
    kinds = {"a.jsonl": JsonLines, "lines.json": JsonLines, "broken.jsonl": JsonLines, "llava.json": JsonList}
    kinds |= {"one_line_list.jsonl": JsonList, "a.tar": TarShard, "shard": TarShard}
    assert {name: type(open_data(tmp_path / name)) for name in kinds} == kinds


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.jsonl", b"", "a.jsonl is empty; expected JSON lines, a JSON list"),
        ("a.tar", b"", "a.tar is empty"),
        ("a.tar", b"no tar", "a.tar is no whole tar file"),
        (
            "a.tar.gz",
            gzip.compress(b"x", mtime=0),
            "a.tar.gz is compressed and cannot be read from the middle; decompress",
        ),
        ("a.tar", gzip.compress(b"x", mtime=0), "a.tar is compressed"),
        ("a.txt", b"hello", "a.txt is of no known kind; expected JSON lines"),
        ("a.json", b"7", "a.json is of no known kind"),
    ],
)
def test_files_of_no_known_kind(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadData, match=message):
        open_data(tmp_path / name)


def test_folders_that_datasets_did_not_save_and_missing_files(tmp_path):
    with pytest.raises(
        BadData, match=r"is a folder that Hugging Face datasets did not save; name the files: .*/\*\.tar"
    ):
        open_data(tmp_path)
    for name in ("none.jsonl", "*.tar", "{0..2}.tar", "{2..0}.tar"):
        with pytest.raises(FileNotFoundError, match="no such file"):
            open_data(f"{tmp_path}/{name}")


def test_shards_are_one_set_in_order(tmp_path):
    for n in range(12):
        write_tar(tmp_path / f"s-{n:03d}.tar", [(f"{k}.json", TEXT | {"system": f"{n}.{k}"}) for k in range(n % 3)])
    chats = open_data(f"{tmp_path}/s-{{000..011}}.tar")
    expected = [f"{n}.{k}" for n in range(12) for k in range(n % 3)]
    assert len(chats) == len(expected) and [example.system for example in chats] == expected
    assert chats[-1].system == "11.1" and chats.where(-1) == f"{tmp_path}/s-011.tar, 1"
    assert [e.system for e in open_data(f"{tmp_path}/s-*.tar")] == expected
    with pytest.raises(IndexError):
        chats[len(chats)]
    with pytest.raises(FileNotFoundError, match=r"s-012\.tar"):
        open_data(f"{tmp_path}/s-{{000..012}}.tar")


def test_expansion(tmp_path):
    names = ["a1.tar", "a2.tar", "b1.tar", "c[1].jsonl", "c1.jsonl"]
    for name in names:
        (tmp_path / name).touch()

    def found(pattern):
        return [path.name for path in expand(f"{tmp_path}/{pattern}")]

    assert found("{a,b}1.tar") == ["a1.tar", "b1.tar"]
    assert found("a{1..2}.tar") == ["a1.tar", "a2.tar"]
    assert found("?[12].tar") == ["a1.tar", "a2.tar", "b1.tar"]
    assert found("c[1].jsonl") == ["c[1].jsonl"], "a file of that very name comes first"


def test_options_reach_the_reader(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", {"caption": "x", "file": "a.png"}, {"caption": "x", "file": "../a.png"})
    chats = open_data(path, columns={"prompt": "caption", "image": "file"}, images=tmp_path / "i", root=tmp_path / "i")
    assert chats[0].image == tmp_path / "i/a.png"
    with pytest.raises(BadData, match=r"line 2: image '../a.png' leads out of"):
        chats[1]


def test_a_mixed_set_by_kind(tmp_path):
    chats = open_data(write_jsonl(tmp_path / "a.jsonl", DRAWING, TEXT, CHAT, DRAWING | {"prompt": "y"}))
    kinds = by_kind(chats)
    assert {kind: len(chosen) for kind, chosen in kinds.items()} == {"understanding": 1, "text": 1, "generation": 2}
    assert kinds["generation"][1].prompt == "y" and kinds["generation"].where(1).endswith("line 4")
    assert list(by_kind(open_data(write_jsonl(tmp_path / "b.jsonl", TEXT)))) == ["text"]


def test_readers_can_be_sent_to_the_processes_of_a_loader(tmp_path):
    lines = write_jsonl(tmp_path / "a.jsonl", TEXT, CHAT)
    shard = write_tar(tmp_path / "a.tar", [("1.png", encoded()), ("1.txt", "x"), ("2.json", TEXT)])
    for path in (lines, shard):
        chats = open_data(path)
        copied = pickle.loads(pickle.dumps(chats))
        assert len(copied) == 2 and copied.where(0) == chats.where(0)
    assert copied[1] == chats[1]
