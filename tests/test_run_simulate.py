"""Simulated data sets: what lies in the folder is what other readers find there, however it was made."""

import shutil
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import starfile
from scipy.spatial.transform import Rotation

from upicker.errors import ConfigError, InputError
from upicker.io import coordinates, folders, micrographs
from upicker.io.masks import Masks
from upicker.run import machine, simulate, truth
from upicker.run.simulate import DataSet, simulate_all
from upicker.simulate.contamination import Contamination
from upicker.simulate.microscope.optics import Optics
from upicker.simulate.placement import Placement
from upicker.simulate.scene import Scene, make

SCENE = Scene(
    specimens=("barrel", "globule"),
    diameter_A=150.0,
    shape=(200, 260),
    pixel_size_A=5.0,
    particles=9,
    placement=Placement(min_distance=0.8, decoys=("rod",), decoy_share=0.3),
    contamination=Contamination(blobs=2.0),
    optics=Optics(voltage_kV=200.0, phase_plate_deg=30.0),
    astigmatism_A=800.0,
    seed=3,
)
HIDDEN = ".*"


def all_of(work: DataSet, jobs: int = 1) -> list:
    return list(simulate_all(work.paths, work, jobs))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> DataSet:
    work = DataSet(SCENE, tmp_path_factory.mktemp("sets") / "one", 3, ("mrc", "tif"))
    outcomes = all_of(work)
    assert [outcome.error for outcome in outcomes] == [None] * 3
    return work


def relion_matrix(rot: float, tilt: float, psi: float) -> np.ndarray:
    """RELION's own formula, which takes the specimen's frame to the picture's."""
    ca, cb, cg = np.cos(np.radians([rot, tilt, psi]))
    sa, sb, sg = np.sin(np.radians([rot, tilt, psi]))
    cc, cs, sc, ss = cb * ca, cb * sa, sb * ca, sb * sa
    return np.array(
        [
            [cg * cc - sg * sa, cg * cs + sg * ca, -cg * sb],
            [-sg * cc - cg * sa, -sg * cs + cg * ca, sg * sb],
            [sc, ss, cb],
        ]
    )


def test_angles_are_those_of_relion():
    special = Rotation.from_euler("ZYZ", [[20, 0, 40], [20, 180, 40], [0, 90, 0]], degrees=True).as_matrix()
    rotations = np.concatenate(
        [Rotation.random(20, rng=np.random.default_rng(1)).as_matrix(), special, np.eye(3)[None]]
    )
    angles = truth.relion_angles(rotations)
    assert np.allclose([relion_matrix(*row) for row in angles], rotations, atol=1e-7)
    assert truth.relion_angles(np.zeros((0, 3, 3))).shape == (0, 3)


def test_every_file_is_there_and_none_half_written(done):
    names = set(content(done.folder))
    for index in range(3):
        name = f"simulated_{index:04d}"
        assert {f"micrographs/{name}.mrc", f"micrographs-tif/{name}.tif", f"masks/{name}_mask.png"} <= names
        assert {f"truth/{name}.csv", f"truth/{name}.star", f"decoys/{name}.csv"} <= names
    assert {"micrographs.star", "particles_truth.star", "dataset.toml", "overview.png"} <= names
    assert len(names) == 3 * 6 + 4
    assert cells(micrographs.read(done.folder / "overview.png").pixels) > 10


def cells(pixels: np.ndarray) -> int:
    return len(np.unique(pixels.astype(int)))


def test_both_formats_hold_the_picture_that_was_made(done):
    for index, path in enumerate(done.paths):
        made = make(SCENE, index).micrograph
        for found in (micrographs.read(path), micrographs.read(done.file(path.stem, "tif"))):
            assert np.array_equal(found.pixels, made.pixels)
            assert found.pixel_size_A == pytest.approx(5.0)
    assert micrographs.find([done.folder / "micrographs"]) == done.paths


def test_csv_and_star_are_read_as_the_same_true_centres(done):
    for index, path in enumerate(done.paths):
        made = make(SCENE, index)
        csv, star = (coordinates.read(done.truth(path.stem).with_suffix(suffix)) for suffix in (".csv", ".star"))
        assert 0 < len(csv) <= SCENE.particles
        assert np.allclose(csv.xy, made.particles.xy, atol=1e-3)
        assert np.allclose(star.xy, made.particles.xy, atol=1e-3)
        assert np.allclose(csv.diameter_px, 30.0)
        decoys = coordinates.read(done.folder / "decoys" / f"{path.stem}.csv")
        assert np.allclose(decoys.xy, made.decoys.xy, atol=1e-3)
    found = folders.stems(done.folder / "truth")
    assert list(found) == [path.stem for path in done.paths]


def test_relions_lists_hold_optics_defoci_and_angles(done):
    blocks = starfile.read(done.folder / "particles_truth.star", always_dict=True)
    optics, listed = blocks["optics"], blocks["particles"]
    assert optics["rlnVoltage"].tolist() == [200.0]
    assert optics["rlnMicrographPixelSize"].tolist() == [5.0]
    assert optics["rlnSphericalAberration"].tolist() == [2.7]
    assert set(listed["rlnPhaseShift"]) == {30.0}
    for index, path in enumerate(done.paths):
        made = make(SCENE, index)
        rows = listed[listed["rlnMicrographName"] == f"micrographs/{path.name}"]
        assert np.allclose(rows[["rlnCoordinateX", "rlnCoordinateY"]], made.particles.xy, atol=1e-5)
        u, v = rows["rlnDefocusU"].to_numpy(), rows["rlnDefocusV"].to_numpy()
        assert np.allclose((u + v) / 2, made.truth.defocus_A, atol=0.1)
        assert np.allclose(u - v, made.astigmatism_A, atol=0.1)
        angles = rows[["rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"]].to_numpy()
        assert np.allclose([relion_matrix(*row) for row in angles], made.truth.rotations, atol=1e-5)
        assert np.array_equal(rows["rlnClassNumber"], made.truth.specimen + 1)
    assert set(listed["rlnClassNumber"]) == {1, 2}
    pictures = starfile.read(done.folder / "micrographs.star", always_dict=True)["micrographs"]
    assert [done.folder / name for name in pictures["rlnMicrographName"]] == done.paths
    assert set(starfile.read(done.truth(done.paths[0].stem), always_dict=True)) == {"", "optics", "picture"}


def test_masks_are_read_with_their_bad_pixels(done):
    for index, path in enumerate(done.paths):
        made = make(SCENE, index)
        unusable = Masks(done.folder / "masks").unusable(path.stem, SCENE.shape)
        assert np.array_equal(unusable, made.unusable)
    assert any(make(SCENE, index).unusable.any() for index in range(3))


def test_the_record_says_everything(done):
    record = tomllib.loads((done.folder / "dataset.toml").read_text())
    assert record["dataset"]["formats"] == ["mrc", "tif"]
    scene = record["scene"]
    assert (scene["seed"], scene["shape"], scene["particles"]) == (3, [200, 260], 9)
    assert scene["placement"]["decoys"] == ["rod"]
    assert scene["optics"]["voltage_kV"] == 200.0
    assert [(entry["source"], entry["role"]) for entry in record["specimens"]] == [
        ("barrel", "particle"),
        ("globule", "particle"),
        ("rod", "decoy"),
    ]
    assert [entry.get("class") for entry in record["specimens"]] == [1, 2, None]
    for index, entry in enumerate(record["micrographs"]):
        made = make(SCENE, index)
        assert entry["particles"] == len(made.particles)
        assert entry["decoys"] == len(made.decoys)
        assert entry["defocus_A"] == pytest.approx(made.defocus_A, abs=0.1)
        assert entry["snr"] == pytest.approx(made.snr, abs=1e-4)
        assert entry["mean_counts"] == pytest.approx(made.micrograph.pixels.mean(), rel=1e-3)


def test_several_processes_write_the_same_bytes(done, tmp_path):
    work = replace(done, folder=tmp_path / "two")
    all_of(work, jobs=2)
    one, two = content(done.folder), content(work.folder)
    assert list(one) == list(two)
    assert [name for name in one if one[name] != two[name]] == []


def test_another_seed_makes_another_set(done, tmp_path):
    work = replace(done, folder=tmp_path / "other", scene=replace(SCENE, seed=4), micrographs=1)
    all_of(work)
    assert not np.array_equal(micrographs.read(work.paths[0]).pixels, micrographs.read(done.paths[0]).pixels)


def test_stopped_and_gone_on_is_as_if_never_stopped(done, tmp_path):
    work = replace(done, folder=tmp_path / "stopped")
    begun = simulate_all(work.paths, work)
    next(begun)
    begun.close()
    assert [Path(name).name for name in starfile.read(work.folder / "micrographs.star")["micrographs"].iloc[:, 0]] == [
        "simulated_0000.mrc"
    ]
    assert not list(work.folder.rglob(HIDDEN))
    left = work.missing(work.paths)
    assert left == work.paths[1:]
    list(simulate_all(left, work, resume=True))
    assert content(work.folder) == content(done.folder)


def test_a_set_of_an_earlier_version_is_continued(done, tmp_path):
    """Its record lacks what could not be asked for yet."""
    folder = tmp_path / "set"
    shutil.copytree(done.folder, folder)
    path = folder / "dataset.toml"
    text = path.read_text()
    assert "filaments = 0.0\n" in text
    path.write_text(text.replace("filaments = 0.0\n", ""))
    assert list(simulate_all([], replace(done, folder=folder), resume=True)) == []
    path.write_text(text.replace("filaments = 0.0\n", "filaments = 1.0\n"))
    with pytest.raises(ConfigError, match="another contamination"):
        list(simulate_all([], replace(done, folder=folder), resume=True))


def test_resuming_with_another_scene_is_refused(done, tmp_path):
    work = replace(done, folder=tmp_path, micrographs=1, formats=("mrc",))
    all_of(work)
    other = replace(work, scene=replace(SCENE, dose_e_A2=7.0), micrographs=2)
    with pytest.raises(ConfigError, match=r"dose_e_A2: 25\.0, not 7\.0"):
        list(simulate_all(other.missing(other.paths), other, resume=True))
    more = replace(work, micrographs=2)
    assert more.missing(more.paths) == more.paths[1:]
    list(simulate_all(more.missing(more.paths), more, resume=True))
    assert more.leftovers() == []
    assert [path.name for path in work.leftovers()] == ["simulated_0001.csv"]


def test_specimens_that_cannot_be_read_come_first_and_stop_all(done, tmp_path):
    (tmp_path / "broken.pdb").write_text("REMARK nothing here\nEND\n")
    scene = replace(SCENE, specimens=(str(tmp_path / "broken.pdb"),))
    work = replace(done, scene=scene, folder=tmp_path / "out")
    with pytest.raises(InputError, match=r"broken\.pdb"):
        list(simulate_all(work.paths, work))
    assert not work.folder.exists()


def test_what_does_not_fit_in_memory_is_refused(monkeypatch):
    pages = {"SC_PHYS_PAGES": 10 * 2**20 // 4096 * 100, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(machine.os, "sysconf", pages.__getitem__)
    simulate.check_memory(replace(SCENE, shape=(1000, 1000)), 2)
    with pytest.raises(ConfigError, match=r"--jobs: .* Use --jobs \d"):
        simulate.check_memory(replace(SCENE, shape=(2000, 2000)), 64)
    with pytest.raises(ConfigError, match="--shape: "):
        simulate.check_memory(replace(SCENE, shape=(15000, 15000)), 1)
