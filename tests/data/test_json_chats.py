"""JSON lines and lists: the rows that are there, none lost, each error with its line or entry."""

import json

import pytest
from chat_files import CHAT, DRAWING, LLAVA, TEXT, write_images, write_jsonl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dualsight.data.image_folder import ImageFolder
from dualsight.data.json_chats import JsonLines, JsonList
from dualsight.data.rows import BadData
from dualsight.types import Conversation, Drawing

same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


def test_chat_text_and_drawings_in_one_file(tmp_path):
    chats = JsonLines(write_jsonl(tmp_path / "mixed.jsonl", CHAT, TEXT, DRAWING))
    assert [type(example) for example in chats] == [Conversation, Conversation, Drawing]
    assert chats[0].images == (tmp_path / "a.png",) and chats[2].image == tmp_path / "b.png"
    assert chats[-1] == chats[2] and len(chats) == 3
    with pytest.raises(IndexError):
        chats[3]


def test_bom_crlf_blank_lines_and_a_last_line_without_its_newline(tmp_path):
    row = json.dumps(TEXT).encode()
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + row + b"\r\n\r\n  \n" + row + b"\r\n" + b"{broken}\r\n" + row)
    chats = JsonLines(path)
    assert len(chats) == 4 and chats[0] == chats[1] == chats[3]
    with pytest.raises(BadData, match=r"a\.jsonl, line 5: is not JSON: .* near '\{broken\}"):
        chats[2]
    path.write_bytes(b"\xef\xbb\xbf")
    assert len(JsonLines(path)) == 0


@pytest.mark.parametrize(
    "line, message",
    [
        (b'{"prompt": "x"', "line 2: is not JSON"),
        ('{"prompt": "é"}'.encode("latin-1"), "line 2: is not UTF-8: byte 12 is 0xe9"),
        (b"[1, 2]", r"line 2: is \[1, 2\]; an object is expected"),
        (b"7", "line 2: is 7; an object is expected"),
        (b'{"prompt": ' + b"[" * 100_000, "line 2: is nested too deeply"),
        (b'{"prompt": ' + b"1" * 5000 + b"}", "line 2: "),
        (b"\x00\x00", "line 2: is not JSON"),
    ],
    ids=["cut off", "latin-1", "list", "number", "nested", "long number", "zeros"],
)
def test_lines_that_are_no_rows(tmp_path, line, message):
    chats = JsonLines(write_jsonl(tmp_path / "a.jsonl", TEXT, line, TEXT))
    with pytest.raises(BadData, match=message):
        chats[1]
    assert chats[0] == chats[2], "the rows around it can still be read"


def test_images_stay_under_the_root(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", DRAWING, DRAWING | {"image": "../../b.png"})
    chats = JsonLines(path, ImageFolder(tmp_path / "images", tmp_path))
    assert chats[0].image == tmp_path / "images/b.png"
    with pytest.raises(BadData, match=r"line 2: image '../../b.png' leads out of"):
        chats[1]


def test_columns_rename_and_the_rest_is_passed_over(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", {"caption": "x", "file": "a.png", "score": 0.5}, {"score": 1})
    chats = JsonLines(path, columns={"prompt": "caption", "image": "file"})
    assert chats[0] == Drawing("x", tmp_path / "a.png")
    with pytest.raises(BadData, match="line 2: has none of caption, file; its keys: score"):
        chats[1]


def test_llava_s_list(tmp_path):
    write_images(tmp_path)
    path = tmp_path / "llava.json"
    two = LLAVA | {"image": ["a.png", "b.png"]}
    path.write_text("\ufeff" + json.dumps([LLAVA, two, TEXT, 7], indent=1), encoding="utf-8")
    chats = JsonList(path)
    assert len(chats) == 4 and chats[0].images == (tmp_path / "a.png",)
    with pytest.raises(BadData, match=r"llava\.json, entry 1: has 1 <image> in its turns and 2 image"):
        chats[1]
    assert chats[2].images == ()
    with pytest.raises(BadData, match="entry 3: is 7; an object"):
        chats[3]


texts = st.text('a"\\[]{},: \n\x00é☕\ud800', max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
json_rows = st.lists(st.dictionaries(texts, json_values, max_size=3), min_size=1, max_size=4)


@same_folder
@given(json_rows, st.sampled_from([None, 1]), st.booleans())
def test_the_list_s_rows_are_json_s(tmp_path, rows, indent, ascii):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows, indent=indent, ensure_ascii=ascii), encoding="utf-8", errors="replace")
    chats = JsonList(path)
    assert [chats.row(n) for n in range(len(chats))] == json.loads(path.read_text(encoding="utf-8"))


@same_folder
@given(json_rows, st.data())
def test_a_list_that_was_cut_off_anywhere_is_no_list(tmp_path, rows, data):
    whole = json.dumps(rows).encode()
    path = tmp_path / "a.json"
    path.write_bytes(whole[: data.draw(st.integers(1, len(whole) - 1))])
    with pytest.raises(BadData, match=r"a\.json is cut off: its list is never closed"):
        JsonList(path)


def test_lists_that_go_on_or_hold_nothing(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1}]\n{"b": 2}')
    with pytest.raises(BadData, match="goes on after its list has ended at byte 10"):
        JsonList(path)
    path.write_text(" [ \n ] \n")
    assert len(JsonList(path)) == 0
    path.write_text('[{"a": 1},]')
    with pytest.raises(BadData, match="entry 1: is not JSON"):
        JsonList(path)[1]
