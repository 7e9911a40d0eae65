"""Tasks in generated houses: which houses a split or a range of seeds names, and the episodes in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dualsight.envs.protocols import HOUSE, Protocol
from dualsight.envs.sim.episodes import Demand, NoEpisodeError, make_episodes
from dualsight.envs.sim.navmesh import NavMesh
from dualsight.envs.sim.splits import SPLITS
from dualsight.envs.world import open_house
from dualsight.types import Episode


def choose_houses(split: str, house_seeds: str | None, count: int) -> range:
    """The seeds ``FIRST:END`` if ``house_seeds`` says so, otherwise the first ``count`` of a split.

    Raises:
        ValueError: the text is no range, or there is no such split.
    """
    if house_seeds is not None:
        return seed_range(house_seeds)
    if split not in SPLITS:
        raise ValueError(f"there is no split {split!r}; there are {', '.join(SPLITS)}")
    return SPLITS[split][:count]


def seed_range(text: str) -> range:
    """``"900000:900030"`` as a range. Raises ValueError for anything else."""
    first, colon, end = text.partition(":")
    if not (colon and first.isdigit() and end.isdigit() and int(first) < int(end)):
        raise ValueError(f"house seeds are FIRST:END, like 900000:900030; got {text!r}")
    return range(int(first), int(end))


def house_episodes(
    house_seeds: Iterable[int], per_house: int, seed: int = 0, demand: Demand | None = None, rules: Protocol = HOUSE
) -> Iterator[Episode]:
    """``per_house`` episodes in each house, house by house; a house without a path that meets ``demand`` has none.

    The ground is that of ``rules``: where an agent of that size can walk.
    """
    for house_seed in house_seeds:
        world = open_house(f"house/{house_seed:06d}", rules)
        assert world.house is not None and isinstance(world.ground, NavMesh)
        try:
            yield from make_episodes(world.house, world.ground, seed, per_house, demand, world.renderer)
        except NoEpisodeError:
            continue
