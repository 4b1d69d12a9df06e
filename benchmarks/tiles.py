"""F1 and time of picking by the size of the tiles and the number of views.

    python benchmarks/tiles.py --name empiar10017 --check 6,7 runs/empiar10017-few-pretrained-{0,1,2}.safetensors

The weights of `training.py`, on training micrographs that none of them learned from (`--check`, by name from 0: with 2
labelled ones seeds 0 to 2 take 0 to 5). For each size of tile: best F1 and AP in 1, 2, 4 and 8 views,
means over the weights, and the CPU seconds of the network and the merging of one view of a micrograph, on one thread.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
from training import SETS, Data

from upicker.config import Config
from upicker.image.mask import masked
from upicker.image.prepare import Prepared, prepare
from upicker.io import coordinates, micrographs
from upicker.pick.detection import detect
from upicker.pick.network import load
from upicker.run.allocator import keep_freed_memory
from upicker.scoring import score

VIEWS = (1, 2, 4, 8)


def measured(path: Path, data: Data, prepared: list[Prepared], tile: int, views: tuple[int, ...]) -> np.ndarray:
    """Return `(len(views), 3)`: best F1, AP and CPU seconds a view of the test micrographs."""
    rows = []
    for number in views:
        loaded = load(path, {"train.threads": 1, "train.device": "cpu", "pick.tile_px": tile, "pick.views": number})
        began, pairs = time.process_time(), []
        for file, one in zip(data.test, prepared, strict=True):
            found = detect(loaded.network, one, loaded.config)
            pairs.append((found, coordinates.read(data.labels / f"{file.stem}.csv")))
        seconds = (time.process_time() - began) / len(pairs) / number
        result = score(pairs, data.diameter.value)
        rows.append((result.best_f1, result.average_precision, seconds))
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--name", choices=sorted(SETS), default="empiar10017")
    parser.add_argument("--check", type=lambda text: [int(i) for i in text.split(",")], default=[6, 7])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--tiles", type=int, nargs="*", default=[288, 384, 480, 928])
    parser.add_argument("--views", type=int, nargs="*", default=VIEWS)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    keep_freed_memory()
    data, image = Data(options.data, options.name), Config().image
    data.test = [data.train[i] for i in options.check]
    read = [prepare(micrographs.read(path), data.diameter.value, image) for path in data.test]
    prepared = [masked(one, image) for one in read]
    heads = [f"F1 in {views}" for views in options.views] + [f"AP in {views}" for views in options.views]
    print(f"| tile | {' | '.join(heads)} | CPU-s a view |\n|{'---|' * (2 + 2 * len(options.views))}")
    for tile in options.tiles:
        found = np.mean([measured(path, data, prepared, tile, tuple(options.views)) for path in options.models], 0)
        cells = [f"{value:.3f}" for value in found[:, :2].T.ravel()]
        print(f"| {tile} | {' | '.join(cells)} | {found[0, 2]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
