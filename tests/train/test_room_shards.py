"""Collecting pictures of houses into shards."""

from dualsight.data.rooms import read_rooms
from dualsight.train.rooms import collect


def test_a_shard_per_house_and_none_twice(tmp_path):
    (path,) = collect([3], tmp_path, per_house=5)
    pictures = read_rooms([path])
    assert path.name == "rooms-000003.safetensors" and len(pictures) == 5
    assert all(picture.image.shape == (64, 64, 3) and picture.things for picture in pictures)
    before = path.stat().st_mtime_ns
    assert collect([3], tmp_path, per_house=5) == [path]
    assert path.stat().st_mtime_ns == before, "a shard that exists is kept"
