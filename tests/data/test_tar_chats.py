"""webdataset shards: random access equals the order they were written in; nothing foreign is followed or lost."""

import tarfile

import numpy as np
import pytest
from chat_files import CHAT, DRAWING, LLAVA, TEXT, encoded, write_tar
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dualsight.data.rows import BadData
from dualsight.data.tar_chats import TarShard
from dualsight.pictures import open_picture

EXAMPLES = [
    ("a/001.jpg", encoded(format="JPEG")), ("a/001.txt", "ein roter Würfel\n"),
    ("a/002.png", encoded(8, 8, "blue")), ("a/002.json", CHAT),
    ("b/002.json", TEXT),
    ("003.10.png", encoded(10)), ("003.2.PNG", encoded(2)), ("003.cls", "7"),
    ("003.json", {"question": "Which?", "answer": "The second."}),
    ("004.png", encoded()), ("004.json", {"prompt": "x", "image": "../../etc/passwd"}),
    ("005.webp", encoded(format="WEBP")), ("005.json", {"url": "u", "width": 6}), ("005.txt", "caption"),
]  # fmt: skip


@pytest.fixture
def shard(tmp_path):
    return write_tar(tmp_path / "a.tar", EXAMPLES)


def test_neighbours_with_one_stem_are_an_example(shard):
    chats = TarShard(shard)
    assert len(chats) == 6
    assert chats[0].prompt == "ein roter Würfel" and chats[5].prompt == "caption"
    assert chats[1].turns[0].text == "<image> What is this?" and chats[1].system == "Be brief."
    assert open_picture(chats[1].images[0]).getpixel((0, 0)) == (0, 0, 255)
    assert chats[2].images == ()
    assert [open_picture(image).width for image in chats[3].images] == [2, 10], "by number, not by name"
    assert open_picture(chats[4].image).size == (6, 4), "the neighbour, not the file that the row names"
    assert chats.where(3) == f"{shard}, 003" and chats.where(1) == f"{shard}, a/002"


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_folders_and_hidden_files_in_every_tar_format(tmp_path, kind):
    folder = tmp_path / ("d" * 90) / ("é" * 20)
    folder.mkdir(parents=True)
    for name, data in {"7.png": encoded(), "._7.png": b"macOS", "7.txt": b"x"}.items():
        (folder / name).write_bytes(data)
    with tarfile.open(tmp_path / "a.tar", "w", format=kind) as tar:
        tar.add(tmp_path / ("d" * 90), "d" * 90)
    chats = TarShard(tmp_path / "a.tar")
    assert len(chats) == 1 and chats[0].prompt == "x" and open_picture(chats[0].image).size == (6, 4)


def test_columns_rename_the_fields_of_the_json(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("1.png", encoded()), ("1.json", {"caption": "x", "score": 1})])
    assert TarShard(path, {"prompt": "caption"})[0].prompt == "x"


def test_links_are_never_followed(tmp_path):
    (tmp_path / "secret.png").write_bytes(encoded())
    path = write_tar(tmp_path / "a.tar", [("1.txt", "x")], [("1.png", tmp_path / "secret.png")])
    with pytest.raises(BadData, match=r"a\.tar, 1: 1\.png is a link or a special file"):
        TarShard(path)[0]


@pytest.mark.parametrize(
    "files, message",
    [
        ([("1.png", encoded())], r"a\.tar, 1: has no \.json and no \.txt, only png"),
        ([("1.txt", "x")], "1: has a prompt and 0 images"),
        ([("1.png", b"no image"), ("1.txt", "x")], r"1: image .*a\.tar:1\.png is in no format"),
        ([("1.png", encoded()), ("1.png", encoded()), ("1.txt", "x")], r"1: 1\.png is there twice"),
        ([("1.json", b"{")], "1: is not JSON"),
        ([("1.json", "7")], "1: is 7; an object"),
        ([("1.json", LLAVA)], "1: has 1 <image> in its turns and 0 image"),
        ([("1.png", encoded()), ("1.txt", b"\xe9")], "1: is not UTF-8"),
    ],
)
def test_bad_examples_are_named(tmp_path, files, message):
    chats = TarShard(write_tar(tmp_path / "a.tar", [("0.json", TEXT), *files, ("2.json", TEXT)]))
    with pytest.raises(BadData, match=message):
        chats[1]
    assert chats[0] == chats[2]


def test_a_shard_that_was_cut_off_anywhere_is_no_shard(shard):
    whole = shard.read_bytes()
    end = len(whole.rstrip(b"\0"))
    for size in [*range(1, end, 97), end - end % 512, end // 512 * 512 + 512]:
        shard.write_bytes(whole[:size])
        with pytest.raises(BadData, match=r"a\.tar is (cut off or damaged|no whole tar file)"):
            TarShard(shard)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 12_000), st.integers(0, 255)), min_size=1, max_size=4))
def test_flipped_bytes_end_in_a_named_error_or_in_an_example(tmp_path, flips):
    path = write_tar(tmp_path / "a.tar", EXAMPLES)
    data = bytearray(path.read_bytes())
    for place, value in flips:
        data[place] = value
    path.write_bytes(data)
    try:
        chats = TarShard(path)
    except BadData as error:
        assert "a.tar" in str(error)
        return
    for index in range(len(chats)):
        try:
            chats[index]
        except BadData as error:
            assert "a.tar" in str(error)


@pytest.mark.parametrize("size", [-1024, 2**60, 2**80], ids=["negative", "huge", "beyond 64 bits"])
def test_a_member_of_a_size_that_cannot_be(shard, size):
    """A negative one must not lead back, in circles."""
    data = bytearray(shard.read_bytes())
    data[124:136] = size.to_bytes(12, "big", signed=True) if size < 0 else bytes([128]) + size.to_bytes(11, "big")
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    shard.write_bytes(data)
    with pytest.raises(BadData, match=r"a\.tar is no whole tar file|a\.tar is cut off or damaged"):
        TarShard(shard)


def test_a_file_that_changed_after_it_was_opened(shard):
    chats = TarShard(shard)
    shard.write_bytes(b"x" * 5000)
    with pytest.raises(BadData, match=r"a\.tar, example 1: is no longer at byte \d+; the file has changed"):
        chats[1]
    shard.write_bytes(b"")
    with pytest.raises(BadData, match="the file has changed since it was opened"):
        chats[1]


def test_random_access_is_the_order_of_writing(tmp_path):
    files = [pair for n in range(40) for pair in ((f"{n:03d}.json", TEXT | {"system": f"{n}"}), (f"{n:03d}.cls", "1"))]
    chats = TarShard(write_tar(tmp_path / "a.tar", files))
    order = np.random.default_rng(0).permutation(40)
    assert [chats[int(n)].system for n in order] == [str(n) for n in order]


def test_a_drawing_row_may_stand_in_a_json(tmp_path):
    path = write_tar(tmp_path / "a.tar", [("1.png", encoded()), ("1.json", DRAWING)])
    assert TarShard(path)[0].prompt == DRAWING["prompt"]
