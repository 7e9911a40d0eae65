"""Vision-and-language navigation in continuous environments: evaluate an agent, keep every number it makes.

`evaluate` walks episodes under a `Protocol` and fills a folder::

    run.json              what is evaluated: protocol, agent, what the caller says of it
    episodes.jsonl        one line per episode, in the order of the episodes
    episodes.rank0.jsonl  the same as they were walked: appended, flushed to disk, one file per process
    results.json          the summary with 95 % intervals, and all that is needed to compare or repeat it

It can be killed at any time: the same call walks what is missing and arrives at the same aggregate. Under torchrun
(``RANK``, ``WORLD_SIZE``) each process walks a contiguous part; the last to finish writes the summary, nobody waits.

The lines hold the keys of the released JanusVLN evaluation (scene_id, episode_id, success, spl, os, ne, steps,
episode_instruction) and ours.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from dualsight.bench.provenance import claim, versions
from dualsight.data.files import Log, read_lines, write_json, write_lines
from dualsight.envs.core import Environment
from dualsight.envs.metrics import EpisodeMetrics, aggregate
from dualsight.envs.protocols import Protocol
from dualsight.inference.rollout import Agent, EpisodeResult, Subscriber, rollouts
from dualsight.types import Episode

Key = tuple[str, str, str]
"""What makes an episode the same one: scene, episode id, instruction (as in the released evaluation)."""


def evaluate(
    agent: Agent,
    envs: Sequence[Environment],
    episodes: Sequence[Episode],
    out: Path,
    config: dict | None = None,
    subscribers: Sequence[Subscriber] = (),
    on_episode: Callable[[dict, int, int], None] | None = None,
) -> dict | None:
    """Walk the episodes that ``out`` does not hold yet, and summarise all of them.

    Args:
        agent: decides in every environment.
        envs: as many as episodes are to be walked side by side, all of the same protocol.
        config: what the agent is (checkpoint, control...), plain JSON; a folder takes one configuration only.
        on_episode: called after each with its record, how many this process has done, and how many it has to do.

    Returns:
        The content of ``results.json``, or None while other processes still walk.

    Raises:
        DifferentRun: ``out`` belongs to another protocol or configuration.
        NotWritten: the disk is full; what was written stays, and the same call goes on from there.
    """
    out, protocol = Path(out), envs[0].protocol
    claim(out, {"protocol": protocol.to_dict(), "config": config or {}}, "episodes")
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    mine = shard(episodes, rank, world)
    done = read_records(out)
    todo = [episode for episode in mine if episode_key(episode) not in done]
    with Log(out / f"episodes.rank{rank}.jsonl") as log:
        for n, result in enumerate(rollouts(envs, agent, todo, subscribers), len(mine) - len(todo) + 1):
            record = to_record(result, protocol)
            log.append(record)
            if on_episode is not None:
                on_episode(record, n, len(mine))
    return summarise(out, episodes, protocol, config)


def shard(episodes: Sequence[Episode], rank: int, world: int) -> Sequence[Episode]:
    """The contiguous part of process ``rank``: neighbours share a scene, so each process loads few of them."""
    if not 0 <= rank < world:
        raise ValueError(f"RANK must be in 0..{world - 1} (WORLD_SIZE is {world}), got {rank}")
    n = len(episodes)
    return episodes[n * rank // world : n * (rank + 1) // world]


def episode_key(episode: Episode) -> Key:
    return episode.scene_id, str(episode.episode_id), episode.instruction


def record_key(record: dict) -> Key:
    return record["scene_id"], str(record["episode_id"]), record["episode_instruction"]


def read_records(out: Path) -> dict[Key, dict]:
    """Every episode that any process has finished in ``out``."""
    records: dict[Key, dict] = {}
    for path in sorted(out.glob("episodes*.jsonl")):
        for record in read_lines(path):
            records.setdefault(record_key(record), record)
    return records


def to_record(result: EpisodeResult, protocol: Protocol) -> dict:
    """One line of ``episodes.jsonl``."""
    return {
        "scene_id": result.episode.scene_id,
        "episode_id": result.episode.episode_id,
        **asdict(result.metrics),
        "episode_instruction": result.episode.instruction,
        "unreachable": result.metrics.unreachable,
        "stopped": result.stopped,
        "forced_stop": result.forced_stop,
        "truncated": result.truncated,
        "unparsed": 0,
        **result.report,
        "protocol": f"{protocol.name}@{protocol.version}",
        "actions": [int(action) for action in result.actions],
        "seconds": round(result.seconds, 3),
    }


def summarise(out: Path, episodes: Sequence[Episode], protocol: Protocol, config: dict | None = None) -> dict | None:
    """Write ``episodes.jsonl`` in order and ``results.json``, if every episode is there; None if some are missing."""
    done = read_records(out)
    keys = [episode_key(episode) for episode in episodes]
    if any(key not in done for key in keys):
        return None
    records = [done[key] for key in keys]
    names = [field.name for field in fields(EpisodeMetrics)]
    results = {
        "summary": aggregate([EpisodeMetrics(**{name: r[name] for name in names}) for r in records]).to_dict(),
        "stopped": sum(r["stopped"] for r in records),
        "forced_stops": sum(r["forced_stop"] for r in records),
        "truncated": sum(r["truncated"] for r in records),
        "unparsed": sum(r["unparsed"] for r in records),
        "scenes": len({r["scene_id"] for r in records}),
        "episodes_sha256": hashlib.sha256("\n".join(" | ".join(key) for key in keys).encode()).hexdigest(),
        "protocol": protocol.to_dict(),
        "config": config or {},
        "versions": versions(),
    }
    write_lines(out / "episodes.jsonl", records)
    write_json(out / "results.json", results)
    return results
