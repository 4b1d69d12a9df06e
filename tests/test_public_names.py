"""What scripts import from the package itself: few names, loaded on first use, typed."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from command_line import ROOT, environment
from hatchling.builders.wheel import WheelBuilder

import upicker
from upicker import scoring
from upicker.errors import InputError
from upicker.io import coordinates, micrographs
from upicker.particles import Particles
from upicker.pick.picker import Picker

LABELS = Particles.of([[10, 10], [50, 10], [90, 10]], 20)
PICKS = Particles.of([[11, 10], [50, 12], [200, 200]], 20, [0.9, 0.8, 0.7])


def test_public_names_are_those_of_the_rooms():
    assert upicker.Picker is Picker
    assert upicker.Particles is Particles
    assert upicker.read_micrograph is micrographs.read
    assert upicker.read_particles is coordinates.read
    assert upicker.evaluate is scoring.evaluate
    assert set(upicker.__all__) <= set(dir(upicker))
    for name in upicker.__all__:
        assert getattr(upicker, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Pickre'"):
        _ = upicker.Pickre  # type: ignore[attr-defined]


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, upicker; from upicker.config import Config; print(*sys.modules); "
        "from upicker import read_particles; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    before, after = (set(line.split()) for line in done.stdout.splitlines())
    assert not before & {"numpy", "torch", "scipy", "cyclopts", "matplotlib"}
    assert "numpy" in after
    assert not after & {"torch", "matplotlib"}


def test_evaluate_scores_one_micrograph_or_several():
    found = upicker.evaluate(LABELS, PICKS)
    assert found == scoring.score([(PICKS, LABELS)])
    assert (found.precision, found.recall) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    several = upicker.evaluate([LABELS, LABELS], [PICKS, Particles.of([])], diameter_px=18, by="centre", threshold=0.75)
    pairs = [(PICKS, LABELS), (Particles.of([]), LABELS)]
    assert several == scoring.score(pairs, 18, "centre", 0.75)
    with pytest.raises(InputError, match="labels of 2 micrographs, but picks of 1"):
        upicker.evaluate([LABELS, LABELS], [PICKS])
    with pytest.raises(InputError, match="labels of 1 micrographs, but picks of 2"):
        upicker.evaluate(LABELS, [PICKS, PICKS])


def test_files_are_read_by_paths_as_text(tmp_path):
    np.savetxt(tmp_path / "mic.csv", [[1, 2], [3, 4]], delimiter=",", header="x,y", comments="")
    assert upicker.read_particles(str(tmp_path / "mic.csv")).xy.tolist() == [[1, 2], [3, 4]]


def test_the_wheel_says_that_it_is_typed(tmp_path):
    wheel = next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    assert Path(wheel).stat().st_size < 14e6, "with the general model"
    names = zipfile.ZipFile(wheel).namelist()
    assert "upicker/py.typed" in names
    assert {f"upicker/{path.name}" for path in Path(ROOT, "src/upicker").glob("*.py")} <= set(names)
