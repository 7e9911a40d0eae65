"""What an expert does in each episode: the ``*_gt.json.gz`` that belongs to an episode file."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from rich.progress import track

from dualsight.data.r2r import GroundTruth
from dualsight.envs.house_env import HouseEnvironment
from dualsight.envs.protocols import Protocol
from dualsight.inference.rollout import ExpertAgent, rollouts
from dualsight.types import Episode


def expert_ground_truth(episodes: Iterable[Episode], protocol: Protocol) -> dict[str, GroundTruth]:
    """Walk every episode with the expert. Keys are episode ids, as in R2R-CE's files."""
    envs = [HouseEnvironment(protocol)]
    walked = track(rollouts(envs, ExpertAgent(envs), episodes), description="expert")
    return {
        result.episode.episode_id: GroundTruth(np.stack([pose.position for pose in result.poses]), list(result.actions))
        for result in walked
    }
