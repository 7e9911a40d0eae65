"""Collecting pictures of houses into shards."""

from dualsight.data.housetalk import read_views
from dualsight.data.rooms import read_rooms
from dualsight.train.rooms import collect, collect_views


def test_a_shard_per_house_and_none_twice(tmp_path):
    (path,) = collect([3], tmp_path, per_house=5)
    pictures = read_rooms(tmp_path)
    assert path.name == "rooms-000003.safetensors" and len(pictures) == 5
    assert all(picture.image.shape == (64, 64, 3) and picture.things for picture in pictures)
    before = path.stat().st_mtime_ns
    assert collect([3], tmp_path, per_house=5) == [path]
    assert path.stat().st_mtime_ns == before, "a shard that exists is kept"


def test_views_of_surroundings_are_shards_too(tmp_path):
    (path,) = collect_views([3], tmp_path, per_house=3, side=32)
    assert path.name == "views-000003.safetensors"
    pictures = read_views(str(tmp_path))
    assert len(pictures) == 3 and all(picture.image.shape == (64, 64, 3) and picture.things for picture in pictures)
