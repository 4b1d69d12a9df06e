"""Every preprocessing switch against the score of A-LoG on real micrographs: how the defaults were chosen.

Run from the checkout::

    OMP_NUM_THREADS=1 python benchmarks/preprocessing.py [--data ../shared/data] [--first N]

Only training micrographs are used (EMPIAR-10017: the first 8 by name; apoferritin: the first 7, with the
diameters 72 to 100 px of a hollow particle). Best F1 over all thresholds and average precision at IoU > 0.5.
Prints markdown.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from proposals import SETS, DataSet

from upicker import scoring
from upicker.config import Config
from upicker.image.mask import usable
from upicker.image.prepare import prepare
from upicker.io import coordinates, micrographs
from upicker.propose.proposals import propose

SWITCHES: dict[str, dict[str, object]] = {
    "default": {},
    "without repair": {"image.repair": False},
    "without flattening": {"image.flatten": False},
    "flattening, 1.5 diameters": {"image.flatten_diameters": 1.5},
    "flattening, 5 diameters": {"image.flatten_diameters": 5.0},
    "bilateral": {"image.bilateral": True},
    "histogram": {"image.equalize": "histogram"},
    "CLAHE": {"image.equalize": "clahe"},
    "bilateral + CLAHE": {"image.bilateral": True, "image.equalize": "clahe"},
    "bilateral + histogram": {"image.bilateral": True, "image.equalize": "histogram"},
    "clip at 3 sigma": {"image.clip_sigma": 3.0},
    "clip at 10 sigma": {"image.clip_sigma": 10.0},
    "24 px a diameter": {"image.working_diameter_px": 24.0},
    "48 px a diameter": {"image.working_diameter_px": 48.0},
    "without the mask": {"propose.mask": False},
    "nothing (crop only)": {"image.repair": False, "image.flatten": False, "image.clip_sigma": 1e6},
}


def figures(data: Path, of: DataSet, first: int | None, changes: dict[str, object]) -> tuple[float, float, float]:
    """Return best F1, average precision and the median CPU seconds of `prepare`."""
    every = {"propose.top_k": "all", "propose.threshold": 0.0}
    config = Config().with_changes({**of.changes, **every, **changes})
    pairs, seconds = [], []
    for path in micrographs.find([data / of.folder / "micrographs"])[: of.training][:first]:
        micrograph = micrographs.read(path)
        start = time.process_time()
        prepared = prepare(micrograph, of.diameter_px, config.image)
        seconds.append(time.process_time() - start)
        mask = usable(prepared, config.image) if config.propose.mask else None
        labels = coordinates.read(data / of.folder / "coords" / f"{path.stem}.csv")
        pairs.append((propose(prepared, config.propose, config.image, mask), labels))
    score = scoring.score(pairs, of.diameter_px)
    return score.best_f1, score.average_precision, float(np.median(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--first", type=int, default=None, help="at most this many micrographs of each set")
    options = parser.parse_args()
    chosen = SETS[0], SETS[2]
    print("| preprocessing |" + "".join(f" {of.name}: F1 (AP) | prepare, s |" for of in chosen))
    print("|---" * (1 + 2 * len(chosen)) + "|")
    for name, changes in SWITCHES.items():
        cells = []
        for of in chosen:
            f1, precision, seconds = figures(options.data, of, options.first, changes)
            cells.append(f" {f1:.3f} ({precision:.3f}) | {seconds:.2f} |")
        print(f"| {name} |" + "".join(cells), flush=True)


if __name__ == "__main__":
    main()
