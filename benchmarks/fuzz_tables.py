"""Tables of coordinates that are damaged as tables are: none may be read by half.

    python benchmarks/fuzz_tables.py --inputs 100000 --seed 0 --keep /tmp/findings

Files of STAR, CBOX and .box are made from tables, whose rows, columns, headers, blocks, quotes and numbers are changed
first: so the number of rows of coordinates is known without parsing anything. An input is a finding unless reading it
raises CoordinatesError with a remedy, or gives as many particles as there are rows of coordinates; where columns still
mean what they did, also at the same places. A row with a position that is no finite decimal number must be an error.
"""

from __future__ import annotations

import argparse
import collections
import copy
import math
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from upicker.errors import CoordinatesError
from upicker.io import coordinates

Random = np.random.Generator
DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
LARGEST = 1e300  # Beyond that, a half box may overflow.
# fmt: off
NUMBERS = [
    "0", "-0", "-0.0", "1e5", "5e-324", "1e300", "-1e300",
    "1e308", "1e400", "-1e400", "nan", "inf", "-inf", "-999", "-1",
    "2147483648", "9223372036854775808", "0.1e-400", "1_0", "0x10", "\u0663", "1,5", "1.2.3",
    "1e", "<NA>", "None", "--1", "+1",
    "1.", ".5", "\u22121",
]
NAMES = [
    "a.mrc", "M/a b.mrc", "data_1/a.mrc", "loop_", "_a.mrc", "a#b.mrc", "#a.mrc", "it's.mrc", 'say "a".mrc', "global_x",
    "a\x85b.mrc", "a\u2028b.mrc", "a\x0bb.mrc", "M/\u00e4.mrc", "", "100", "nan", ";a",
]
FOREIGN = {
    "_rlnCoordinateZ": "0", "_rlnOriginX": "3", "_rlnOriginXAngst": "1.5", "_rlnTomoName": "TS_01",
    "_rlnImageName": "1@a.mrcs",
    "_rlnHelicalTubeID": "2", "_rlnAnglePsiPrior": "45", "_rlnOpticsGroup": "1", "_rlnMicrographName": "M/b.mrc",
    "_rlnMicrographCoordinates": "b.star", "_CoordinateX": "7", "_CoordinateY": "8", "_Width": "30", "_Height": "30",
    "_rlnCoordinateX": "9", "_rlnCoordinateY": "11", "_wrpX": "5", "_wrpAngleRot1": "6", "_filamentid": "1",
    "_Angle": "0.5",
    "_CoordinateZ": "1", "_rlnMicrographPixelSize": "1.5", "_rlnAutopickFigureOfMerit": "0.5", "_rlnClassNumber": "3",
}
# fmt: on
RELION, BOXES = ("_rlnCoordinateX", "_rlnCoordinateY"), ("_CoordinateX", "_CoordinateY", "_Width", "_Height")
# These columns move, refuse or redirect positions: then only the number of particles is compared.
SHIFTING = {"_rlnOriginX", "_rlnOriginXAngst"}


@dataclass
class Row:
    """One row: its words, how it is written, and whether it holds a position at all."""

    words: list[str]
    quoted: bool = True
    style: str = "plain"  # or "wrapped", "joined" with the next one, "commented"


@dataclass
class Block:
    """One block of a STAR file."""

    name: str | None
    columns: list[str]
    rows: list[Row]
    loop: bool = True
    numbers: bool = True


@dataclass
class Document:
    """A file as it is made.

    Attributes
    ----------
    blocks : list of Block
        In a .box file one, whose columns are not written.
    between : str
        What separates words.
    end : str
        What separates lines.
    before : list of str
        Lines in front.
    moved : bool
        Whether columns mean something else than they did.
    """

    file: str
    blocks: list[Block]
    between: str = " "
    end: str = "\n"
    before: list[str] = field(default_factory=list)
    moved: bool = False


Change = Callable[[Random, Document, Block], None]


def seeds() -> dict[str, list[Document]]:
    """Return good documents by format."""
    random = np.random.default_rng(0)

    def rows(count: int, *more: Callable[[int], str]) -> list[Row]:
        xy = random.uniform(20, 400, (count, 2))
        return [Row([f"{x:.3f}", f"{y:.3f}", *(one(i) for one in more)]) for i, (x, y) in enumerate(xy)]

    x, y = "_rlnCoordinateX", "_rlnCoordinateY"
    optics = Block("optics", ["_rlnOpticsGroup", "_rlnMicrographPixelSize"], [Row(["1", "1.5"]), Row(["2", "1.5"])])
    usual = Block(
        "", [x, y, "_rlnAutopickFigureOfMerit", "_rlnClassNumber"], rows(5, lambda i: f"0.{i}", lambda i: "1")
    )
    many = Block(
        "particles",
        [x, y, "_rlnMicrographName", "_rlnOpticsGroup"],
        rows(6, lambda i: f"M/{'ab'[i % 2]}.mrc", lambda i: str(1 + i % 2)),
    )
    named = [Row([f"data_{i}/a.mrc", *row.words], quoted=False) for i, row in enumerate(rows(4))]
    first = Block("", ["_rlnMicrographName", x, y], named)
    only = Block("", [x, y], rows(3))
    version = Block("global", ["_cbox_format_version"], [Row(["1.0"])], loop=False)
    boxes = ["_CoordinateX", "_CoordinateY", "_CoordinateZ", "_Width", "_Height", "_Confidence"]
    sizes = (lambda i: "<NA>", lambda i: "30", lambda i: "30", lambda i: f"0.{i}")
    vertices = Block("filament_vertices", [*boxes[:2], "_filamentid", *boxes[3:5]], [])
    vertices.rows = [Row([*row.words, "1", "30", "30"]) for row in rows(2)]
    include = Block("cryolo_include", ["_slice_index"], [])
    picks = Block("cryolo", boxes, rows(5, *sizes))
    size, score = (lambda i: "30"), (lambda i: f"0.{i}")
    return {
        "star": [
            Document("a_autopick.star", [usual]),
            Document("a.star", [optics, many]),
            Document("all.star", [first]),
            Document("a.star", [only]),
        ],
        "cbox": [
            Document("a.cbox", [version, picks, include]),
            Document("a.cbox", [version, vertices, picks, include]),
        ],
        "box": [
            Document("a.box", [Block(None, ["x", "y", "w", "h"], rows(4, size, size))]),
            Document("a.box", [Block(None, ["x", "y", "w", "h", "score"], rows(5, size, size, score))], between="\t"),
            Document("a.txt", [Block(None, ["x", "y", "w", "h", "mode"], rows(3, size, size, lambda i: "-3"))]),
        ],
    }


# ---- what is known of a document without reading it


def positions(kind: str, document: Document) -> list[tuple[float, float] | None]:
    """Return the position of each row of coordinates; None for one that is no number, or is not written whole."""
    found: list[tuple[float, float] | None] = []
    name = None
    for block in document.blocks:
        # A loop without a line data_ belongs to the block before.
        name = name if block.name is None else block.name
        for needed in [("x", "y", "w", "h")] if kind == "box" else [RELION, BOXES]:
            boxes_of_ends = needed is BOXES and (name == "filament_vertices" or set(RELION) <= set(block.columns))
            if (kind == "box" or set(needed) <= set(block.columns)) and not boxes_of_ends:
                found += [_position(row.words, block.columns, needed) for row in block.rows if row.words]
    return found


def _position(words: list[str], columns: list[str], needed: tuple[str, ...]) -> tuple[float, float] | None:
    numbers = [number for label in needed if (number := _number(words, columns, label)) is not None]
    if len(numbers) < len(needed):
        return None
    x, y, *sides = numbers
    width, height = sides or (0.0, 0.0)
    return x + width / 2, y + height / 2


def _number(words: list[str], columns: list[str], label: str) -> float | None:
    at = columns.index(label) if label in columns else len(words)
    if at >= len(words) or not DECIMAL.fullmatch(words[at]) or not math.isfinite(float(words[at])):
        return None
    return float(words[at])


def text(kind: str, document: Document) -> str:
    """Return the file."""
    lines = list(document.before)
    for block in document.blocks:
        if kind != "box":
            lines += [] if block.name is None else [f"data_{block.name}", ""]
            if not block.loop and len(block.rows) == 1 and len(block.rows[0].words) == len(block.columns):
                lines += [f"{label} {_word(word)}" for label, word in zip(block.columns, block.rows[0].words)] + [""]
                continue
            lines += ["loop_"] if block.loop else []
            lines += [f"{label} #{i}" if block.numbers else label for i, label in enumerate(block.columns, 1)]
        pending = ""
        for row in block.rows:
            # A line that begins with # is a comment, whoever meant it as a row.
            quoted = kind != "box" and (row.quoted or "".join(row.words[:1]).startswith("#"))
            words = [_word(word) if quoted else word for word in row.words]
            if row.style == "wrapped" and len(words) > 1:
                lines += [
                    document.between.join(words[: len(words) // 2]),
                    document.between.join(words[len(words) // 2 :]),
                ]
                continue
            line = pending + document.between.join(words)
            pending = ""
            if row.style == "joined":
                pending = line + document.between
                continue
            lines.append(f"{line} # good" if row.style == "commented" else line)
        lines += [pending] if pending else []
        lines += [""] if kind != "box" else []
    return document.end.join([*lines, ""])


def _word(word: str) -> str:
    if word and not re.search(r"\s", word) and not re.match(r"[#_'\"]|data_|loop_", word):
        return word
    return f"'{word}'" if '"' in word else f'"{word}"'


# ---- changes


def _pick(random: Random, items: list) -> int:
    return int(random.integers(len(items)))


def drop_rows(random: Random, document: Document, block: Block) -> None:
    a, b = sorted(random.integers(0, len(block.rows) + 1, 2))
    del block.rows[a:b]


def double_rows(random: Random, document: Document, block: Block) -> None:
    a, b = sorted(random.integers(0, len(block.rows) + 1, 2))
    block.rows[b:b] = copy.deepcopy(block.rows[a:b])


def shuffle_rows(random: Random, document: Document, block: Block) -> None:
    block.rows = [block.rows[i] for i in random.permutation(len(block.rows))]


def cut(random: Random, document: Document, block: Block) -> None:
    """End the file within a block, perhaps within a row."""
    at = document.blocks.index(block)
    del document.blocks[at + 1 :]
    del block.rows[random.integers(0, len(block.rows) + 1) :]
    if block.rows and random.random() < 0.5:
        words = block.rows[-1].words
        del words[random.integers(1, max(1, len(words)) + 1) :]


def short_row(random: Random, document: Document, block: Block) -> None:
    if block.rows:
        words = block.rows[_pick(random, block.rows)].words
        del words[random.integers(0, len(words) + 1) :]
        words += [] if words else ["0"]


def long_row(random: Random, document: Document, block: Block) -> None:
    if block.rows:
        words = block.rows[_pick(random, block.rows)].words
        words.insert(random.integers(0, len(words) + 1), NUMBERS[_pick(random, NUMBERS)])
        document.moved = True


def drop_column(random: Random, document: Document, block: Block) -> None:
    """Remove a column: its header, its values, or both."""
    if len(block.columns) < 2:
        return
    at, how = _pick(random, block.columns), random.integers(3) if block.columns[0][0] == "_" else 2
    document.moved = True
    if how != 0:
        del block.columns[at]
    if how != 1:
        for row in block.rows:
            del row.words[at : at + 1]


def add_column(random: Random, document: Document, block: Block) -> None:
    """Add a column of this or another program, perhaps one that is there, perhaps without its header or values."""
    label, value = list(FOREIGN.items())[_pick(random, list(FOREIGN))]
    at, how = int(random.integers(0, len(block.columns) + 1)), random.integers(8)
    how = how if block.columns[0][0] == "_" else 2
    document.moved = document.moved or label in SHIFTING or label in block.columns or how < 2
    if block.name is None and document.file[-4:] in (".box", ".txt"):
        document.moved = True
    if how != 0:
        block.columns.insert(at, label)
    if how != 1:
        for row in block.rows:
            row.words.insert(at, value)


def swap_columns(random: Random, document: Document, block: Block) -> None:
    order = random.permutation(len(block.columns))
    if all(len(row.words) == len(order) for row in block.rows):
        block.columns = [block.columns[i] for i in order]
        for row in block.rows:
            row.words = [row.words[i] for i in order]
        document.moved = document.moved or document.file.endswith((".box", ".txt"))


def number(random: Random, document: Document, block: Block) -> None:
    if rows := [row for row in block.rows if row.words]:
        words = rows[_pick(random, rows)].words
        words[_pick(random, words)] = NUMBERS[_pick(random, NUMBERS)]


def name(random: Random, document: Document, block: Block) -> None:
    """Name a micrograph strangely, with or without quotes."""
    if block.rows:
        at = _pick(random, block.columns)
        row = block.rows[_pick(random, block.rows)]
        place = block.columns.index("_rlnMicrographName") if "_rlnMicrographName" in block.columns else at
        if place < len(row.words):
            row.words[place] = NAMES[_pick(random, NAMES)]
        row.quoted = bool(random.random() < 0.5)


def style(random: Random, document: Document, block: Block) -> None:
    if block.rows:
        row = block.rows[_pick(random, block.rows)]
        row.style = str(random.choice(["wrapped", "joined", "commented"]))


def double_block(random: Random, document: Document, block: Block) -> None:
    """Write a block twice, as ``cat`` does; perhaps its header alone, before some of its rows."""
    at, again = document.blocks.index(block), copy.deepcopy(block)
    if random.random() < 0.5:
        half = random.integers(0, len(block.rows) + 1)
        again.rows, block.rows = again.rows[half:], block.rows[:half]
        again.name = None if random.random() < 0.5 else again.name
    document.blocks.insert(at + 1, again)


def join_file(random: Random, document: Document, block: Block) -> None:
    document.blocks += copy.deepcopy(document.blocks)


def other_block(random: Random, document: Document, block: Block) -> None:
    labels = [list(FOREIGN)[i] for i in random.choice(len(FOREIGN), int(random.integers(1, 4)), replace=False)]
    rows = [Row([FOREIGN[label] for label in labels]) for _ in range(int(random.integers(0, 4)))]
    names = ["optics", "particles", "", "general", "cryolo", "filament_vertices", None]
    made = Block(names[_pick(random, names)], labels, rows, bool(random.random() < 0.7))
    document.blocks.insert(int(random.integers(0, len(document.blocks) + 1)), made)


def move_block(random: Random, document: Document, block: Block) -> None:
    document.blocks = [document.blocks[i] for i in random.permutation(len(document.blocks))]


def header(random: Random, document: Document, block: Block) -> None:
    """Change what begins a block: ``data_``, ``loop_``, the numbers of its columns, its name."""
    how = random.integers(4)
    if how == 0:
        block.loop = not block.loop
    elif how == 1:
        block.name = None if block.name is not None else ""
    elif how == 2:
        block.numbers = not block.numbers
    else:
        names = ["", "cryolo", "images", "1", "x y"]
        block.name = names[_pick(random, names)]


def layout(random: Random, document: Document, block: Block) -> None:
    """Change what separates words and lines, and what stands in front."""
    document.between = str(random.choice([" ", "\t", "   ", ", ", ";", "\t "]))
    document.end = str(random.choice(["\n", "\n", "\r\n", "\n\n", " \n", "\r"]))
    front = [[], ["# version 30001"], ["\ufeff# x"], ["; SPIDER"], [""], ["# x y", "#"], ["x y width height"]]
    document.before = front[_pick(random, front)]
    document.moved = document.moved or document.before == front[-1]


def spider(random: Random, document: Document, block: Block) -> None:
    """Put keys and numbers in front of the values, as SPIDER, or objects and contours, as IMOD."""
    document.moved = True
    for i, row in enumerate(block.rows, 1):
        row.words[:0] = [str(i), str(len(row.words))] if random.random() < 0.9 else ["1"]


def sides(random: Random, document: Document, block: Block) -> None:
    """Change the sides of boxes: one, or those of all."""
    size = str(random.choice(["0", "-30", "31", "1e-9", "30.0"]))
    for row in block.rows if random.random() < 0.5 else block.rows[:1]:
        if len(row.words) > 3:
            row.words[2 + int(random.integers(2))] = size


def modes(random: Random, document: Document, block: Block) -> None:
    """Give rows EMAN's marks: a particle, the start or the end of a filament."""
    for row in block.rows:
        row.words[4:] = [str(random.choice(["-1", "-2", "-3", "-1.0", "0.5"]))]


ROWS: list[Change] = [
    drop_rows,
    double_rows,
    shuffle_rows,
    cut,
    short_row,
    long_row,
    number,
    number,
    number,
    style,
    layout,
]
COLUMNS: list[Change] = [drop_column, add_column, add_column, swap_columns, name]
BLOCKS: list[Change] = [double_block, join_file, other_block, other_block, move_block, header]
CHANGES = {
    "star": [*ROWS, *COLUMNS, *BLOCKS, name],
    "cbox": [*ROWS, *COLUMNS, *BLOCKS],
    "box": [*ROWS, drop_column, add_column, swap_columns, spider, sides, modes],
}


def changed(kind: str, random: Random, documents: list[Document]) -> Document:
    """Return a document after a few changes."""
    document = copy.deepcopy(documents[_pick(random, documents)])
    for _ in range(min(5, int(random.geometric(0.5)))):
        # Mostly a block that holds positions.
        filled = [block for block in document.blocks if len(block.rows) > 1] or document.blocks
        block = filled[_pick(random, filled)]
        CHANGES[kind][_pick(random, CHANGES[kind])](random, document, block)
    return document


# ---- the law


def is_another(path: Path, kind: str, document: Document) -> bool:
    """Tell whether nothing in a file shows that it is damaged.

    So with two short rows that make one; without a header with columns x y, or x y diameter, in a file not named .box;
    in a STAR file with the first word of a row, such as ``data_1/a.mrc``, before a new loop.
    """
    written = path.read_text()
    if kind != "box":
        short = [row for block in document.blocks for row in block.rows if len(row.words) < len(block.columns)]
        cut = re.search(r"^\s*[\"']?data_\S*/[^\n]*$\s*(loop_|_\w+ )", written, re.M)
        return cut is not None or any(row.style == "joined" for row in short)
    joined = any(row.style == "joined" and len(row.words) < 4 for row in document.blocks[0].rows)
    return joined or (path.suffix == ".txt" and len(written.split("\n")[0].split()) < 4)


def outcome(path: Path, kind: str, document: Document) -> str:
    """Return "read", "refused", or what went wrong."""
    wanted = positions(kind, document)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = coordinates.read_all(path)
    except CoordinatesError as error:
        return "refused" if str(error.where) and error.remedy else "a message without where or remedy"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:80]} ({Path(last.filename).name}, line {last.lineno})"
    xy = np.concatenate([np.zeros((0, 2)), *(picks.particles.xy for picks in found)])
    if not np.isfinite(xy).all():
        return "positions that are not finite"
    if is_another(path, kind, document):
        return "read"
    if len(xy) != len(wanted):
        return f"{'fewer' if len(xy) < len(wanted) else 'more'} particles than rows of coordinates"
    if document.moved:
        return "read"
    if None in wanted:
        return "a position that is no number is read"
    places = np.array(wanted, float).reshape(-1, 2)
    if np.abs(places).max(initial=0) > LARGEST:
        return "read"
    order, other = np.lexsort(xy.T), np.lexsort(places.T)
    return "read" if np.allclose(xy[order], places[other], rtol=1e-9, atol=1e-9) else "other positions than the rows'"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, help="inputs for each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", nargs="*", choices=list(CHANGES), default=list(CHANGES))
    parser.add_argument("--keep", type=Path, help="folder for the inputs of findings")
    options = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        for number_of_kind, (kind, documents) in enumerate(seeds().items()):
            if kind not in options.formats:
                continue
            counts: collections.Counter[str] = collections.Counter()
            start = time.perf_counter()
            for index in range(options.inputs):
                random = np.random.default_rng((options.seed, number_of_kind, index))
                document = changed(kind, random, documents)
                path = Path(folder) / document.file
                path.write_bytes(text(kind, document).encode())
                result = outcome(path, kind, document)
                counts[result] += 1
                if result not in ("read", "refused") and options.keep and counts[result] <= 5:
                    options.keep.mkdir(parents=True, exist_ok=True)
                    kept = options.keep / f"{kind}-{options.seed}-{index}-{document.file}"
                    kept.write_bytes(path.read_bytes())
                path.unlink()
            findings = {what: n for what, n in counts.items() if what not in ("read", "refused")}
            bad += len(findings)
            print(
                f"{kind:5s} {options.inputs} inputs: {counts['read']} read, {counts['refused']} refused,"
                f" {len(findings)} kinds of findings; {time.perf_counter() - start:.0f} s",
                flush=True,
            )
            for what, n in findings.items():
                print(f"    {n} x {what}", flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
