"""What the benchmarks on simulated micrographs share: the sets, their folders, their rows of figures.

A set lies in ``OUT/<name>-<dose>/`` (``upicker simulate``'s layout): ``micrographs/NAME.mrc``, ``truth/NAME.csv`` and
``truth/NAME.star``. Sorted by name, the first `TRAINING` micrographs train and the next `TEST` test; of the
training ones the first `LABELLED` have labels. Truth of test micrographs is read to score only.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from upicker import scoring
from upicker.io import coordinates, folders, micrographs, star
from upicker.particles import Particles
from upicker.scoring import Score

TRAINING, TEST, LABELLED = 20, 10, 5
# What the preset's dose is multiplied by.
DOSES = {"full": 1.0, "hard": 1 / 3}


@dataclass(frozen=True)
class SetFolder:
    """A simulated set on disk.

    Attributes
    ----------
    root : its folder.
    training, test : micrographs, by name.
    labelled : how many of the training ones have labels.
    """

    root: Path
    training: tuple[Path, ...]
    test: tuple[Path, ...]
    labelled: int

    @property
    def truth(self) -> Path:
        """The folder of true coordinates."""
        return self.root / "truth"

    @property
    def with_labels(self) -> tuple[Path, ...]:
        """The training micrographs whose labels may be used."""
        return self.training[: self.labelled]

    def labels(self, path: Path) -> Particles:
        """Return the truth of one micrograph."""
        return coordinates.read(self.truth / f"{path.stem}.csv")

    def diameter_px(self) -> float:
        """Return the labels' diameter in raw pixels: their median on the first micrograph with particles."""
        for path in self.training:
            if len(found := self.labels(path)):
                return float(np.median(found.diameter_px))
        raise SystemExit(f"{self.truth}: no training micrograph has a particle")

    def pixel_size_A(self) -> float:  # noqa: N802
        """Return the micrographs' pixel size, Angstrom."""
        size = micrographs.read(self.test[0]).pixel_size_A
        if not size:
            raise SystemExit(f"{self.test[0]}: the pixel size is not known")
        return size


def open_set(root: Path, training: int = TRAINING, test: int = TEST, labelled: int = LABELLED) -> SetFolder:
    """Return a set that was simulated before; ends the program where micrographs or truth are missing."""
    folder = root / "micrographs"
    paths = micrographs.find([folder]) if folder.is_dir() else []
    if len(paths) < training + test:
        raise SystemExit(f"{root}: {len(paths)} micrographs, {training + test} wanted; run simulated_sets.py first")
    lacking = [path.stem for path in paths if not (root / "truth" / f"{path.stem}.csv").exists()]
    if lacking:
        raise SystemExit(f"{root}/truth: no truth of {lacking[0]} ({len(lacking)} in all)")
    return SetFolder(root, tuple(paths[:training]), tuple(paths[training : training + test]), labelled)


def truth_table(folder: SetFolder, path: Path) -> dict[str, np.ndarray]:
    """Return the columns of one micrograph's ``truth/NAME.star`` that hold numbers, e.g. ``_rlnDefocusU``."""
    file = folder.truth / f"{path.stem}.star"
    tables = [t for t in star.parse(file.read_text(encoding="utf-8"), file) if "_rlnCoordinateX" in t.columns]
    if not tables:
        raise SystemExit(f"{file}: there is no table of particles")
    table, numbers = tables[0], {}
    for at, column in enumerate(table.columns):
        try:
            # Under names of our own, because RELION refuses coordinates with defoci.
            numbers[column.replace("_upickerDefocus", "_rlnDefocus")] = np.array([float(row[at]) for row in table.rows])
        except ValueError:
            continue
    return numbers


def truth_optics(folder: SetFolder) -> dict[str, float]:
    """Return the microscope of a set: the numbers of the optics table of its first truth STAR file."""
    file = folder.truth / f"{folder.test[0].stem}.star"
    tables = [t for t in star.parse(file.read_text(encoding="utf-8"), file) if "_rlnVoltage" in t.columns]
    if not tables:
        raise SystemExit(f"{file}: there is no column _rlnVoltage")
    row = dict(zip(tables[0].columns, tables[0].rows[0]))
    return {name: float(row[name]) for name in ("_rlnVoltage", "_rlnSphericalAberration", "_rlnAmplitudeContrast")}


def scored(folder: SetFolder, paths: tuple[Path, ...], picks: Path, threshold: float = -np.inf) -> Score:
    """Score a folder of picks on some micrographs, pooled; true positives overlap by IoU >= 0.5.

    A micrograph without a file of picks has none.
    """
    files = folders.stems(picks)
    pairs = []
    for path in paths:
        file = files.get(path.stem)
        pairs.append((Particles.of([]) if file is None else coordinates.read(file), folder.labels(path)))
    return scoring.score(pairs, folder.diameter_px(), threshold=threshold)


def figures(score: Score) -> dict[str, float]:
    """Return the figures of a score that go into tables."""
    return {
        "precision": round(score.precision, 4),
        "recall": round(score.recall, 4),
        "f1": round(score.f1, 4),
        "best_f1": round(score.best_f1, 4),
        "ap": round(score.average_precision, 4),
        "picks": score.picks,
        "labels": score.labels,
    }


HEAD = (
    "| set | dose | what | P / R / F1 at the chosen threshold | best F1 | AP | seconds |\n|---|---|---|---|---|---|---|"
)


def row(where: tuple[str, str], what: str, numbers: dict[str, float | str]) -> str:
    """Return a row of the table under `HEAD`; `where` is set and dose."""
    p, r, f1 = (numbers[name] for name in ("precision", "recall", "f1"))
    took = numbers.get("took", "")
    return (
        f"| {where[0].upper()} | {where[1]} | {what} | {p:.3f} / {r:.3f} / {f1:.3f} | {numbers['best_f1']:.3f} | "
        f"{numbers['ap']:.3f} | {took} |"
    )


def remember(path: Path, numbers: dict) -> dict:
    """Keep figures in a JSON file, whole or not at all, and return them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(numbers, indent=1), encoding="utf-8")
    temporary.replace(path)
    return numbers


def remembered(path: Path) -> dict | None:
    """Return figures kept before, if any."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a set is divided."""
    parser.add_argument("--training", type=int, default=TRAINING, help="micrographs to train on")
    parser.add_argument("--test", type=int, default=TEST, help="micrographs to score on")
    parser.add_argument("--labelled", type=int, default=LABELLED, help="training micrographs with labels")
