"""The main job on one command: the shipped navigator walks unseen houses, and one page shows how it did."""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from dualsight.bench.house import build_episodes, describe_agent, evaluate_houses, last_line
from dualsight.bench.provenance import DifferentRun
from dualsight.bench.report import write_report
from dualsight.data.files import read_lines
from dualsight.envs.house_env import HouseEnvironment
from dualsight.envs.houses import choose_houses
from dualsight.envs.protocols import HOUSE
from dualsight.envs.world import open_house
from dualsight.extras import install
from dualsight.inference.navigator import NavigatorAgent
from dualsight.inference.plan import floor_plans
from dualsight.inference.rollout import EpisodeResult, Step, Subscriber
from dualsight.inference.video import PLAN_SIZE, VIEW, Film, Moment
from dualsight.types import Episode, Observation

SPLIT = "val_unseen"
OUT = Path("runs/demo")


def run_demo(out: Path | None, episodes: int, checkpoint: Path, videos: bool, rows: int) -> None:
    """One episode in each of the first unseen houses: results.json, episodes.jsonl, films/, report.html in ``out``, by
    default ``runs/demo``, from which the walks of other weights are moved away.

    The last two lines on stdout are for machines: the figures, and the path of the report. Run again, it goes on where
    it was.

    Raises:
        ImportError: films are wanted and their extra is missing.
        CheckpointError: there is no navigator in ``checkpoint``.
        DifferentRun: ``out`` holds the walks of other weights.
    """
    if videos and importlib.util.find_spec("av") is None:
        raise ImportError(f"films need PyAV: {install('video')}, or run with --videos=false")
    Console().print(f"[bold]{checkpoint.name}[/] walks {episodes} houses of {SPLIT}, which it has never seen\n")
    agent = NavigatorAgent.from_pretrained(checkpoint, min(rows, episodes))
    described = describe_agent(str(checkpoint), "none")
    out = out or _free(OUT, described["weights_sha256"])
    envs = [HouseEnvironment(HOUSE) for _ in range(min(rows, episodes))]
    chosen = build_episodes(choose_houses(SPLIT, None, episodes), 1, HOUSE)
    films = out / "films"
    cameras = [Cameraman(films, agent)] if videos else []
    results = evaluate_houses(out, agent, envs, chosen, described, cameras)
    if results is None:
        return  # other processes still walk; the last one writes the report
    report = out / "report.html"
    title = f"{checkpoint.name}: {len(chosen)} unseen houses"
    write_report(report, title, results, read_lines(out / "episodes.jsonl"), films)
    print(last_line(results))
    print(report)


def _free(out: Path, weights: str) -> Path:
    """``out``; if the walks of other weights are there, they are moved to a folder named after those."""
    if int(os.environ.get("RANK", "0")) == 0 and (out / "run.json").exists():
        before = json.loads((out / "run.json").read_text(encoding="utf-8"))["config"].get("weights_sha256", "others")
        if before != weights:
            aside = out.with_name(f"{out.name}-{before[:8]}")
            if aside.exists():
                raise DifferentRun(f"{out} and {aside} hold walks of other weights: choose a folder (--out FOLDER)")
            out.rename(aside)
            Console().print(f"[dim]{out} held walks of other weights: they are in {aside} now[/]\n")
    return out


class Cameraman(Subscriber):
    """Films every episode, from what the navigator sees, does and remembers; ``folder``/<episode id>.mp4."""

    def __init__(self, folder: Path, agent: NavigatorAgent):
        self.folder, self.agent = folder, agent
        self._films: dict[int, Film] = {}

    def on_start(self, row: int, episode: Episode, observation: Observation) -> None:
        world = open_house(episode.scene_id, HOUSE)
        assert world.house is not None
        shortest = world.ground.distance_field(episode.goal).path(episode.start.position)
        self._films[row] = Film(episode.instruction, floor_plans(world.house, *PLAN_SIZE), shortest)

    def on_step(self, step: Step) -> None:
        pose = step.observation.pose
        assert pose is not None
        camera = replace(HOUSE.camera, width=VIEW, height=VIEW)
        view = open_house(step.episode.scene_id, HOUSE).renderer.render(pose, camera).rgb
        held = self.agent.navigator.memory_frames(step.row)
        self._films[step.row].moments.append(Moment(step.observation.rgb, view, pose, step.action, step.distance, held))

    def on_end(self, row: int, result: EpisodeResult) -> None:
        film, metrics = self._films.pop(row), result.metrics
        left = "" if metrics.ne is None else f"{metrics.ne:.1f} m from the goal"
        word = "reached" if metrics.success else "out of steps" if result.truncated else "missed"
        film.outcome = bool(metrics.success), f"{word}: {left}"
        film.write(self.folder / f"{result.episode.episode_id}.mp4")
