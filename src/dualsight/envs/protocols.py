"""Protocols: the rules under which a navigation number was made.

The same agent scores differently with a wider camera, coarser turns, sliding along walls, or when running out of
steps counts as arriving. A `Protocol` is all of that as one frozen, versioned value; every result carries it whole
(`Protocol.to_dict`), so that two numbers can be compared, or seen not to be comparable.

================  =========  =======  ====  ======  =======  ==============================================
name              frame      hfov     turn  slides  steps    running out of steps
================  =========  =======  ====  ======  =======  ==============================================
r2r-ce            224x224    90 deg   15    yes     500      failure
rxr-ce            640x480    79 deg   30    no      500      failure
janusvln-release  640x480    79 deg   15    yes     400 + 1  STOP is forced, and scores as one
house             112x112    90 deg   15    yes     200      failure
================  =========  =======  ====  ======  =======  ==============================================
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from dualsight.types import Action, Camera


@dataclass(frozen=True)
class Protocol:
    """What the agent sees, how it moves, when the episode ends and what counts as success."""

    name: str
    version: int
    """Goes up whenever a value below changes: results of different versions are not comparable."""
    camera: Camera
    forward: float = 0.25
    """Metres that MOVE_FORWARD covers where nothing is in the way."""
    turn: float = 15.0
    """Degrees of TURN_LEFT and TURN_RIGHT."""
    max_steps: int = 500
    """The episode is truncated after this many actions, STOP included."""
    forced_stop: int | None = None
    """After this many actions the next one is replaced by STOP, whatever the agent says."""
    slide: bool = True
    """Whether an agent that walks into a wall slides along it, or stays where it touched."""
    radius: float = 0.1
    height: float = 1.5
    """The cylinder that has to fit where the agent goes, metres."""
    success_distance: float = 3.0
    """Success: STOP at a geodesic distance strictly below this, metres. Oracle success: ever below it."""
    expert_radius: float = 0.5
    """The expert says STOP within this distance of the goal, metres."""

    @property
    def turn_radians(self) -> float:
        return math.radians(self.turn)

    @property
    def time_out_is(self) -> str:
        """How running out of steps scores: as a "failure", or as the "stop" that is forced before the limit."""
        forced = self.forced_stop is not None and self.forced_stop < self.max_steps
        return "stop" if forced else "failure"

    def to_dict(self) -> dict:
        """Everything above in plain JSON types, for a results file."""
        return asdict(self) | {"time_out_is": self.time_out_is, "actions": {a.name: int(a) for a in Action}}


R2R_CE = Protocol("r2r-ce", 1, Camera(224, 224, hfov=90.0, elevation=1.25))
"""VLN-CE's R2R task (Krantz et al., arXiv:2004.02857; `vlnce_task.yaml`)."""

RXR_CE = Protocol(
    "rxr-ce", 1, Camera(640, 480, hfov=79.0, elevation=0.88), turn=30.0, slide=False, radius=0.18, height=0.88
)
"""The RxR-Habitat challenge (`rxr_vlnce_english_task.yaml`); its camera-tilting actions are left out."""

JANUSVLN_RELEASE = Protocol(
    "janusvln-release", 1, Camera(640, 480, hfov=79.0, elevation=1.25), max_steps=500, forced_stop=400
)
"""What JanusVLN's released evaluation runs, for R2R-CE *and* for RxR-CE: hence its RxR numbers are not RxR-Habitat's.

The agent says STOP by itself at step 400, so that a time-out near the goal scores as success."""

HOUSE = Protocol("house", 1, Camera(112, 112, hfov=90.0, elevation=1.25), max_steps=200, expert_radius=0.3)
"""Generated houses: small frames, because two CPU cores render and read them."""

PROTOCOLS = {protocol.name: protocol for protocol in (R2R_CE, RXR_CE, JANUSVLN_RELEASE, HOUSE)}


def get_protocol(name: str) -> Protocol:
    """The protocol of that name; `KeyError` lists the names there are."""
    try:
        return PROTOCOLS[name]
    except KeyError:
        raise KeyError(f"no protocol is called {name!r}; there are {', '.join(PROTOCOLS)}") from None
