"""Floor plans: rooms, walls and furniture where they are."""

import numpy as np

from dualsight.envs.sim.building import Door, House, Room, Stairs, Thing
from dualsight.envs.sim.scene import Scene
from dualsight.inference.plan import PAPER, TINTS, WALL, floor_plans


def house() -> House:
    """A kitchen west of a bathroom with a door between them; a bedroom upstairs."""
    rooms = [
        Room(0, "kitchen", 0, 0.0, 0.0, 0.0, 4.0, 4.0),
        Room(1, "bathroom", 0, 0.0, 4.14, 0.0, 8.0, 4.0),
        Room(2, "bedroom", 1, 2.8, 0.0, 0.0, 4.0, 4.0),
    ]
    door = Door(np.array([4.07, 0.0, 3.0]), (0, 1), 1.0, "x")
    stairs = Stairs(np.array([7.0, 0.0, 3.5]), np.array([7.0, 2.8, 1.0]), (1, 2), 0.8)
    table = Thing(1, "table", "red", 0, np.array([1.0, 0.0, 1.0]), np.array([1.0, 0.7, 1.0]))
    nothing = np.zeros((1, 3), np.float32)
    scene = Scene(nothing, nothing[:, :2], nothing, *(np.zeros((0, 3), np.int32),) * 3)
    return House(0, scene, rooms, [door], [stairs], [table], [])


def colour(plan, x, z) -> tuple:
    column, row = plan.place([[x, plan.y, z]])[0]
    return plan.image.getpixel((int(column), int(row)))


def test_rooms_walls_doors_and_things_are_where_they_are():
    ground, upper = floor_plans(house(), 500, 400)
    assert ground.image.size == upper.image.size == (500, 400)
    assert (ground.y, upper.y) == (0.0, 2.8)
    assert colour(ground, 0.3, 3.8) == TINTS["kitchen"]
    assert colour(ground, 4.5, 0.3) == TINTS["bathroom"]
    assert colour(ground, 4.07, 0.5) == WALL
    assert colour(ground, 4.07, 3.0) == TINTS["hall"]
    assert colour(upper, 0.3, 0.3) == TINTS["bedroom"]
    assert colour(upper, 6.0, 2.0) == PAPER
    red, green, blue = colour(ground, 1.0, 1.0)
    assert red > 1.2 * green and red > 1.2 * blue


def test_storeys_lie_on_top_of_each_other_and_north_is_up():
    ground, upper = floor_plans(house(), 300, 300)
    points = np.array([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0], [2.0, 0.0, 1.0]])
    assert np.array_equal(ground.place(points), upper.place(points))
    here, north, east = ground.place(points)
    assert np.allclose(north - here, [0, -ground.scale]) and np.allclose(east - here, [ground.scale, 0])
