"""Episode files of VLN-CE: R2R-CE v1-3 and RxR-CE, read and written.

``{split}.json.gz``::

    {"episodes": [{"episode_id": 1, "trajectory_id": 4, "scene_id": "mp3d/<scan>/<scan>.glb",
                   "start_position": [x, y, z], "start_rotation": [x, y, z, w],
                   "info": {"geodesic_distance": 6.4}, "goals": [{"position": [x, y, z], "radius": 3.0}],
                   "instruction": {"instruction_text": "...", "instruction_tokens": [...]},
                   "reference_path": [[x, y, z], ...]}, ...],
     "instruction_vocab": {"word_list": ["<pad>", "<unk>", ...], ...}}

RxR-CE's ``{split}_guide.json.gz`` is the same without ``instruction_vocab``, and its instructions say more: language,
annotator, ``timed_instruction``; all of that is kept in ``Episode.info["instruction"]``.

``{split}_gt.json.gz`` holds what an expert did, by episode id: ``{"1": {"locations": [[x, y, z], ...],
"forward_steps": 25, "actions": [1, 2, ..., 0]}}``. nDTW is measured against ``locations``.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dualsight.data.files import replacing
from dualsight.types import Action, Episode, Pose

PAD, UNKNOWN = "<pad>", "<unk>"


class BadEpisodeFile(ValueError):
    """A file that is no episode file, or an episode in it that cannot be read; the message names file and row."""


@dataclass(frozen=True)
class GroundTruth:
    """What an expert did in one episode."""

    locations: np.ndarray
    """(L, 3) places it went through, metres."""
    actions: list[int]

    @property
    def forward_steps(self) -> int:
        return sum(action == Action.MOVE_FORWARD for action in self.actions)


def read_episodes(path: Path, languages: Sequence[str] | None = None) -> list[Episode]:
    """The episodes of an R2R-CE or RxR-CE file.

    Args:
        languages: keep RxR instructions in these only; English is ``("en-US", "en-IN")``.

    Raises:
        BadEpisodeFile: naming the file, the row and what is wrong with it.
    """
    content = _read(Path(path))
    if not isinstance(content, dict) or not isinstance(content.get("episodes"), list):
        raise BadEpisodeFile(f"{path} is no episode file: an object with a list 'episodes' is expected")
    episodes = [_episode(row, f"{path}, episode {n}") for n, row in enumerate(content["episodes"])]
    return [e for e in episodes if languages is None or e.info["instruction"].get("language") in languages]


def read_ground_truth(path: Path) -> dict[str, GroundTruth]:
    """What experts did, by episode id, of a ``*_gt.json.gz`` file."""
    truths = {}
    for episode_id, row in _read(Path(path)).items():
        try:
            locations = np.array(row["locations"], float).reshape(-1, 3)
            truths[episode_id] = GroundTruth(locations, [int(Action(a)) for a in row["actions"]])
        except (KeyError, TypeError, ValueError) as error:
            raise BadEpisodeFile(f"{path}, episode {episode_id}: {_reason(error)}") from error
    return truths


def with_ground_truth(episodes: Iterable[Episode], truths: Mapping[str, GroundTruth]) -> list[Episode]:
    """The episodes with the expert's path in ``info["locations"]``, where nDTW finds it."""
    return [
        replace(e, info=e.info | {"locations": truths[e.episode_id].locations.tolist()})
        if e.episode_id in truths
        else e
        for e in episodes
    ]


def write_episodes(path: Path, episodes: Sequence[Episode], vocabulary: Sequence[str] | None = None) -> None:
    """Write a file that VLN-CE and habitat-lab's ``R2RVLN-v1`` loader read.

    Args:
        vocabulary: the words of ``instruction_vocab``, padding and unknown first; by default those of the episodes.
    """
    words = list(vocabulary or [PAD, UNKNOWN, *sorted({w for e in episodes for w in tokenise(e.instruction)})])
    number = {word: n for n, word in enumerate(words)}
    vocab = {
        "word_list": words,
        "word2idx_dict": number,
        "stoi": number,
        "itos": words,
        "num_vocab": len(words),
        "UNK_INDEX": number[UNKNOWN],
        "PAD_INDEX": number[PAD],
    }
    _write(Path(path), {"episodes": [_row(e, number) for e in episodes], "instruction_vocab": vocab})


def write_ground_truth(path: Path, truths: Mapping[str, GroundTruth]) -> None:
    """Write a ``*_gt.json.gz`` file."""
    rows = {
        episode_id: {
            "locations": truth.locations.tolist(),
            "forward_steps": truth.forward_steps,
            "actions": list(map(int, truth.actions)),
        }
        for episode_id, truth in truths.items()
    }
    _write(Path(path), rows)


def tokenise(text: str) -> list[str]:
    """Lower-case words and punctuation marks."""
    return re.findall(r"[a-z0-9']+|[^\sa-z0-9']", text.lower())


def _episode(row: dict, where: str) -> Episode:
    try:
        instruction, info = row["instruction"], row.get("info") or {}
        goal = row["goals"][0]
        extra = {key: value for key, value in instruction.items() if key != "instruction_text"}
        return Episode(
            episode_id=str(row["episode_id"]),
            scene_id=row["scene_id"],
            start=Pose.from_rotation(_point(row["start_position"]), row["start_rotation"]),
            goal=_point(goal["position"]),
            instruction=instruction["instruction_text"],
            reference_path=[_point(p) for p in row.get("reference_path") or []],
            geodesic_distance=float(info.get("geodesic_distance", "nan")),
            goal_radius=float(goal.get("radius") or 3.0),
            trajectory_id=str(row.get("trajectory_id", "")),
            info={key: value for key, value in info.items() if key != "geodesic_distance"} | {"instruction": extra},
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        name = f" (id {row['episode_id']})" if isinstance(row, dict) and "episode_id" in row else ""
        raise BadEpisodeFile(f"{where}{name}: {_reason(error)}") from error


def _row(episode: Episode, number: Mapping[str, int]) -> dict:
    tokens = [number.get(word, number[UNKNOWN]) for word in tokenise(episode.instruction)]
    kept = dict(episode.info)
    instruction = {"instruction_text": episode.instruction, "instruction_tokens": tokens} | kept.pop("instruction", {})
    if np.isfinite(episode.geodesic_distance):
        kept["geodesic_distance"] = episode.geodesic_distance
    return {
        "episode_id": _number(episode.episode_id),
        "trajectory_id": _number(episode.trajectory_id),
        "scene_id": episode.scene_id,
        "start_position": _list(episode.start.position),
        "start_rotation": episode.start.rotation,
        "info": kept,
        "goals": [{"position": _list(episode.goal), "radius": episode.goal_radius}],
        "instruction": instruction,
        "reference_path": [_list(p) for p in episode.reference_path],
    }


def _point(values: Sequence[float]) -> np.ndarray:
    point = np.array(values, float)
    if point.shape != (3,) or not np.isfinite(point).all():
        raise ValueError(f"a point is three finite numbers, got {values}")
    return point


def _list(point: np.ndarray) -> list[float]:
    return [float(x) for x in point]


def _number(name: str) -> int | str:
    """R2R-CE's ids are integers in the file."""
    return int(name) if name.isdecimal() and str(int(name)) == name else name


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _read(path: Path):
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            return json.load(file)
    except (OSError, EOFError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise BadEpisodeFile(f"{path} is no whole gzipped JSON file: {error}") from error


def _write(path: Path, value: dict) -> None:
    """The same bytes for the same value: no time in the gzip header."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    with replacing(path) as temporary:
        temporary.write_bytes(gzip.compress(text, mtime=0))
