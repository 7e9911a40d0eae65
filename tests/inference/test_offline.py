"""Frames without a simulator: folders, videos, and what can be wrong with them."""

import json
import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from dualsight.inference.navigator import Navigator
from dualsight.inference.offline import navigate_frames, read_frames
from dualsight.types import Action

FRAMES = np.random.default_rng(0).integers(0, 256, (12, 60, 80, 3), dtype=np.uint8)


def save_folder(folder, count=12):
    folder.mkdir()
    for n, frame in enumerate(FRAMES[:count]):
        Image.fromarray(frame).save(folder / f"frame_{n}.png")
    return folder


def save_video(path, frames=FRAMES):
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(8))
        stream.width, stream.height, stream.pix_fmt = 80, 60, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_a_folder_gives_an_action_per_frame_in_natural_order(tmp_path, checkpoint, capsys):
    folder = save_folder(tmp_path / "frames")
    records = navigate_frames(folder, "walk to the sofa", checkpoint, tmp_path / "actions.json")
    assert [record["frame"] for record in records] == [f"frame_{n}.png" for n in range(12)]
    navigator = Navigator.from_pretrained(checkpoint, "cpu").reset("walk to the sofa")
    assert [record["action"] for record in records] == [navigator.act(frame).name for frame in FRAMES]
    for record in records:
        assert sum(record["probabilities"].values()) == pytest.approx(1, abs=1e-3)
        assert record["probabilities"].keys() == Action.__members__.keys()
    written = json.loads((tmp_path / "actions.json").read_text())
    assert written["actions"] == records and written["instruction"] == "walk to the sofa"
    assert written["unparsed"] == sum(not record["parsed"] for record in records)
    assert "frame_11.png" in capsys.readouterr().out


def test_of_so_many_frames_the_first_is_shown(tmp_path, checkpoint):
    records = navigate_frames(save_folder(tmp_path / "frames"), "walk to the sofa", checkpoint, every=5)
    assert [record["frame"] for record in records] == ["frame_0.png", "frame_5.png", "frame_10.png"]
    navigator = Navigator.from_pretrained(checkpoint, "cpu").reset("walk to the sofa")
    assert [record["action"] for record in records] == [navigator.act(frame).name for frame in FRAMES[::5]]


def test_a_video_gives_its_frames(tmp_path):
    names, frames = zip(*read_frames(save_video(tmp_path / "walk.mp4")), strict=True)
    assert names[0] == "walk.mp4#0" and len(frames) == 12
    assert frames[0].shape == (60, 80, 3) and frames[0].dtype == np.uint8


def test_folders_without_frames_and_frames_that_are_none(tmp_path):
    (tmp_path / "notes.txt").write_text("no frame")
    with pytest.raises(ValueError, match="holds no frames: expected files named"):
        read_frames(tmp_path)
    with pytest.raises(FileNotFoundError, match="folder of images or a video file"):
        read_frames(tmp_path / "nowhere")
    Image.fromarray(FRAMES[0]).save(tmp_path / "one.png")
    with pytest.raises(ValueError, match="is one image"):
        read_frames(tmp_path / "one.png")
    (tmp_path / "two.png").write_bytes(b"GIF?")
    with pytest.raises(ValueError, match=r"two.png is no image"):
        read_frames(tmp_path)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16"])
def test_modes_that_are_not_rgb_are_named_before_anything_is_loaded(tmp_path, mode):
    folder = save_folder(tmp_path / "frames", 2)
    image = Image.fromarray(np.zeros((8, 8), np.uint16)) if mode == "I;16" else Image.new(mode, (8, 8))
    image.save(folder / "frame_2.png")
    with pytest.raises(ValueError, match=rf"frame_2.png has mode {mode}; expected RGB.*convert"):
        read_frames(folder)


@pytest.mark.parametrize("lost", [5, 20, 3000])
def test_a_truncated_png_is_named_before_anything_is_loaded(tmp_path, lost):
    folder = save_folder(tmp_path / "frames", 3)
    data = (folder / "frame_1.png").read_bytes()
    (folder / "frame_1.png").write_bytes(data[:-lost])
    with pytest.raises(ValueError, match=r"frame_1.png is cut off or damaged"):
        read_frames(folder)


def test_a_truncated_jpeg_is_named_when_it_is_read(tmp_path):
    Image.fromarray(FRAMES[0]).save(tmp_path / "a.jpg", quality=95)
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"a.jpg is cut off or damaged"):
        list(read_frames(tmp_path))


def test_damaged_videos_are_named(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"not a video")
    with pytest.raises(ValueError, match=r"a.mp4 is no video that can be read"):
        read_frames(tmp_path / "a.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"\.\[video\]"):
        read_frames(tmp_path / "a.mp4")
