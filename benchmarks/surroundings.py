r"""Would a network that sees more of a pick's surroundings tell labels better? Boosted trees that know them say.

    python benchmarks/training.py develop --learn 0,1 --check 2,3,4,5,6,7 \
        --init runs/empiar10017-pretrained-0.safetensors
    pip install scikit-learn          # needed by this program alone
    python benchmarks/surroundings.py runs/develop-0.safetensors --check 2,3,4,5,6,7

Each micrograph of --check, which the weights must not have learned from, is judged by trees that learned from the
others. Micrographs are EMPIAR-10017's training ones, by name from 0. Prints the best F1 of the network's scores, of
trees that know the score alone, and of trees that also know each kind of surroundings.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree
from training import Data

from upicker.config import Config
from upicker.image.mask import masked
from upicker.image.prepare import Prepared, prepare
from upicker.io import coordinates, micrographs
from upicker.particles import Micrograph, Particles
from upicker.pick.picker import Picker
from upicker.propose import template
from upicker.propose.proposals import examples, with_template
from upicker.scoring import match, score

# Weaker picks are nothing for either.
LEAST = 0.05
# Standard deviations of Gaussian windows, in working pixels; of the raw grey levels, in pixels reduced by 4.
WIDTHS, RAW_WIDTHS, REDUCED = (2, 4, 8, 16, 32, 64, 128), (10, 40, 160), 4
NEIGHBOURS, AROUND_DIAMETERS = 6, (2, 5, 10)


def log_odds(picks: Particles) -> np.ndarray:
    """Return `(n,)` log odds of the scores."""
    return np.log(picks.score / (1 - picks.score))


def kinds(picks: Particles, prepared: Prepared, raw: Micrograph, profile: np.ndarray) -> dict[str, np.ndarray]:
    """Return what can be known of each pick, `(n, k)` by kind."""
    x, y = np.rint(prepared.frame.to_working(picks.xy)).astype(int).T
    at = (y.clip(0, prepared.pixels.shape[0] - 1), x.clip(0, prepared.pixels.shape[1] - 1))
    answers = template.correlate(prepared.pixels, profile, prepared.working_diameter)
    means = [ndimage.gaussian_filter(prepared.pixels, width) for width in WIDTHS]
    squares = [ndimage.gaussian_filter(prepared.pixels**2, width) for width in WIDTHS]
    usable = np.ones(prepared.pixels.shape, bool) if prepared.usable is None else prepared.usable
    tree, odds = KDTree(picks.xy), log_odds(picks)
    distance, near = tree.query(picks.xy, k=NEIGHBOURS + 1)
    around = [tree.query_ball_point(picks.xy, times * prepared.diameter_px) for times in AROUND_DIAMETERS]
    return {
        "score": odds[:, None],
        "template": answers[at][:, None],
        "means": np.stack([mean[at] for mean in means], 1),
        "variances": np.stack([square[at] - mean[at] ** 2 for mean, square in zip(means, squares, strict=True)], 1),
        "raw grey levels": grey_levels(picks, raw),
        "distance to what is masked": ndimage.distance_transform_edt(usable)[at][:, None],
        "neighbours": np.concatenate([distance[:, 1:], odds[near[:, 1:]]], 1),
        "picks around": np.array([[picks.score[some].sum() for some in each] for each in around]).T,
        "place": picks.xy,
    }


def grey_levels(picks: Particles, raw: Micrograph) -> np.ndarray:
    """Return `(n, 3)` means of the raw micrograph around the picks."""
    small = raw.pixels[::REDUCED, ::REDUCED].astype(np.float32)
    small = (small - np.median(small)) / small.std()
    x, y = np.rint(picks.xy / REDUCED).astype(int).T
    at = (y.clip(0, small.shape[0] - 1), x.clip(0, small.shape[1] - 1))
    return np.stack([ndimage.gaussian_filter(small, width)[at] for width in RAW_WIDTHS], 1)


def judged(known: list[np.ndarray], hits: list[np.ndarray]) -> list[np.ndarray]:
    """Return the trees' scores of each micrograph's picks, learned from the other micrographs."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # pyright: ignore[reportMissingImports]

    scores = []
    for own in range(len(known)):
        others = [i for i in range(len(known)) if i != own]
        trees = HistGradientBoostingClassifier(
            learning_rate=0.05,
            max_iter=200,
            max_leaf_nodes=15,
            min_samples_leaf=30,
            l2_regularization=5,
            random_state=0,
        )
        trees.fit(np.concatenate([known[i] for i in others]), np.concatenate([hits[i] for i in others]))
        scores.append(trees.predict_proba(known[own])[:, 1])
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--check", default="2,3,4,5,6,7", help="numbers of training micrographs, by name from 0")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    options = parser.parse_args()
    data, config = Data(options.data, "empiar10017"), Config()
    side = data.diameter.value

    def prepared(raw: Micrograph) -> Prepared:
        return masked(prepare(raw, side, config.image), config.image)

    some = [prepared(micrographs.read(path)) for path in examples(data.paths)]
    profile = with_template(config.propose, some, config.image).profile
    picker = Picker(options.model, {"pick.threshold": LEAST})
    picks, labels, known = [], [], []
    for path in (data.train[int(number)] for number in options.check.split(",")):
        raw = micrographs.read(path)
        picks.append(picker.pick(raw, side))
        labels.append(coordinates.read(data.labels / f"{path.stem}.csv"))
        known.append(kinds(picks[-1], prepared(raw), raw, np.array(profile)))
    hits = [match(found, truth, side).hit for found, truth in zip(picks, labels, strict=True)]

    def best(scores: list[np.ndarray]) -> str:
        judged_picks = [Particles.of(p.xy, p.diameter_px, s) for p, s in zip(picks, scores, strict=True)]
        return f"{score(list(zip(judged_picks, labels, strict=True)), side).best_f1:.3f}"

    print("| what is known | best F1 |\n|---|---|")
    print(f"| (the network's scores) | {best([one.score for one in picks])} |")
    for kind in (*known[0], None):
        names = list(known[0]) if kind is None else ["score"] if kind == "score" else ["score", kind]
        scores = judged([np.concatenate([one[name] for name in names], 1) for one in known], hits)
        print(f"| {'all' if kind is None else ' and '.join(names)} | {best(scores)} |", flush=True)


if __name__ == "__main__":
    main()
