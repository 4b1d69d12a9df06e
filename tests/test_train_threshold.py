"""The stored threshold rests on what was held back and on what was learned from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_train_stages import CONFIG, DIAMETER, data, mics, no_curves, pretrained  # noqa: F401 (fixtures)

from upicker.geometry import Frame
from upicker.image.prepare import Prepared
from upicker.model import weights
from upicker.particles import Particles
from upicker.scoring import score, steady
from upicker.train import threshold
from upicker.train.job import Job
from upicker.train.stages import finetune
from upicker.train.validation import ValidationMicrograph


def found(labels: int, weakest: float, noise: float) -> tuple[Particles, Particles]:
    """All labels found, the last one with a score of `weakest`; and as many false picks up to a score of `noise`."""
    xy = np.column_stack([np.arange(labels) * 30.0, np.zeros(labels)])
    scores = np.concatenate([np.linspace(0.9, weakest, labels), np.linspace(0.01, noise, labels)])
    picks = Particles.of(np.concatenate([xy, xy + np.array([0, 500])]), 20.0, scores)
    return picks, Particles.of(xy, 20.0)


@pytest.mark.parametrize("places", [(0, 1), (1, 0)])
def test_it_is_that_of_all_labels_and_the_figures_are_of_those_held_back(pretrained, tmp_path, monkeypatch, places):  # noqa: F811
    path = tmp_path / "copy.safetensors"
    path.write_bytes(pretrained.read_bytes())
    pairs = [found(8, 0.05, 0.1), found(200, 0.5, 0.4)]
    pictures = [Prepared(np.zeros((9, 9), np.float32), Frame((9, 9), (9, 9)), 20.0) for _ in pairs]
    one, other = (ValidationMicrograph(pictures[place], pairs[place][1]) for place in places)
    of = {id(picture): pair for picture, pair in zip(pictures, pairs, strict=True)}
    monkeypatch.setattr(ValidationMicrograph, "pick", lambda one, network, config: of[id(one.prepared)])
    row = threshold.choose_again(path, [one], [other], CONFIG)
    assert row["threshold"] == pytest.approx(steady(pairs)[0])
    assert 0.35 < row["threshold"] < 0.55, "where the many labels say, whichever of them were held back"
    held = score([pairs[places[0]]], threshold=row["threshold"])
    assert (row["precision"], row["recall"], row["f1"]) == (held.precision, held.recall, held.f1)
    before, after = weights.read_header(pretrained), weights.read_header(path)
    assert after == replace(before, **row)
    assert all(v.equal(weights.read_tensors(path)[k]) for k, v in weights.read_tensors(pretrained).items())


def test_fine_tuning_with_few_micrographs_stores_it(data: Path, tmp_path, monkeypatch):  # noqa: F811
    asked = []
    real = threshold.choose_again

    def noted(path, validation, training, *others):
        asked.append((len(validation), len(training), weights.read_header(path).threshold))
        return real(path, validation, training, *others)

    monkeypatch.setattr(threshold, "choose_again", noted)
    job = Job(tmp_path / "m.safetensors", CONFIG)
    result = finetune(mics(data, 2), data / "labels", job, diameter=DIAMETER, validation=0.4)
    [(validated, trained, before)] = asked
    assert (validated, trained) == (2, 2)
    header = weights.read_header(job.output)
    assert (header.threshold, header.f1) == (result.threshold, result.f1)
    assert before is not None
    # Not held back: there are no metrics, so nothing is stored.
    assert finetune(mics(data, 2), data / "labels", job, diameter=DIAMETER, validation=0.0).threshold is None
    assert len(asked) == 1
