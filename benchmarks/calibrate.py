"""Thresholds and probabilities of a general model, for each number of views, chosen on unlike micrographs.

    python benchmarks/calibrate.py runs/general.safetensors --tiles SETS.toml

Three groups count alike: simulated tiles of a seed that no training draws, the first 8 micrographs of EMPIAR-10017 and
the first 7 of apoferritin (with the margin that labels leave). The curve that makes probabilities of scores (Platt
scaling) is fitted to all; the threshold is that of the highest mean F1. Both are stored in the file. Prints markdown:
what was found, F1 of each group at the threshold and at its own best one, and the expected calibration error.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from training import Data

from upicker.calibration import expected_error, from_labels
from upicker.config import Config
from upicker.image.prepare import Prepared
from upicker.io.micrographs import Reading
from upicker.model import weights
from upicker.particles import Particles
from upicker.pick.detection import USUAL_VIEWS, detect_in_views
from upicker.pick.picker import Picker
from upicker.pick.torch_network import TorchNetwork
from upicker.scoring import Curve, curve, pooled
from upicker.train.labels import LabelledMicrograph, edge_margin, picks_margin, read_pair
from upicker.train.sets import read
from upicker.train.simulated import SimulatedTiles
from upicker.train.threshold import VIEWS

# Of the tiles: no training has it.
SEED, TILES = 2**30, 60
REAL = ("empiar10017", "apoferritin")
Group = list[tuple[Prepared, Particles, float]]  # with the margin in diameters in which picks do not count


def simulated(sets: Path, config: Config) -> Group:
    """Return tiles that no training draws."""
    tiles = SimulatedTiles(replace(read(sets).plan, seed=SEED), config)
    return [(one.prepared, one.labels, 0.0) for one in tiles.kept_aside(TILES)]


def real(picker: Picker, data: Data) -> Group:
    """Return all micrographs of a set but those that are tested on."""
    paths = data.paths[: -len(data.test)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Labels outside the micrograph, in apoferritin.
        both = [read_pair(path, data.labels / f"{path.stem}.csv", data.diameter, Reading()) for path in paths]
    found = [LabelledMicrograph(picker.prepared(one, data.diameter.value), labels) for one, labels in both]
    margin = picks_margin(edge_margin(found))
    return [(one.prepared, one.particles, margin) for one in found]


def picked(network: TorchNetwork, group: Group, config: Config) -> dict[int, list[tuple[Particles, Particles]]]:
    """Return picks, with the sizes of their boxes, and labels, for each number of views."""
    pairs: dict[int, list[tuple[Particles, Particles]]] = {views: [] for views in VIEWS}
    for prepared, labels, margin in group:
        picking = config.with_changes({"pick.edge_diameters": margin})
        for views, found in zip(VIEWS, detect_in_views(network, prepared, picking, VIEWS), strict=True):
            ratio = found.diameter_px / prepared.diameter_px
            kept = (ratio >= config.pick.smallest) & (ratio <= config.pick.largest)
            pairs[views].append((found.select(kept), labels))
    return pairs


def best_for_all(points: Sequence[Curve]) -> tuple[float, list[float]]:
    """Return the threshold of the highest mean F1, and the F1 of each there."""
    at = np.linspace(0.02, 0.98, 193)
    f1 = np.array([np.interp(at, one.thresholds[::-1], one.f1[::-1], right=0.0) for one in points])
    best = int(f1.mean(0).argmax())
    return float(at[best]), f1[:, best].tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tiles", type=Path, required=True, help="the file that the weights were trained with")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = parser.parse_args()
    model, header, config = weights.load(options.model)
    network = TorchNetwork(model, config)
    groups = [simulated(options.tiles, config), *(real(Picker(options.model), Data(options.data, n)) for n in REAL)]
    pairs = [picked(network, group, config) for group in groups]
    print("| views | slope | offset | threshold: score | probability | F1 / best of each | calibration error of each |")
    print("|---|---|---|---|---|---|---|")
    thresholds, calibrations = {}, {}
    for views in VIEWS:
        pools = [pooled(one[views]) for one in pairs]
        weight = np.concatenate([np.full(len(scores), 1 / len(scores)) for scores, _ in pools])
        fitted = from_labels(*(np.concatenate(column) for column in zip(*pools, strict=True)), weight)
        assert fitted is not None, "higher scores are not better"
        points = [curve(one[views]) for one in pairs]
        chosen, f1 = best_for_all(points)
        thresholds[str(views)] = float(fitted.probability(np.array([chosen]))[0])
        calibrations[str(views)] = [fitted.slope, fitted.offset]
        cells = [" ".join(f"{a:.3f}/{one.f1.max():.3f}" for a, one in zip(f1, points, strict=True))]
        cells.append(" ".join(f"{expected_error(fitted.probability(scores), hit):.3f}" for scores, hit in pools))
        numbers = f"{fitted.slope:.2f} | {fitted.offset:.2f} | {chosen:.3f} | {thresholds[str(views)]:.3f}"
        print(f"| {views} | {numbers} | {' | '.join(cells)} |", flush=True)
    usual = thresholds[str(USUAL_VIEWS)]
    weights.save(
        options.model, model, replace(header, threshold=usual, thresholds=thresholds, calibrations=calibrations)
    )


if __name__ == "__main__":
    main()
