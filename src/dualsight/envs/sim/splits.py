"""Splits of generated houses: disjoint ranges of seeds, and which floor plan each seed has.

A house has two seeds: that of its floor plan and that of what fills it (materials, furniture). They are the same number
except in ``val_seen``, whose houses have the floor plans of training houses, refurnished and recoloured: "seen" means a
seen floor plan. Seeds outside every split (900000 and up, say) are houses that nobody has trained on.
"""

from __future__ import annotations

SPLITS: dict[str, range] = {
    "train": range(0, 100_000),
    "val_seen": range(100_000, 110_000),
    "val_unseen": range(200_000, 210_000),
    "test": range(300_000, 310_000),
}
"""Seeds of the houses of each split."""


def plan_seed(seed: int) -> int:
    """The seed of the floor plan of house ``seed``."""
    seen = SPLITS["val_seen"]
    return SPLITS["train"][seed - seen.start] if seed in seen else seed


def split_of(seed: int) -> str | None:
    """The split that a house belongs to, or None."""
    return next((name for name, seeds in SPLITS.items() if seed in seeds), None)


def seeds(split: str, count: int, start: int = 0) -> list[int]:
    """``count`` house seeds of a split, from its ``start``-th on.

    Raises:
        KeyError: there is no such split.
        ValueError: it has fewer seeds.
    """
    if split not in SPLITS:
        raise KeyError(f"no split {split!r}; there are {', '.join(SPLITS)}")
    chosen = SPLITS[split][start : start + count]
    if start < 0 or len(chosen) < count:
        raise ValueError(f"{split} has {len(SPLITS[split])} houses, not {start + count}")
    return list(chosen)
