"""Images given as what they can be given as, and what is none."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dualsight.pictures import open_picture


def test_transparency_is_dropped_as_in_the_release(tmp_path):
    Image.new("RGBA", (4, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert np.asarray(open_picture(tmp_path / "clear.png"))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        (np.zeros((2, 2, 3)), TypeError, "float64"),
        (np.zeros((2, 2), np.uint8), ValueError, r"\(2, 2\)"),
        (np.zeros((0, 2, 3), np.uint8), ValueError, "expected"),
        (Image.new("RGB", (0, 4)), ValueError, "0x4 pixels"),
        ("a.png", TypeError, "str"),
        (Path("absent.png"), ValueError, r"absent\.png is missing"),
    ],
)
def test_what_is_no_image_is_said(wrong, kind, message):
    with pytest.raises(kind, match=message):
        open_picture(wrong)
