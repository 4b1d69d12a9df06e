"""Recall in a crowded field whose particles have half the nominal diameter: the number of queries must be no cap.

    python benchmarks/training.py pretrain --set augment.scale=1 --set train.pretrain_steps=600
    python benchmarks/crowded.py runs/empiar10017-pretrained-0.safetensors

The test micrographs of EMPIAR-10017, which are crowded, are picked with the diameter of their particles, and with twice
that: then a tile holds four times as many, of half the nominal size, as where small particles lie among large ones.
Recall is by centre, for the best picks: as many as there are labels, and twice
as many. The weights have to know several sizes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from upicker.io import coordinates, folders, micrographs
from upicker.particles import Particles
from upicker.pick.picker import Picker
from upicker.scoring import score

DATA = Path(__file__).resolve().parents[2] / "shared/data/empiar10017"
DIAMETER_PX, TEST = 108.0, 4


def recall(picks: list[Particles], labels: list[Particles], times: float) -> float:
    """Return the recall of the best picks, `times` as many as there are labels."""
    number = round(times * sum(map(len, labels)))
    scores = np.sort(np.concatenate([one.score for one in picks]))[::-1]
    threshold = scores[min(number, len(scores)) - 1]
    pairs = [(Particles.of(a.xy, DIAMETER_PX, a.score), b) for a, b in zip(picks, labels, strict=True)]
    return score(pairs, DIAMETER_PX, by="centre", threshold=threshold).recall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="+", help="weights that know particles of half to twice the diameter")
    parser.add_argument("--views", type=int, default=1)
    options = parser.parse_args()
    paths = micrographs.find([DATA / "micrographs"])[-TEST:]
    labels = [coordinates.read(folders.stems(DATA / "coords")[path.stem]) for path in paths]
    print("| weights | given diameter | picks | recall, as many picks as labels | twice as many |\n|" + "---|" * 5)
    for model in options.model:
        picker = Picker(model, {"pick.threshold": 0, "pick.views": options.views})
        for factor in (1, 2):
            picks = [picker.pick(micrographs.read(path), factor * DIAMETER_PX) for path in paths]
            found = [f"{recall(picks, labels, times):.3f}" for times in (1, 2)]
            print(f"| {model.name} | {factor} x | {sum(map(len, picks))} | {' | '.join(found)} |", flush=True)


if __name__ == "__main__":
    main()
