"""Hugging Face data: through a stand-in for `datasets`, and through the real one where it is installed."""

import sys
from types import SimpleNamespace

import pytest
from chat_files import CHAT, DRAWING, TEXT, bomb, encoded

from dualsight.data.chats import open_data
from dualsight.data.hub_chats import HubDataset
from dualsight.data.rows import BadData
from dualsight.pictures import open_picture

RED = {"bytes": encoded(), "path": "a.png"}
ROWS = [
    CHAT | {"images": [RED], "prompt": None},
    TEXT | {"images": [], "system": None},
    {"prompt": "ein roter Würfel", "images": [RED], "messages": None},
    DRAWING | {"prompt": "x"},
]


class StandIn:
    """What a data set of `datasets` does, as far as it is used here."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def with_format(self, name):
        assert name == "arrow"
        return self

    def __getitem__(self, index):
        return SimpleNamespace(to_pylist=lambda: [self.rows[index]])


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A folder, and what `load_from_disk` returns for it."""

    def save(loaded):
        monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_from_disk=lambda name: loaded))
        folder = tmp_path / "set"
        folder.mkdir(exist_ok=True)
        (folder / "dataset_info.json").write_text("{}")
        return folder

    return save


def test_rows_of_a_saved_folder(saved):
    folder = saved(StandIn(ROWS))
    chats = open_data(folder)
    assert isinstance(chats, HubDataset) and len(chats) == 4
    assert open_picture(chats[0].images[0]).getpixel((0, 0)) == (255, 0, 0)
    assert chats[1].images == () and chats[1].system is None
    assert chats[2].prompt == "ein roter Würfel" and open_picture(chats[2].image).size == (6, 4)
    assert chats[3].image == folder.parent / "b.png"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_columns_and_bad_rows(saved):
    rows = [
        {"text": "x", "jpg": image, "score": 1.0} for image in (RED, {"bytes": b"?", "path": None}, {"bytes": bomb()})
    ]
    chats = open_data(saved(StandIn(rows)), columns={"prompt": "text", "image": "jpg"})
    assert chats[0].prompt == "x"
    with pytest.raises(BadData, match="set, row 1: image given as bytes is in no format that PIL reads"):
        chats[1]
    with pytest.raises(BadData, match="set, row 2: image given as bytes is too large"):
        chats[2]
    with pytest.raises(BadData, match=r"row 0: has none of messages.*Its keys: jpg, score, text"):
        open_data(saved(StandIn(rows)))[0]


def test_splits_are_named(saved):
    both = {"train": StandIn(ROWS), "test": StandIn(ROWS[:1])}
    assert len(open_data(saved(both), split="test")) == 1
    with pytest.raises(BadData, match="has several splits; name one as split: train, test"):
        open_data(saved(both))
    with pytest.raises(BadData, match="has no split 'val': train, test"):
        open_data(saved(both), split="val")
    assert len(open_data(saved({"train": StandIn(ROWS)}))) == 4


def test_without_the_extra_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(ImportError, match=r"a\.parquet: .*\.\[data\]"):
        open_data(tmp_path / "a.parquet")


# --- the real one -----------------------------------------------------------------------------------------------------


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    module = pytest.importorskip("datasets")
    monkeypatch.setattr(module.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return module


@pytest.fixture
def table(datasets):
    """Rows of all kinds, their images in a list of an image column."""
    message = {"role": datasets.Value("string"), "content": datasets.Value("string")}
    features = datasets.Features(
        {"messages": datasets.List(message), "images": datasets.List(datasets.Image()),
         "system": datasets.Value("string"), "prompt": datasets.Value("string")}
    )  # fmt: skip
    empty = {"messages": None, "system": None, "prompt": None}
    return datasets.Dataset.from_list([empty | row for row in ROWS[:3]], features=features)


def check(chats):
    assert [type(example).__name__ for example in chats] == ["Conversation", "Conversation", "Drawing"]
    assert chats[0].system == "Be brief." and chats[1].images == ()
    assert open_picture(chats[0].images[0]).getpixel((0, 0)) == (255, 0, 0)
    assert open_picture(chats[-1].image).size == (6, 4)


def test_real_folders_and_parquet(datasets, table, tmp_path):
    table.save_to_disk(tmp_path / "set")
    check(open_data(tmp_path / "set"))
    datasets.DatasetDict(train=table, test=table.select([0])).save_to_disk(tmp_path / "splits")
    check(open_data(tmp_path / "splits", split="train"))
    table.to_parquet(tmp_path / "part-0.parquet")
    check(open_data(tmp_path / "part-0.parquet"))
    table.to_parquet(tmp_path / "part-1.parquet")
    assert len(open_data(f"{tmp_path}/part-{{0..1}}.parquet")) == 6


def test_real_files_that_are_cut_off(datasets, table, tmp_path):
    path = tmp_path / "a.parquet"
    table.to_parquet(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(BadData, match=r"a\.parquet cannot be read by Hugging Face datasets"):
        open_data(path)
    table.save_to_disk(tmp_path / "set")
    (arrow,) = (tmp_path / "set").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:100])
    with pytest.raises(BadData, match="set cannot be read by Hugging Face datasets"):
        open_data(tmp_path / "set")
