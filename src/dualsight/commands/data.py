"""Making and checking data: ``data house | episodes | walks | rooms | views | validate``."""

from __future__ import annotations

from pathlib import Path

from jsonargparse.typing import PositiveInt

from dualsight.commands.options import Split, given


def house(
    out: Path,
    split: Split = "train",
    house_seeds: str | None = None,
    houses: PositiveInt = 100,
    episodes_per_house: PositiveInt = 30,
    instructions: PositiveInt = 3,
    disturbed: float = 0.5,
    max_rooms: int | None = None,
    max_geodesic: float = 20.0,
    seed: int = 0,
    part: int = 0,
    parts: PositiveInt = 1,
    name: str = "",
) -> None:
    """Write expert trajectories through generated houses in the released JanusVLN layout.

    Args:
        out: the data set's folder; trajectories that are there already are kept.
        split: which house seeds.
        house_seeds: FIRST:END, instead of a split.
        houses: how many houses of the split.
        episodes_per_house: trajectories in each.
        instructions: paraphrases for each trajectory.
        disturbed: the share of walks in which random moves are executed now and then.
        max_rooms: at most so many rooms on the way (a curriculum).
        max_geodesic: at most so many metres.
        seed: of episodes and disturbances.
        part: which of ``parts`` processes this is.
        parts: how many processes share the work.
        name: put before the trajectories' ids, so that several sets can be used together.
    """
    from dualsight.envs.houses import choose_houses
    from dualsight.envs.sim.episodes import Demand
    from dualsight.train.collect import Mixture, collect_houses

    chosen = choose_houses(split, house_seeds, houses)[part::parts]
    demand = Demand(max_geodesic=max_geodesic, max_rooms=max_rooms, per_trajectory=instructions)
    mixture = Mixture(disturbed=disturbed)
    collect_houses(out, chosen, episodes_per_house * instructions, mixture, demand, name, seed, part)


def episodes(
    out: Path,
    split: Split = "val_unseen",
    house_seeds: str | None = None,
    houses: PositiveInt = 30,
    episodes_per_house: PositiveInt = 10,
    instructions: PositiveInt = 1,
    seed: int = 0,
    protocol: str = "house",
) -> None:
    """Write episodes as an R2R-CE v1-3 file, and what the expert does in them beside it.

    Args:
        out: the file, `<name>.json.gz`; `<name>_gt.json.gz` is written too.
        split: which house seeds.
        house_seeds: FIRST:END, instead of a split.
        houses: how many houses of the split.
        episodes_per_house: how many in each, counting every instruction.
        instructions: paraphrases for each trajectory.
        seed: of the episodes.
        protocol: whose agent has to fit through.
    """
    from dualsight.data.r2r import write_episodes, write_ground_truth
    from dualsight.envs.houses import choose_houses, house_episodes
    from dualsight.envs.protocols import get_protocol
    from dualsight.envs.sim.episodes import Demand
    from dualsight.inference.ground_truth import expert_ground_truth

    rules = get_protocol(protocol)
    chosen = choose_houses(split, house_seeds, houses)
    demand = Demand(per_trajectory=instructions)
    episodes = list(house_episodes(chosen, episodes_per_house, seed, demand, rules))
    write_episodes(out, episodes)
    write_ground_truth(out.with_name(out.name.replace(".json", "_gt.json")), expert_ground_truth(episodes, rules))
    print(f"{len(episodes)} episodes in {len(chosen)} houses: {out}")


def walks(
    out: Path,
    house_seeds: str = "0:60",
    walks_per_house: PositiveInt = 60,
    seed: int = 0,
    part: int = 0,
    parts: PositiveInt = 1,
) -> None:
    """Write random walks through houses, for pre-training both visual pathways.

    Args:
        out: a folder of one file per house.
        house_seeds: FIRST:END.
        walks_per_house: walks of eight frames in each house.
        seed: of the walks.
        part: which of ``parts`` processes this is.
        parts: how many processes share the work.
    """
    from dualsight.envs.houses import seed_range
    from dualsight.train.walks import Walks, collect

    collect(seed_range(house_seeds)[part::parts], out, Walks(walks_per_house), seed)


def rooms(out: Path, house_seeds: str, per_house: PositiveInt = 48, seed: int = 0) -> None:
    """Take pictures of rooms in generated houses, labelled with what they show, a shard for each house.

    Args:
        out: folder of the shards; those that are there are kept.
        house_seeds: 0:100 for the houses 0 to 99.
        per_house: pictures of each.
        seed: of places and directions.
    """
    from dualsight.envs.houses import seed_range
    from dualsight.train.rooms import collect

    collect(seed_range(house_seeds), out, per_house, seed=seed)


def views(out: Path, house_seeds: str, per_house: PositiveInt = 48, seed: int = 0) -> None:
    """Take pictures of what is around one in generated houses, four views in each, labelled with what they show, a
    shard for each house.

    Args:
        out: folder of the shards; those that are there are kept.
        house_seeds: 0:100 for the houses 0 to 99.
        per_house: pictures of each.
        seed: of places and directions.
    """
    from dualsight.envs.houses import seed_range
    from dualsight.train.rooms import collect_views

    collect_views(seed_range(house_seeds), out, per_house, seed=seed)


def validate(
    path: str,
    limit: PositiveInt = 20,
    images: Path | None = None,
    root: Path | None = None,
    split: str | None = None,
    columns: dict[str, str] | None = None,
    model: Path | None = None,
    capacity: PositiveInt = 4096,
) -> None:
    """Check a data set, and name what is bad in it: of conversations and drawings each bad row, of trajectories the
    frames that are missing, cut off or of another size.

    Args:
        path: a folder of trajectories, or conversations and drawings: JSON lines, a LLaVA list, tar shards, a saved
            Hugging Face data set or parquet files; patterns like shard-{000..127}.tar work.
        limit: how many bad rows are shown; all are counted.
        images: the folder that image names start at, by default the one that the file is in.
        root: refuse images that are not under this folder.
        split: of a saved Hugging Face data set with several.
        columns: which field of the file is which of ours, such as {"prompt": "caption", "image": "jpg"}.
        model: a Janus that is to learn from it: rows with more tokens than fit are bad, too.
        capacity: tokens of a packed row, as in `train janus`; for model.
    """
    from dualsight.data import trajectories
    from dualsight.data.validate import validate_data

    reading = given(images=images, root=root, split=split, columns=columns)
    if any(Path(path).glob("annotations*.json*")):
        if reading or model:
            raise ValueError(f"{path} holds trajectories; images, root, split, columns and model are for conversations")
        problems = trajectories.validate(Path(path))
        for problem in problems[:limit]:
            print(problem)
        bad = len(problems)
        print(f"{len(trajectories.read_trajectories(Path(path)))} trajectories")
    else:
        if model:
            from dualsight.checkpoints.janus import load_processor
            from dualsight.train.janus_data import JanusCollate

            reading |= {"tokens": JanusCollate(load_processor(model), capacity).tokens, "capacity": capacity}
        bad = validate_data(Path(path), limit, **reading)
    if bad:
        raise ValueError(f"{bad} problem(s) in {path}")
