"""Images of a data set: found in its folder only, and named when they are missing, damaged or too large."""

import os

import numpy as np
import pytest
from chat_files import bomb, encoded
from PIL import Image

from dualsight.data.image_folder import ImageFolder, picture_of
from dualsight.pictures import open_picture


def test_a_picture_in_a_file_in_bytes_and_in_memory_is_the_same(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded())
    folder = ImageFolder(tmp_path)
    values = ["a.png", encoded(), {"bytes": encoded(), "path": None}, {"bytes": None, "path": "a.png"}]
    pictures = [picture_of(value, folder) for value in values]
    assert pictures[0] == tmp_path / "a.png"
    pictures += [np.full((4, 6, 3), [255, 0, 0], np.uint8), Image.new("RGB", (6, 4), "red")]
    for picture in pictures:
        assert np.array_equal(np.asarray(open_picture(picture)), np.full((4, 6, 3), [255, 0, 0]))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_every_mode_becomes_rgb(mode, tmp_path):
    path = tmp_path / "a.tiff"
    Image.new(mode, (3, 2)).save(path)
    assert open_picture(path).mode == "RGB"


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "in/../../secret.png", "link/secret.png"])
def test_no_image_leaves_the_root(tmp_path, name):
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"leads out of .*root, where all images are expected"):
        ImageFolder(root, root)(name)
    assert ImageFolder(root)(name) == root / name, "without a root an image may lie anywhere"
    assert ImageFolder(root / "in", root)("../a.png") == root / "in/../a.png"


@pytest.mark.parametrize("value", ["", None, 7, ["a.png"], {"url": "x"}, {"bytes": None, "path": None}])
def test_what_is_no_image_is_shown(value, tmp_path):
    with pytest.raises(ValueError, match=r"an image is given as .*the name of a file is expected"):
        picture_of(value, ImageFolder(tmp_path))


@pytest.mark.parametrize("name", ["none.png", "folder", "pipe", "loop", "a" * 5000, "nul\0.png"])
def test_missing_files_are_named(tmp_path, name):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ValueError, match=r"is missing|null"):
        open_picture(ImageFolder(tmp_path, tmp_path)(name))


def test_damaged_images_are_named(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(64, 64)[:-30])
    with pytest.raises(ValueError, match=r"a\.png does not decode, it is cut off or damaged"):
        open_picture(path)
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(ValueError, match=r"a\.png is in no format that PIL reads"):
        open_picture(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.png is in no format that PIL reads"):
        open_picture(path)
    cut = picture_of({"bytes": encoded(64, 64)[:-30], "path": "shard:7.png"}, ImageFolder(tmp_path))
    with pytest.raises(ValueError, match=r"shard:7\.png does not decode"):
        open_picture(cut)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 20_000])
def test_an_image_beyond_the_limit_is_not_decoded(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(bomb(side))
    with pytest.raises(ValueError, match=r"bomb\.png is too large"):
        open_picture(tmp_path / "bomb.png")
    with pytest.raises(ValueError, match="is too large"):
        picture_of(bomb(side), ImageFolder(tmp_path))


def test_a_user_can_lift_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(ValueError, match="6 x 4 pixels, the limit is 20"), pytest.warns(Image.DecompressionBombWarning):
        open_picture(picture_of(encoded(), ImageFolder(tmp_path)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert open_picture(picture_of(encoded(), ImageFolder(tmp_path))).size == (6, 4)
