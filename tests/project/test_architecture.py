"""Imports point down: from storey to storey, and from room to room within one."""

import ast

import pytest
from paths import ROOT

STOREYS = ["scenes", "dig_env", "agents"]
FORBIDDEN = {
    "scenes": {"gymnasium", "torch", "transformers", "trl"},
    "dig_env": {"torch", "trl"},
    "agents": set(),
}
FLOORS = {
    # Each room may import the rooms of the floors before its own, and itself.
    "scenes": [
        {
            "version",
            "extras",
            "files",
            "forks",
            "arguments",
            "machine",
            "color",
            "render.blender.meshes",
        },
        {"families"},
        {"plans"},
        {"geometry"},
        {"measure"},
        {"render", "photos"},
        {"dataset"},
    ],
    "dig_env": [
        {"frames", "boxes"},
        {"answers", "drawing"},
        {"reward_config", "observation"},
        {"reward"},
        {"redteam", "curricula", "align"},
        {"envs"},
        {"serve", "wrappers", "testing"},
    ],
    "agents": [
        {"models"},
        {"policies"},
        {"evaluation"},
        {"integrations", "reporting"},
        {"data"},
        {"training", "web"},
        {"cli"},
    ],
}
MODULES_PER_ROOM = 15


def storey_and_room(name):
    """The storey of a module's full name, and its room: its folder, or a module of the root."""
    parts = name.removeprefix("dig_env.").split(".")
    storey = parts.pop(0) if parts[0] in ("scenes", "agents") else "dig_env"
    path = ".".join(parts)
    rooms = {room for floor in FLOORS.get(storey, ()) for room in floor}
    found = [room for room in rooms if path == room or path.startswith(room + ".")]
    return storey, max(found, key=len, default="")


def imports_of(storey):
    """(module, what it imports), of all modules, also those imported inside a function."""
    for path in sorted((ROOT / storey).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if storey == "dig_env" and parts[1] in ("scenes", "agents"):  # links to the other storeys
            continue
        module = ".".join(parts if storey == "dig_env" else ("dig_env", *parts))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((module, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield module, node.module


@pytest.mark.parametrize("storey", STOREYS)
def test_no_storey_imports_one_above_it_nor_what_belongs_there(storey):
    above = STOREYS[STOREYS.index(storey) + 1 :]
    wrong = [
        f"{module} imports {name}"
        for module, name in imports_of(storey)
        if name.split(".")[0] in FORBIDDEN[storey]
        or (name.startswith("dig_env") and storey_and_room(name)[0] in above)
    ]
    # "python -m dig_env" is the command line.
    assert [line for line in wrong if not line.startswith("dig_env.__main__ ")] == []


@pytest.mark.parametrize("storey", FLOORS)
def test_rooms_import_only_rooms_of_lower_floors(storey):
    floor_of = {room: floor for floor, rooms in enumerate(FLOORS[storey]) for room in rooms}
    wrong = []
    for module, name in imports_of(storey):
        _, room = storey_and_room(module)
        other_storey, other = storey_and_room(name)
        if other_storey != storey or not name.startswith("dig_env") or not room or room == other:
            continue
        if not other or floor_of[other] >= floor_of[room]:
            wrong.append(f"{module} imports {name}")
    assert wrong == []


@pytest.mark.parametrize("storey", FLOORS)
def test_every_module_belongs_to_a_room_and_no_room_is_crowded(storey):
    packages = {"", "__init__", "__main__"}
    modules = {module for module, _ in imports_of(storey)}
    roomless = [module for module in modules if not storey_and_room(module)[1]]
    assert {module.rpartition(".")[2] for module in roomless} <= packages | {storey}
    folders = [path.parent for path in (ROOT / storey).rglob("*.py") if path.stem != "__init__"]
    assert max(map(folders.count, folders)) <= MODULES_PER_ROOM
