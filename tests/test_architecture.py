"""The floors: who may import whom, and what belongs in one place only. Read from the sources; nothing runs."""

import ast
from functools import cache
from pathlib import Path

import pytest
from sniffing import READS_CLOCKS, RULES, imported

ROOT = Path(__file__).resolve().parents[1] / "src" / "upicker"
FLOORS = (
    ("errors",),
    ("config", "units", "particles", "statistics", "calibration"),
    ("geometry",),
    ("io", "image", "scoring"),
    ("propose", "model", "simulate", "draw"),
    ("pick",),
    ("train",),
    ("run",),
    ("report", "benchmark"),
    ("web",),
    ("cli",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# The entry, which only hands over to the command line; and the version, which everybody may know.
OUTSIDE = {"__main__", "__init__"}
FILES = sorted(ROOT.rglob("*.py"))
TORCH_ROOMS, TORCH_FILES = {"model", "train"}, {"pick/torch_network.py"}


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def modules_imported(path: Path) -> list[str]:
    """Full names of what a file imports, in functions and under TYPE_CHECKING too."""
    tree = tree_of(path)
    relative = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    assert not relative, f"{path}: imports name the whole package"
    return [name for node in ast.walk(tree) for name in imported(node)]


def rooms_imported(path: Path) -> set[str]:
    names = [name.split(".") for name in modules_imported(path)]
    rooms = {parts[1] for parts in names if parts[0] == "upicker" and len(parts) > 1}
    return {room for room in rooms if (ROOT / room).is_dir() or (ROOT / f"{room}.py").is_file()}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=named)
def test_imports_go_strictly_down(path):
    room = room_of(path)
    if room in OUTSIDE:
        return
    assert room in FLOOR, f"{room} stands on no floor: give it one here and in ARCHITECTURE.md"
    for other in rooms_imported(path) - {room}:
        assert FLOOR[other] < FLOOR[room], f"{named(path)} imports {other}, which is not below {room}"


def test_torch_is_imported_in_few_places():
    for path in FILES:
        if room_of(path) in TORCH_ROOMS or named(path) in TORCH_FILES:
            continue
        found = [name for name in modules_imported(path) if name.split(".")[0] in {"torch", "safetensors"}]
        assert not found, f"{named(path)} imports {found}"


def test_picking_knows_no_torch_but_in_its_back_end():
    for path in FILES:
        if room_of(path) == "pick" and named(path) not in TORCH_FILES:
            assert "model" not in rooms_imported(path), named(path)
    users = {named(path) for path in FILES if "upicker.pick.torch_network" in " ".join(modules_imported(path))}
    assert {user for user in users if not user.startswith("train/")} == {"pick/network.py"}


def calls(path: Path) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            found.append((node.lineno, ast.unparse(node.func)))
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.what)
def test_only_one_room_does_it(rule):
    for path in FILES:
        found = rule.found_in(tree_of(path), named(path))
        assert not found, f"{named(path)} {rule.what}: {found}; only {rule.room or 'nobody'} may"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.what)
def test_no_exception_is_left_over(rule):
    # A room may be still to come; a file is there or its exception goes.
    there = {place for place in rule.exceptions if (ROOT / place).exists() or "/" in place}
    used = set().union(*(rule.exceptions_used_in(tree_of(path), named(path)) for path in FILES))
    assert there <= used, f"no longer needed: {there - used}"


def test_no_test_measures_time():
    tests = Path(__file__).parent
    for path in sorted(tests.glob("*.py")):
        found = READS_CLOCKS.found_in(tree_of(path), path.name)
        assert not found, (
            f"tests/{path.name} {READS_CLOCKS.what}: {found}; wait with waiting.until, count with work.calls"
        )
    assert READS_CLOCKS.exceptions_used_in(tree_of(tests / "waiting.py"), "waiting.py")


def test_global_generators_are_not_seeded():
    """``torch.manual_seed`` stands only inside ``fork_rng``, which gives the old state back."""
    for path in FILES:
        inside = {
            inner.lineno
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.With) and "fork_rng" in ast.unparse(node.items[0].context_expr)
            for inner in ast.walk(node)
            if isinstance(inner, ast.Call)
        }
        for line, call in calls(path):
            assert call != "torch.manual_seed" or line in inside, f"{named(path)} line {line}"


def test_files_are_short():
    long = {named(path): n for path in FILES if (n := len(path.read_text().splitlines())) > 400}
    assert not long


def test_the_command_line_imports_heavy_things_in_functions():
    heavy = {"numpy", "torch", "scipy", "cv2", "matplotlib", "mrcfile"}
    light = {"errors", "units", "config", "cli"}
    for path in sorted((ROOT / "cli").glob("*.py")):
        for node in tree_of(path).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                parts = (module or "").split(".")
                assert parts[0] not in heavy, f"{named(path)} imports {module}"
                assert parts[0] != "upicker" or len(parts) == 1 or parts[1] in light, f"{named(path)}: {module}"


def test_every_room_is_described():
    text = (ROOT.parents[1] / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for room in sorted({room_of(path) for path in FILES} - OUTSIDE):
        assert f"`{room}/`" in text or f"`{room}.py`" in text, f"ARCHITECTURE.md does not name {room}"


def test_every_room_is_described_once():
    """Two lines of one room drift apart, and merging two branches easily leaves both."""
    lines = (ROOT.parents[1] / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()
    rooms = [line.split("|")[2].strip() for line in lines if line.startswith("| ") and line[2].isdigit()]
    assert len(rooms) == len(set(rooms)), "ARCHITECTURE.md describes a room twice"
