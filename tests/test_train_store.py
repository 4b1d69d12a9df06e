"""Prepared micrographs on disk: the same pixels, few open files, no litter, and a full disk is an error."""

import os
from pathlib import Path

import numpy as np
import pytest

from upicker.errors import OutputError
from upicker.geometry import Frame
from upicker.image.prepare import Prepared
from upicker.train import store
from upicker.train.sample import Sample
from upicker.train.store import Store


def test_a_store_keeps_micrographs_on_disk():
    rng = np.random.default_rng(0)
    pictures = [rng.standard_normal(shape).astype(np.float32) for shape in ((40, 60), (50, 31))]
    kept, frame = Store(), Frame((80, 121), (40, 60))
    for pixels in pictures:
        prepared = kept.keep(Prepared(pixels, frame, 20.0, unflattened=pixels))
        np.testing.assert_array_equal(prepared.pixels, pixels)
        assert not prepared.pixels.flags.owndata
        assert prepared.unflattened is None
        assert (prepared.frame, prepared.diameter_px) == (frame, 20.0)


def test_many_arrays_take_few_open_files_and_leave_none(monkeypatch):
    monkeypatch.setattr(store, "SEGMENT_BYTES", 2**16)
    handles = Path("/proc/self/fd")
    if not handles.is_dir():
        pytest.skip("open files are counted in /proc")
    before, rng = len(list(handles.iterdir())), np.random.default_rng(0)
    pictures = [rng.standard_normal((n % 50 + 1, 37)).astype(np.float32) for n in range(300)]
    pictures.append(rng.standard_normal((300, 370)).astype(np.float32))  # larger than a segment
    one = Store()
    samples = [one.keep_sample(Sample(pixels, np.zeros((0, 2)), np.zeros(0))) for pixels in pictures]
    total = sum(pixels.nbytes for pixels in pictures)
    assert len(list(handles.iterdir())) - before <= total // 2**15 + 3
    del one
    for sample, pixels in zip(samples, pictures, strict=True):
        np.testing.assert_array_equal(sample.pixels, pixels)
    del sample, samples
    assert len(list(handles.iterdir())) == before


def test_nothing_with_a_name_is_left_in_the_temporary_folder(tmp_path, monkeypatch):
    """So that nothing is left after any kill."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    kept = Store()
    kept.keep_sample(Sample(np.ones((3, 4), np.float32), np.zeros((0, 2)), np.zeros(0)))
    assert list(tmp_path.iterdir()) == []


def test_two_trainings_share_no_file():
    stores = Store(), Store()
    pictures = [np.full((30, 40), value, np.float32) for value in (1, 2)]
    kept = [one.keep_sample(Sample(p, np.zeros((0, 2)), np.zeros(0))) for one, p in zip(stores, pictures, strict=True)]
    assert [float(sample.pixels.mean()) for sample in kept] == [1, 2]


def test_a_full_disk_is_an_error_that_names_the_way_out(monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OutputError, match=r"No space left on device.*TMPDIR"):
        Store().keep_sample(Sample(np.ones((3, 4), np.float32), np.zeros((0, 2)), np.zeros(0)))


def test_no_temporary_folder_is_an_error_that_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(OutputError, match=r"gone.*TMPDIR"):
        Store().keep_sample(Sample(np.ones((3, 4), np.float32), np.zeros((0, 2)), np.zeros(0)))
