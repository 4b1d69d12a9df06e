"""Files of other programs that were once read wrongly: each case's commands, and whether they give what they must.

    python benchmarks/cases.py ../shared/cases
    python benchmarks/cases.py ../shared/cases --only 03 17

A case is a folder ``NN-name`` with inputs and a ``case.md`` that says where the situation was reported, what happened
and what must happen. It is copied before its commands run. Where a case allows either all of a file or an error that
says what the file is, both are right; half a file is not. Exit code 1 if a case fails.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import starfile

HERE = Path(__file__).resolve()
Positions = list[tuple[float, float]]
CASES: dict[str, Callable[[Case], None]] = {}


class WrongError(Exception):
    """A case does not give what it must."""


@dataclass
class Case:
    """A case's folder, and how its commands are run."""

    folder: Path
    said: str = ""
    code: int = 0

    def run(self, *arguments: str) -> str:
        """Run ``upicker ARGUMENTS``; return all that it printed, on one line."""
        environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1] / "src"), "COLUMNS": "500"}
        done = subprocess.run(
            [sys.executable, "-m", "upicker", *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        self.code, self.said = done.returncode, " ".join((done.stdout + done.stderr).split())
        need("Traceback" not in self.said, f"a traceback: {self.said}")
        return self.said

    def succeeds(self, *arguments: str) -> str:
        """Run a command that must not fail."""
        said = self.run(*arguments)
        need(self.code == 0, f"{arguments[0]} ended with {self.code}: {said}")
        return said

    def refuses(self, *arguments: str, words: str) -> None:
        """Run a command that must fail, and say some words (a pattern)."""
        said = self.run(*arguments)
        need(self.code != 0, f"{arguments} succeeded: {said}")
        self.says(words)

    def all_or_refuses(self, wanted: Positions, words: str, source: str, *more: str) -> None:
        """Convert a file to CSV, which gives all positions or an error with some words (a pattern)."""
        self.run("convert", source, "--to", "csv", "-o", "out.csv", *more)
        if self.code == 0:
            near(self.csv("out.csv"), wanted)
        else:
            self.says(words)

    def says(self, words: str) -> None:
        """Check that the last command said some words (a pattern)."""
        need(re.search(words, self.said, re.IGNORECASE) is not None, f"nothing of {words!r} in: {self.said}")

    def csv(self, name: str) -> Positions:
        """Return the positions in one of UPicker's CSV files."""
        with (self.folder / name).open(newline="") as file:
            return [(float(row["x"]), float(row["y"])) for row in csv.DictReader(file)]

    def star(self, name: str, block: str | None = None) -> dict[str, list]:
        """Return the columns of a table of a STAR file, read by the package starfile."""
        tables = starfile.read(self.folder / name, always_dict=True)
        table = tables[block] if block else next(iter(tables.values()))
        return {str(column): list(table[column]) for column in table.columns}


def need(holds: bool, otherwise: str) -> None:
    """Raise WrongError unless something holds."""
    if not holds:
        raise WrongError(otherwise)


def near(found: Iterable[tuple[float, float]], wanted: Positions, within: float = 0.01) -> None:
    """Compare positions in any order."""
    found, wanted = sorted(found), sorted(wanted)
    equal = len(found) == len(wanted) and all(math.dist(a, b) <= within for a, b in zip(found, wanted))
    need(equal, f"positions {found[:12]}, wanted {wanted[:12]}")


def case(function: Callable[[Case], None]) -> Callable[[Case], None]:
    """Register the case whose number is in the function's name."""
    CASES[re.findall(r"\d\d", function.__name__)[0]] = function
    return function


@case
def case_00_origins_of_binned_micrographs(case: Case) -> None:
    case.succeeds("convert", "run_data.star", "--to", "csv", "-o", "o.csv", "--micrographs", "mics.star")
    near(case.csv("o.csv"), [(90, 105), (140, 125)])
    case.refuses("convert", "run_data.star", "--to", "csv", "-o", "p.csv", words="--pixel-size|--micrographs")
    case.run("convert", "run_data.star", "--to", "box", "-o", "boxes", "--diameter", "48A")
    for file in (case.folder / "boxes").glob("*.box"):
        need(all(line.split()[2] == "24" for line in file.read_text().splitlines()), f"boxes: {file.read_text()}")
    arguments = ("relion30_data.star", "--to", "csv", "-o", "r.csv", "--micrographs", "MotionCorr/job002/Movies")
    case.succeeds("convert", *arguments)
    near(case.csv("r.csv"), [(96, 106)])
    arguments = ("binned_picks.star", "--to", "csv", "-o", "b.csv", "--scale", "2", "--pixel-size", "2A")
    case.succeeds("convert", *arguments)
    near(case.csv("b.csv"), [(190, 205)])


@case
def case_01_unsigned_bytes(case: Case) -> None:
    case.succeeds("propose", "mic", "-o", "p", "--diameter", "24px")
    case.says("unsigned|0 to 255|0\\.\\.255")
    said = case.succeeds("evaluate", "labels", "p")
    f1 = float(re.findall(r"all 1 .*", said)[0].split()[6])
    need(f1 > 0.75, f"F1 {f1}, wanted .766: {said}")


@case
def case_02_headerless_tables(case: Case) -> None:
    with (case.folder / "expected_mic001.csv").open(newline="") as file:
        wanted = [(float(row["x"]), float(row["y"])) for row in csv.DictReader(file)]
    points = [(120.5, 130.5), (150.5, 90.5)]
    for more in ((), ("--micrographs", "mics")):
        case.all_or_refuses(wanted, "SPIDER|layout|box|column", "mic001.spi", *more)
    for name in ("mic002.txt", "mic003.txt", "mic004.plt"):
        case.all_or_refuses(points, "layout|box|column|IMAGIC", name)


@case
def case_03_several_blocks(case: Case) -> None:
    wanted = [(10.0, 20.0), (11.0, 21.0), (30.0, 40.0), (31.0, 41.0), (32.0, 42.0)]
    for name, *more in (("all.star", "--micrographs", "mics"), ("blocks.star",)):
        case.all_or_refuses(wanted, "two|several|tables|blocks", name, *more)


@case
def case_04_tomograms(case: Case) -> None:
    case.refuses("convert", "relion4.star", "--to", "csv", "-o", "a.csv", words="tomogram|CoordinateZ")
    arguments = ("pytom.star", "--to", "relion", "-o", "AutoPick/pt", "--micrographs", "mics")
    case.refuses("convert", *arguments, words="tomogram|CoordinateZ")
    case.refuses("convert", "warp_normalised.star", "--to", "csv", "-o", "w.csv", words="tomogram|CoordinateZ|0 and 1")


@case
def case_05_filament_vertices(case: Case) -> None:
    case.succeeds("convert", "mic001.cbox", "--to", "csv", "-o", "out.csv")
    case.says("filament")
    found = case.csv("out.csv")
    need(len(found) == 22, f"{len(found)} particles, wanted 22")
    near(found[:1], [(120, 120)])


@case
def case_06_helix_boxes(case: Case) -> None:
    case.run("convert", "mic001.box", "--to", "csv", "-o", "out.csv")
    case.says("filament|helix|helices")


@case
def case_07_helical_columns(case: Case) -> None:
    case.succeeds("convert", "helix.star", "--to", "particles", "-o", "out.star")
    case.says("not kept|does not hold|not held")
    case.says("filament|helical|tube")
    psi = {
        float(value)
        for column, values in case.star("out.star", "particles").items()
        if column == "rlnAnglePsi"
        for value in values
    }
    need(psi <= {-999.0, -45.0}, f"psi {psi}")
    case.succeeds("convert", "helix.star", "--to", "relion", "-o", "AutoPick/h")
    case.says("filament|helical|tube")


@case
def case_08_psi_under_a_flip(case: Case) -> None:
    case.succeeds(
        "convert", "p.star", "--to", "star", "-o", "out", "--from-flip", "upside-down", "--micrographs", "mics"
    )
    file = next((case.folder / "out").rglob("*.star"))
    table = case.star(str(file.relative_to(case.folder)))
    near([(table["rlnCoordinateX"][0], table["rlnCoordinateY"][0])], [(100, 49)])
    psi = float(table["rlnAnglePsi"][0])
    need((psi + 30) % 180 == 0, f"psi {psi}, wanted -30")


@case
def case_09_large_cs_header(case: Case) -> None:
    case.succeeds("convert", "particles_exported.cs", "--to", "csv", "-o", "out.csv")
    near(case.csv("out.csv"), [(22, 100), (44, 100), (66, 100), (88, 100)])


@case
def case_10_one_name_in_two_folders(case: Case) -> None:
    arguments = ("--in_mics", "mics.star", "--o", "External/job005/", "--diameter", "32A")
    case.succeeds("relion-job", *arguments)
    files = sorted(path.relative_to(case.folder) for path in (case.folder / "External/job005").rglob("001*.star"))
    need(len(files) == 2, f"coordinate files {files}")
    case.succeeds(
        "convert", "External/job005/autopick.star", "--to", "relion", "-o", "AutoPick/j", "--micrographs", "mics.star"
    )
    files = sorted(path.relative_to(case.folder) for path in (case.folder / "AutoPick/j").rglob("001*.star"))
    need(len(files) == 2, f"coordinate files {files}")
    for form, output in (("particles", "P/particles.star"), ("cs", "p.cs")):
        arguments = ("External/job005/autopick.star", "--to", form, "-o", output, "--micrographs", "mics.star")
        case.succeeds("convert", *arguments)
    names = set(case.star("P/particles.star", "particles")["rlnMicrographName"])
    need(names == {"M/Dataset1/001.mrc", "M/Dataset2/001.mrc"}, f"micrographs {names}")
    arguments = (
        "External/job005/autopick.star",
        "--micrographs",
        "mics.star",
        "--box",
        "24px",
        "-o",
        "E/particles.star",
    )
    case.succeeds("extract", *arguments)


@case
def case_11_endings_of_other_programs(case: Case) -> None:
    folders = sorted(path.name for path in case.folder.glob("c_*"))
    need(len(folders) == 8, f"folders {folders}")
    for folder in folders:
        case.succeeds("convert", folder, "--to", "csv", "-o", f"out_{folder}", "--micrographs", "mics")
        files = list((case.folder / f"out_{folder}").glob("*.csv"))
        need(len(files) == 1 and "1 particle" in case.said, f"{folder}: {case.said}")
    case.succeeds("extract", "c_extract", "--micrographs", "mics", "--box", "40px", "-o", "p.star")


@case
def case_12_own_files_of_double_suffixes(case: Case) -> None:
    case.succeeds("propose", "mics", "-o", "p", "--diameter", "32A", "--format", "csv,star")
    case.succeeds("extract", "p", "--micrographs", "mics", "--box", "40px", "-o", "P/particles.star")
    need(len(set(case.star("P/particles.star", "particles")["rlnMicrographName"])) == 2, "particles of one micrograph")
    case.succeeds("convert", "p", "--to", "relion", "-o", "AutoPick/j", "--micrographs", "mics")
    need("without" not in case.said and "no micrograph" not in case.said, case.said)
    case.succeeds("check-frame", "p", "--micrographs", "mics")


@case
def case_13_corner_and_size(case: Case) -> None:
    for name in ("mic001.csv", "mic002.csv"):
        case.run("convert", name, "--to", "csv", "-o", "out.csv")
        case.says(r"\bw\b|width")


@case
def case_14_tiff(case: Case) -> None:
    with (case.folder / "expected.csv").open(newline="") as file:
        wanted = np.array([(float(row["x"]), float(row["y"])) for row in csv.DictReader(file)])
    said = case.run("propose", "mics", "-o", "p", "--diameter", "18px", "--overlay")
    need(case.code in (0, 3), said)
    need("inver" in said or "white" in said.lower(), f"nothing of the inversion: {said}")
    for name in ("minwhite", "thumb_first"):
        file = case.folder / "p" / f"{name}.csv"
        if not file.exists():
            need("page" in said, f"{name} is neither read nor refused by its pages: {said}")
            continue
        found = np.array(case.csv(f"p/{name}.csv"))
        hits = sum(np.hypot(*(found - one).T).min() < 6 for one in wanted)
        need(hits >= 23, f"{name}: {hits} of {len(wanted)} particles found by {len(found)} proposals")


@case
def case_15_one_of_ten_outside(case: Case) -> None:
    for number, more in enumerate(((), ("--pad",))):
        output = f"P{number}/particles.star"
        said = case.succeeds("extract", "picks", "--micrographs", "mics", "--box", "32px", "-o", output, *more)
        count = len(case.star(output, "particles")["rlnMicrographName"])
        need(count == 9, f"{count} particles, wanted 9")
        need("1 " in said and "outside" in said, f"the one outside is not counted: {said}")


@case
def case_16_cs_without_shape(case: Case) -> None:
    case.succeeds("convert", "picks.cs", "--to", "csv", "-o", "out.csv", "--micrographs", "mics")
    near(case.csv("out.csv"), [(22, 100), (44, 100), (66, 100)])
    case.refuses("convert", "picks.cs", "--to", "csv", "-o", "o.csv", words="--micrographs")


@case
def case_17_huge_scores(case: Case) -> None:
    case.run("convert", "n.star", "--to", "cs", "-o", "n.cs", "--micrographs", "mics")
    need("RuntimeWarning" not in case.said, case.said)
    if case.code == 0:
        table = np.load(case.folder / "n.cs")
        scores = [value for name in table.dtype.names or () if "score" in name for value in table[name]]
        need(bool(np.isfinite(scores).all()), f"scores {scores}")
    else:
        case.says("n\\.star")
        need(not (case.folder / "n.cs").exists(), "a file with infinite scores is left")


@case
def case_18_labels_in_one_file(case: Case) -> None:
    case.succeeds("convert", "particles.star", "--to", "csv", "-o", "clean.csv")
    for number, labels in enumerate(("clean.csv", "particles.star")):
        arguments = (
            "--labels",
            labels,
            "-o",
            f"m{number}.safetensors",
            "--diameter",
            "16px",
            "--set",
            "train.finetune_steps=2",
        )
        case.succeeds("finetune", "Mic", *arguments)
        need((case.folder / f"m{number}.safetensors").exists(), "no weights")


@case
def case_19_names_that_begin_with_data(case: Case) -> None:
    case.succeeds("propose", "micrographs.star", "-o", "p", "--diameter", "32A")
    need(len(list((case.folder / "p").glob("mic*.csv"))) == 2, case.said)
    case.succeeds("relion-job", "--in_mics", "micrographs.star", "--o", "External/job002/", "--diameter", "32A")
    need(len(list((case.folder / "External/job002").rglob("mic*.star"))) == 2, case.said)
    case.succeeds("convert", "picks.star", "--to", "csv", "-o", "o.csv")
    near(case.csv("o.csv"), [(10, 20), (30, 40), (50, 60)])


@case
def case_20_exact_duplicates(case: Case) -> None:
    twice = "2 positions stand twice in a\\.csv"
    said = case.succeeds("evaluate", "labels", "picks")
    row = re.findall(r"all 1 .*", said)[0].split()
    need(float(row[5]) == 1.0, f"recall {row[5]}, wanted 1: {said}")
    case.says(twice)
    case.succeeds("extract", "labels", "--micrographs", "mics", "--box", "32px", "-o", "P/particles.star")
    case.says(twice)
    count = len(case.star("P/particles.star", "particles")["rlnMicrographName"])
    need(count == 3, f"{count} particles, wanted 3")
    case.succeeds("convert", "labels", "--to", "relion", "-o", "AutoPick/d", "--micrographs", "mics")
    case.says(twice)


def main() -> int:
    """Run the cases; return 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the cases")
    parser.add_argument("--only", nargs="*", metavar="NN", help="numbers of cases, e.g. 03")
    arguments = parser.parse_args()
    wrong = 0
    for source in sorted(arguments.folder.glob("[0-9][0-9]-*")):
        number = source.name[:2]
        if arguments.only and number not in arguments.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "case"
            shutil.copytree(source, copy)
            try:
                CASES[number](Case(copy))
            except (WrongError, KeyError, OSError, IndexError, ValueError) as error:
                wrong += 1
                print(f"WRONG  {source.name}: {type(error).__name__}: {error}", flush=True)
            else:
                print(f"right  {source.name}", flush=True)
    print(f"{wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
