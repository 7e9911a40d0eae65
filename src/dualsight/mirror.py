"""A walk in a mirror: left and right change places in what is said and done.

The mirror image of a house is a house: what is learnt of one holds in the other. Training doubles its walks so
(``data/trajectories.py``), and a navigator can look twice (``inference/readers.py``).
"""

from __future__ import annotations

import re

from dualsight.types import Action

_OTHER_SIDE = {"left": "right", "right": "left", "leftmost": "rightmost", "rightmost": "leftmost"}
_OTHER_SIDE |= {one.capitalize(): other.capitalize() for one, other in _OTHER_SIDE.items()}
_SIDE = re.compile(rf"\b({'|'.join(_OTHER_SIDE)})\b")
_OTHER_TURN = {Action.TURN_LEFT: Action.TURN_RIGHT, Action.TURN_RIGHT: Action.TURN_LEFT}


def mirrored_text(instruction: str) -> str:
    """``Turn left`` for ``Turn right``. (A door that was left open changes sides, too.)"""
    return _SIDE.sub(lambda side: _OTHER_SIDE[side[0]], instruction)


def mirrored_action(action: int) -> int:
    """The same move in the mirror; what is no turn, -1 for none included, stays."""
    return int(_OTHER_TURN.get(Action(action), action)) if action >= 0 else action
