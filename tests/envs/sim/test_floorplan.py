"""Floor plans: sizes, reachability, alignment of storeys, symmetry."""

from collections import Counter

import pytest

from dualsight.envs.sim.floorplan import OUTSIDE, draw
from dualsight.envs.sim.layouts import FLIGHT, LANDING, WALL, Rect, fits

SEEDS = range(40)
"""Enough for every family to come up."""


def graph(plan):
    """Which rooms doors, arches and stairs join."""
    edges = {(o.cells[0], o.cells[1]) for o in plan.openings if o.kind in ("door", "arch")}
    if plan.flight:
        edges.add(plan.flight.cells)
    return edges | {(b, a) for a, b in edges}


def reachable(edges, start=0):
    found, queue = {start}, [start]
    while queue:
        here = queue.pop()
        for a, b in edges:
            if a == here and b not in found:
                found.add(b)
                queue.append(b)
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_every_room_is_reachable_and_none_overlap(seed):
    plan = draw(seed)
    assert reachable(graph(plan)) == set(range(len(plan.cells)))
    for i, a in enumerate(plan.cells):
        for b in plan.cells[:i]:
            assert a.storey != b.storey or not a.rect.inset(1e-6).overlaps(b.rect)


@pytest.mark.parametrize("seed", SEEDS)
def test_rooms_have_realistic_sizes(seed):
    plan = draw(seed)
    for cell in plan.cells:
        assert fits(cell.type, cell.rect, 1.2), cell


@pytest.mark.parametrize("seed", SEEDS)
def test_openings_lie_in_walls_that_their_rooms_share(seed):
    plan = draw(seed)
    for o in plan.openings:
        low, high = o.centre - o.width / 2, o.centre + o.width / 2
        for index in o.cells:
            if index == OUTSIDE:
                continue
            r = plan.cells[index].rect
            walls, ends = ((r.x0, r.x1), (r.z0, r.z1)) if o.axis == "x" else ((r.z0, r.z1), (r.x0, r.x1))
            assert min(abs(o.wall - wall) for wall in walls) < 1e-6
            assert ends[0] + WALL / 2 <= low and high <= ends[1] - WALL / 2


@pytest.mark.parametrize("seed", SEEDS)
def test_openings_do_not_meet(seed):
    openings = draw(seed).openings
    for i, a in enumerate(openings):
        for b in openings[:i]:
            together = a.axis == b.axis and abs(a.wall - b.wall) < 1e-6 and set(a.cells) & set(b.cells) - {OUTSIDE}
            assert not together or abs(a.centre - b.centre) > (a.width + b.width) / 2


def test_bathrooms_and_bedrooms_are_not_passages():
    for seed in SEEDS:
        plan = draw(seed)
        edges = graph(plan)
        private = {i for i, cell in enumerate(plan.cells) if cell.type in ("bathroom", "office", "laundry room")}
        rest = {(a, b) for a, b in edges if a not in private and b not in private}
        assert reachable(rest) == set(range(len(plan.cells))) - private


@pytest.mark.parametrize("storeys", [1, 2])
@pytest.mark.parametrize("rooms", range(4, 13))
def test_rooms_and_storeys_on_request(rooms, storeys):
    if storeys == 2 and rooms < 8:
        with pytest.raises(ValueError, match="2 from 8 rooms on"):
            draw(0, rooms, storeys)
        return
    plan = draw(0, rooms, storeys)
    kinds = Counter(cell.type for cell in plan.cells)
    assert len(plan.cells) == rooms
    assert max(cell.storey for cell in plan.cells) == storeys - 1
    assert kinds["living room"] == kinds["kitchen"] == 1 and kinds["bedroom"] >= 1 and kinds["bathroom"] >= 1
    assert sum(o.kind == "front door" for o in plan.openings) == 1


@pytest.mark.parametrize("rooms", [3, 13])
def test_too_few_or_too_many_rooms(rooms):
    with pytest.raises(ValueError, match=f"4 to 12 rooms, not {rooms}"):
        draw(0, rooms)


@pytest.mark.parametrize("seed", range(10))
def test_stairs_stand_in_halls_above_each_other_with_landings(seed):
    plan = draw(seed, storeys=2)
    flight = plan.flight
    below, above = (plan.cells[index] for index in flight.cells)
    assert (below.type, above.type) == ("hall", "hall") and (below.storey, above.storey) == (0, 1)
    r, along = flight.rect, 0 if flight.axis == "x" else 1
    assert r.size[along] == pytest.approx(FLIGHT[0]) and r.size[1 - along] == pytest.approx(FLIGHT[1])
    for cell in (below, above):
        hall = cell.rect.inset(WALL / 2)
        ends = (r.x0 - hall.x0, hall.x1 - r.x1) if along == 0 else (r.z0 - hall.z0, hall.z1 - r.z1)
        beside = hall.size[1 - along] - FLIGHT[1]
        assert min(ends) > LANDING - 0.1 and beside >= 1.2


def test_same_seed_same_plan_and_others_differ():
    assert draw(7) == draw(7)
    assert len({draw(seed).cells for seed in SEEDS}) == len(SEEDS)


def test_a_rectangle_knows_its_size_and_its_neighbours():
    r = Rect(0, 0, 2, 1)
    assert r.size == (2, 1) and r.inset(0.25) == Rect(0.25, 0.25, 1.75, 0.75)
    assert r.overlaps(Rect(1, 0, 3, 1)) and not r.overlaps(Rect(2, 0, 3, 1))
