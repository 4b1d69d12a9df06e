"""Which micrographs are usable: what is measured from afar, what is said of it, and the command with a stub."""

import csv
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import upicker
from scipy.ndimage import gaussian_filter
from test_size import blobs, discs

from upicker.config import Config
from upicker.errors import InputError
from upicker.image.texture import Texture, ringing, spots, texture
from upicker.io import lists, mrc
from upicker.particles import Micrograph
from upicker.pick import picker as picker_module
from upicker.pick import triage as rules
from upicker.pick.picker import Picker
from upicker.pick.triage import KINDS, Signs, signs, verdict
from upicker.run import triage as run_triage

SHAPE = (530, 622)
PLAIN = Texture(1.0, 0.0, 0.12, 0.02, 7.0, 0.0, 0.15, math.nan)


def noise(seed: int = 0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 4, shape).astype(np.float32)


def looks(pixels: np.ndarray, pixel_size_A: float | None = None) -> Texture:
    return texture(Micrograph(pixels, "m", pixel_size_A), Config().image)


def test_noise_is_usable_and_has_no_structure():
    found = looks(noise())
    assert (found.usable, found.film) == (1, 0)
    assert found.dark < 0.001
    assert found.grain < rules.GRAIN / 2
    assert found.coarse < rules.COARSE_CUT / 5
    assert found.ringing < rules.RINGING
    assert math.isnan(found.spots)


@pytest.mark.parametrize("factor", [0.01, 1, 300])
def test_neither_the_dose_nor_the_size_of_the_picture_matters(factor):
    pixels = noise()
    pixels[:200, :180] -= 60
    pixels += 8 * gaussian_filter(noise(1), 30)
    one, other = looks(pixels), looks(np.kron(pixels, np.ones((2, 2), np.float32)) * factor)
    for name in ("usable", "film", "grain", "coarse", "mottled", "dark"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), abs=0.03, rel=0.15)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.4])
@pytest.mark.parametrize("darkness", [20, 60])
def test_a_dark_side_is_film_and_its_edge_is_no_structure(share, darkness):
    pixels = noise()
    pixels[:, : int(share * SHAPE[1])] -= darkness
    found = looks(pixels)
    assert found.film > rules.FILM
    assert found.usable == pytest.approx(1 - found.film, abs=0.02)
    assert found.coarse < 0.7 * rules.COARSE_CUT


def test_contaminants_make_much_of_it_dark_and_coarse():
    pixels, y, x = noise(), *np.mgrid[: SHAPE[0], : SHAPE[1]]
    for row, column in np.random.default_rng(2).uniform(0, 600, (40, 2)):
        pixels -= 30 * (np.hypot(y - row, x - column) < 45)
    found = looks(pixels)
    assert found.dark > rules.DARK
    assert found.coarse > rules.COARSE_CUT
    assert found.mottled < rules.MOTTLED


def test_grains_are_mottled():
    grains = np.kron(np.random.default_rng(3).normal(0, 5, (53, 63)), np.ones((10, 10)))[: SHAPE[0], : SHAPE[1]]
    found = looks((noise() + grains).astype(np.float32))
    assert found.dark > rules.DARK
    assert found.grain > rules.GRAIN
    assert found.mottled > rules.MOTTLED


def test_thon_rings_tell_ice_from_a_hole():
    k2 = np.fft.fftfreq(512)[:, None] ** 2 + np.fft.rfftfreq(512)[None, :] ** 2
    ice = np.fft.irfft2(np.fft.rfft2(noise(4, (512, 512))) * (0.4 + np.sin(60 * k2) ** 2), (512, 512))
    assert ringing(noise(4, (512, 512))) < rules.RINGING < ringing(ice)


def test_spots_of_ice_are_counted_where_they_are():
    pixels, y, x = noise(5, (1024, 1536)), *np.mgrid[:1024, :1536]
    fringes = np.cos(2 * np.pi * 1.2 / 3.67 * (0.6 * x + 0.8 * y))
    assert spots(pixels, 1.2) == 0
    assert spots(pixels + fringes, 1.2) == 1
    assert spots(pixels + fringes * (x < 512), 1.2) == pytest.approx(1 / 3)
    assert spots(pixels + np.cos(2 * np.pi * 1.2 / 3.67 * x), 1.2) == 0  # a line of the camera
    assert math.isnan(spots(pixels, 1.8))
    assert math.isnan(spots(pixels, None))


@pytest.mark.parametrize(
    ("excess", "changes", "kind", "reason"),
    [
        (0.5, {}, "usable", "particles of about 20 px, 0.50 above chance"),
        (0.5, {"film": 0.4, "usable": 0.6}, "usable", "particles"),
        (0.5, {"dark": 0.3, "grain": 0.4}, "usable", "particles"),
        (0.5, {"spots": 0.1}, "usable", "particles"),
        (0.5, {"spots": 0.9}, "crystalline", "spots of an ice lattice in 90% of it"),
        (0.5, {"coarse": 2.0, "mottled": 0.1}, "contaminated", "structure far larger than particles, 2.0 times"),
        (0.5, {"coarse": 2.0, "mottled": 0.5, "grain": 0.5}, "crystalline", "mottled"),
        (0.5, {"usable": 0.1, "film": 0.8}, "carbon", "only 10% of it is ice"),
        (0.5, {"usable": 0.1, "film": 0.1}, "contaminated", "only 10% of it is not contaminated"),
        (0.05, {}, "empty", "nothing like particles (0.05 above chance), in ice"),
        (0.05, {"ringing": 0.01}, "no ice", "no Thon rings"),
        (0.05, {"film": 0.4, "usable": 0.6}, "carbon", "40% of it is one area that is no ice"),
        (0.05, {"dark": 0.3}, "contaminated", "30% of it darker than ice"),
        (0.05, {"dark": 0.3, "grain": 0.5, "mottled": 0.5}, "crystalline", "mottled"),
    ],
)
def test_one_reason_is_given(excess, changes, kind, reason):
    found = verdict(Signs(excess, 20.0, 500, replace(PLAIN, **changes)))
    assert found.kind == kind
    assert reason in found.reason
    assert (found.score >= rules.LEAST_SCORE) == (kind == "usable")
    assert kind in KINDS


def test_large_particles_are_no_contamination():
    coarse = replace(PLAIN, coarse=2.0)
    assert verdict(Signs(0.5, 100.0, 500, coarse)).kind == "usable"
    assert verdict(Signs(0.5, 20.0, 500, coarse)).kind != "usable"


def test_the_score_rises_with_the_excess_and_a_lower_one_may_do():
    scores = [verdict(Signs(excess, 20.0, 500, PLAIN)).score for excess in (0.0, 0.1, 0.2, rules.EXCESS, 0.3, 0.6)]
    assert scores == sorted(scores)
    assert scores[3] == pytest.approx(rules.LEAST_SCORE)
    weak = Signs(0.2, 20.0, 500, PLAIN)
    assert (verdict(weak).kind, verdict(weak, 0.1).kind) == ("empty", "usable")
    assert verdict(Signs(0.0, math.nan, 500, PLAIN), 0.0).reason.startswith("particles of about unknown size")


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The current folder, with a list of four micrographs: two with discs, one without, one that cannot be read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rules, "EXCESS", 0.15)  # a filter differs less from chance than the general model
    Path("w.safetensors").write_bytes(b"")
    Path("Job").mkdir()
    for number, drawn in enumerate((-8.0, 0.0, -8.0)):
        mrc.write(Path(f"Job/m{number}.mrc"), discs(16, number, drawn), 2.0)
    Path("Job/m3.mrc").write_bytes(b"broken")
    rows = "".join(f"Job/m{number}.mrc {1 + number % 2} 1{number}000.5\n" for number in range(4))
    Path("Job/mics.star").write_text(
        "data_optics\nloop_\n_rlnOpticsGroup\n_rlnOpticsGroupName\n_rlnVoltage\n_rlnMicrographPixelSize\n"
        "1 one 300 2.0\n2 two 200 2.0\n\n"
        f"data_micrographs\nloop_\n_rlnMicrographName\n_rlnOpticsGroup\n_rlnDefocusU\n{rows}\n"
    )
    return tmp_path


@pytest.fixture
def command(here, monkeypatch) -> Path:
    """The current folder; the command line's pickers are of a blob filter."""

    def opened(path: Path, config: Mapping[str, object] | None = None, _: object = None) -> Picker:
        return Picker(path, config, blobs)

    monkeypatch.setattr(picker_module, "Picker", opened)
    return here


TRIAGE = ("triage", "Job/mics.star", "--model", "w.safetensors", "--jobs", 1)


def table(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_usable_rows_of_relions_list_are_kept_with_their_optics(command, capsys):
    code, out, err = upicker(capsys, *TRIAGE, "-o", "good.star")
    assert code == 3
    assert "Skipped" in err
    assert "m3.mrc" in err
    assert "2 of 4 micrographs are usable -> good.star" in out
    found = {Path(row["micrograph"]).stem: row for row in table("good_triage.csv")}
    assert {name: row["class"] for name, row in found.items()} == {"m0": "usable", "m1": "no ice", "m2": "usable"}
    assert all(row["reason"] and 0 <= float(row["score"]) <= 1 for row in found.values())
    kept = lists.read(Path("good.star"))
    assert [entry.name for entry in kept] == ["Job/m0.mrc", "Job/m2.mrc"]
    before = {entry.name: entry for entry in lists.read(Path("Job/mics.star"))}
    for entry in kept:
        assert (entry.optics, entry.ctf) == (before[entry.name].optics, before[entry.name].ctf)


def test_a_run_goes_on_where_it_was_stopped(command, capsys, monkeypatch):
    assert upicker(capsys, *TRIAGE, "-o", "good.txt")[0] == 3
    whole, lines = Path("good_triage.csv").read_text(), Path("good_triage.csv").read_text().splitlines(keepends=True)
    Path("good_triage.csv").write_text("".join(lines[:2]))
    asked = []

    def seen(picker: Picker, one: Micrograph, of: Texture) -> Signs:
        asked.append(one.name)
        return rules.seen(picker, one, of)

    monkeypatch.setattr(run_triage, "seen", seen)
    code, out, _ = upicker(capsys, *TRIAGE, "-o", "good.txt", "--skip-existing")
    assert (code, asked) == (3, ["m1", "m2"])
    assert "1 of 4 micrographs are in good_triage.csv already, skipped" in out
    assert Path("good_triage.csv").read_text() == whole
    assert Path("good.txt").read_text() == "Job/m0.mrc\nJob/m2.mrc\n"

    # Another cut asks the network for nothing.
    Path("Job/m3.mrc").write_bytes(Path("Job/m1.mrc").read_bytes())
    assert upicker(capsys, *TRIAGE, "-o", "good.txt", "--skip-existing", "--least-score", 0)[0] == 0
    assert asked == ["m1", "m2", "m3"]
    assert len(Path("good.txt").read_text().splitlines()) == 4
    # Other weights do.
    Path("v.safetensors").write_bytes(b"")
    other = [word.replace("w.", "v.") if isinstance(word, str) else word for word in TRIAGE]
    assert upicker(capsys, *other, "-o", "good.txt", "--skip-existing")[0] == 0
    assert len(asked) == 7


def test_a_table_of_something_else_is_refused(command, capsys):
    Path("good_triage.csv").write_text("x,y\n1,2\n")
    code, _, err = upicker(capsys, *TRIAGE, "-o", "good.txt", "--skip-existing")
    assert code == 1
    assert "it is not a table of upicker triage" in err
    with pytest.raises(InputError, match="is not a table"):
        run_triage.read(Path("missing.csv"))


def test_two_processes_say_the_same(here, tmp_path):
    work = run_triage.Triaging(Picker(tmp_path / "w.safetensors", {}, blobs))
    paths = [Path(f"Job/m{number}.mrc") for number in range(3)]
    one = [outcome.value for outcome in run_triage.triage_all(paths, work, Path("one.csv"), 0.5)]
    assert all(value is not None for value in one)
    for _ in run_triage.triage_all(paths, work, Path("two.csv"), 0.5, jobs=2):
        pass
    assert run_triage.read(Path("two.csv")) == run_triage.read(Path("one.csv"))


def test_particles_of_the_opposite_contrast_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(rules, "EXCESS", 0.15)
    picker = Picker(tmp_path / "w.safetensors", {}, blobs)
    found = signs(picker, Micrograph(discs(16, 0, 8.0), "m"))
    assert (verdict(found).kind, "opposite contrast" in verdict(found).reason) == ("empty", True)
    bright = Picker(tmp_path / "w.safetensors", {"image.particles": "bright"}, blobs)
    assert verdict(signs(bright, Micrograph(discs(16, 0, 8.0), "m"))).kind == "usable"


@pytest.mark.parametrize("shape", [(64, 70), (64, 500)])
def test_a_small_micrograph_is_judged_as_others_are(tmp_path, shape):
    picker = Picker(tmp_path / "w.safetensors", {}, blobs)
    assert verdict(signs(picker, Micrograph(noise(6, shape), "m"))).kind != "usable"


def test_a_tiny_one_is_refused_with_its_name(tmp_path):
    picker = Picker(tmp_path / "w.safetensors", {}, blobs)
    with pytest.raises(InputError, match="tiny: its sides of 30 x 20 px are too short"):
        signs(picker, Micrograph(noise(6, (20, 30)), "tiny"))
