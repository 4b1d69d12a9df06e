"""``upicker simulate``: what its options do, and what it says to wrong ones."""

import signal
import tomllib
from pathlib import Path

import numpy as np
import pytest
from command_line import stopped, upicker

from upicker.io import coordinates, micrographs
from upicker.particles import Particles

SMALL = ("--shape", "260x200", "--pixel-size", "5A", "--particles", 6, "--diameter", "150A")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def scene_of(folder: str) -> dict:
    return tomllib.loads(Path(folder, "dataset.toml").read_text())["scene"]


def test_it_writes_what_other_commands_read(capsys):
    clean = ("--contamination", "none", "--carbon", 0)
    code, out, _ = upicker(capsys, "simulate", "barrel", "-o", "sim", "--micrographs", 2, *SMALL, *clean)
    assert code == 0
    assert "12 particles in 2 of 2 micrographs" in out
    for path in micrographs.find(["sim/micrographs"]):
        read = micrographs.read(path)
        assert read.shape == (200, 260)
        assert read.pixel_size_A == 5.0
        labels = coordinates.read(Path("sim/truth", f"{path.stem}.csv"))
        y, x = np.mgrid[:200, :260]
        distance = np.hypot(x - labels.xy[:, 0, None, None], y - labels.xy[:, 1, None, None]).min(0)
        assert read.pixels[distance < 10].mean() < read.pixels[distance > 20].mean() - 5  # particles are dark
    code, out, err = upicker(capsys, "evaluate", "sim/truth", "sim/truth")
    assert code == 0
    assert "1.000" in out
    assert "no " not in err
    args = ("-o", "picks", "--diameter", "150A", "--mask", "sim/masks")
    assert upicker(capsys, "propose", "sim/micrographs", *args)[0] == 0


def test_options_reach_the_scene(capsys):
    options = (
        *("--dose", "30e/A2", "--defocus", "0.8-2.5um", "--voltage", "200kV", "--cs", "0.01mm", "--camera", "falcon4"),
        *("--phase-plate", "90deg", "--thickness", "30nm", "--broken", 0.2, "--clustered", "10%", "--empty", 0),
        *("--contamination", "much", "--carbon", 1, "--seed", 7, "--decoys", "rod", "shell", "--decoy-share", 0.5),
        *("--preferred", "-4", "--voxel-size", "3A"),
    )
    code, _, err = upicker(capsys, "simulate", "barrel", "globule", "-o", "sim", "--micrographs", 1, *SMALL, *options)
    assert code == 0, err
    scene = scene_of("sim")
    assert scene["specimens"] == ["barrel", "globule"]
    assert scene["shape"] == [200, 260]
    assert (scene["dose_e_A2"], scene["defocus_A"], scene["seed"]) == (30.0, [8000.0, 25000.0], 7)
    assert (scene["carbon"], scene["empty"]) == (1.0, 0.0)
    optics = scene["optics"]
    assert (optics["voltage_kV"], optics["Cs_mm"], optics["phase_plate_deg"]) == (200.0, 0.01, 90.0)
    assert scene["ice"]["thickness_A"] == 300.0
    assert scene["detector"]["camera"] == "falcon4"
    placement = scene["placement"]
    assert (placement["broken"], placement["clustered"]) == (0.2, 0.1)
    assert (placement["preferred"], scene["source"]["voxel_size_A"]) == (-4.0, 3.0)
    assert (placement["decoys"], placement["decoy_share"]) == (["rod", "shell"], 0.5)
    assert scene["contamination"]["blobs"] > 1


def test_a_concentration_is_a_number_of_particles_in_an_area(capsys):
    options = ("--micrographs", 1, "--shape", "400x300", "--pixel-size", "5A", "--concentration", "400/um2")
    assert upicker(capsys, "simulate", "small", "-o", "sim", *options, "--contamination", "none")[0] == 0
    assert scene_of("sim")["particles"] == 12  # 0.2 x 0.15 micrometres


def test_a_preset_is_the_papers_and_options_beat_it(capsys):
    options = ("--micrographs", 1, "--shape", "700x600", "--particles", 2, "--dose", "13")
    code, _, err = upicker(capsys, "simulate", "small", "--preset", "sim-10028", "-o", "sim", *options)
    assert code == 0, err
    scene = scene_of("sim")
    assert (scene["pixel_size_A"], scene["diameter_A"]) == (1.34, pytest.approx(214.4))
    assert (scene["shape"], scene["particles"], scene["dose_e_A2"]) == ([600, 700], 2, 13.0)
    assert scene["carbon"] == 0.0
    assert set(scene["contamination"].values()) == {0.0}
    assert coordinates.read(Path("sim/truth/simulated_0000.csv")).diameter_px == pytest.approx([160.0, 160.0])


def test_presets_have_the_numbers_of_the_table():
    from upicker.simulate.presets import PRESETS

    one, two = PRESETS["sim-10025"], PRESETS["sim-10028"]
    assert (one.micrographs, one.scene.shape, one.scene.particles) == (110, (3838, 3710), 135)
    assert (two.micrographs, two.scene.shape, two.scene.particles) == (100, (4096, 4096), 143)
    for start, diameter_px in ((one, 140), (two, 160)):
        assert start.scene.diameter_A == pytest.approx(diameter_px * start.scene.pixel_size_A)


def test_diameters_in_pixels_and_angstrom_are_the_same(capsys):
    for size, folder in (("30px", "px"), ("150A", "a")):
        args = ("--micrographs", 1, *SMALL[:-1], size)
        assert upicker(capsys, "simulate", "barrel", "-o", folder, *args)[0] == 0
    assert Path("px/truth/simulated_0000.csv").read_text() == Path("a/truth/simulated_0000.csv").read_text()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--dose", "-40"), "--dose: '-40' is out of range"),
        (("--dose", "much"), "--dose: 'much' is not a number"),
        (("--defocus", "1.5"), "--defocus: '1.5' has no unit"),
        (("--defocus", "-1um"), "--defocus: '-1um' is out of range"),
        (("--defocus", "2.5-0.8um"), "--defocus: '2.5-0.8um' starts with the larger"),
        (("--voltage", "300mm"), "--voltage: '300mm' has the unit 'mm'"),
        (("--broken", "1.5"), "--broken: '1.5' is out of range"),
        (("--snr", "0"), "--snr: '0' is out of range"),
        (("--shape", "big"), "--shape: 'big' is not an image size"),
        (("--shape", "-5x7"), "--shape: '-5x7' is not an image size"),
        (("--shape", "5x7"), "--shape: 5x7 is out of range"),
        (("--shape", "90000x90000"), "--shape: 90000 x 90000 is out of range"),
        (("--micrographs", "0"), "--micrographs: 0 is less than 1"),
        (("--concentration", "40/nm"), "--concentration: '40/nm' has the unit '/nm'"),
        (("--concentration", "40/um2"), "--concentration: --particles was given, too"),
        (("--binning", "0.5"), "--binning: 0.5 needs"),
        (("--particles", "-3"), "--particles: -3 is negative"),
        (("--pixel-size", "1.34px"), "--pixel-size: 1.34px is not in Angstrom"),
        (("--format", "dm4"), "unknown format 'dm4'"),
        (("--preset", "sim-1"), "Choose one of: sim-10025, sim-10028"),
        (("--camera", "kodak"), "--camera: kodak is neither"),
        (("--pixel-size", "90A"), "--pixel-size: a particle is 1.7 pixels wide"),
    ],
)
def test_wrong_options_are_named_before_anything_is_written(capsys, options, says):
    rest = [word for word in zip(SMALL[::2], SMALL[1::2]) if word[0] != options[0]]
    flat = [word for pair in rest for word in pair]
    code, _, err = upicker(capsys, "simulate", "barrel", "-o", "sim", *flat, *options)
    assert code == 2
    assert says in " ".join(err.split())
    assert not Path("sim", "micrographs").exists()


def test_no_specimen_is_an_error_that_says_what_to_name(capsys):
    code, _, err = upicker(capsys, "simulate", "-o", "sim")
    assert code == 2
    assert "SPECIMEN: is missing" in err
    code, _, err = upicker(capsys, "simulate", "-o", "sim", "--preset", "sim-10025")
    assert code == 2
    assert "3j9i.pdb.gz" in err
    assert "1RYP" in err
    code, _, err = upicker(capsys, "simulate", "-o", "sim", "--preset", "sim-10025", "--structures", ".")
    assert code == 1
    assert "3j9i.pdb.gz is not there" in err


def test_a_preset_finds_its_structure(capsys, monkeypatch):
    from upicker.simulate.presets import chosen

    Path("structures").mkdir()
    Path("structures/4v7r.mrc.gz").touch()
    assert chosen("sim-10028", (), Path("structures")).scene.specimens == ("structures/4v7r.mrc.gz",)


def test_too_many_particles_stop_the_run_and_one_learns_how_many_fit(capsys):
    args = ("--micrographs", 4, "--shape", "260x200", "--pixel-size", "5A", "--particles", 500)
    code, _, err = upicker(capsys, "simulate", "barrel", "-o", "sim", "--diameter", "150A", *args)
    assert code == 2
    assert "fit" in err
    assert err.count("500") <= 2
    assert "Skipped" not in err


def test_skip_existing_goes_on_where_it_stopped(capsys):
    args = ("simulate", "barrel", "-o", "sim", *SMALL)
    assert upicker(capsys, *args, "--micrographs", 1)[0] == 0
    before = Path("sim/micrographs/simulated_0000.mrc").stat().st_mtime_ns
    code, out, _ = upicker(capsys, *args, "--micrographs", 2, "--skip-existing")
    assert code == 0
    assert "1 of 2 micrographs already have outputs" in out
    assert Path("sim/micrographs/simulated_0000.mrc").stat().st_mtime_ns == before
    assert len(tomllib.loads(Path("sim/dataset.toml").read_text())["micrographs"]) == 2
    code, _, err = upicker(capsys, *args, "--micrographs", 2, "--skip-existing", "--seed", 5)
    assert code == 2
    assert "another seed: 0, not 5" in err
    code, _, err = upicker(capsys, *args, "--micrographs", 1)
    assert code == 0
    assert "simulated_0001" in err


def test_a_run_that_failed_does_not_refuse_the_corrected_one(capsys):
    args = ("simulate", "barrel", "-o", "sim", *SMALL, "--micrographs", 1, "--skip-existing")
    code, *_ = upicker(capsys, *args, "--particles", 100000)
    assert code != 0
    assert not list(Path("sim").rglob("*.mrc"))
    code, _, err = upicker(capsys, *args)
    assert code == 0, err


def test_empty_pictures_have_truth_without_particles(capsys):
    args = ("--micrographs", 1, *SMALL, "--empty", 1, "--contamination", "none")
    assert upicker(capsys, "simulate", "barrel", "-o", "sim", *args)[0] == 0
    for suffix in ("csv", "star"):
        assert isinstance(found := coordinates.read(Path(f"sim/truth/simulated_0000.{suffix}")), Particles)
        assert len(found) == 0


def test_ctrl_c_leaves_whole_files(here):
    arguments = ["simulate", "barrel", "-o", "sim", "--micrographs", "500", *map(str, SMALL)]
    first = here / "sim/truth/simulated_0001.star"
    code, err = stopped(arguments, signal.SIGINT, first.exists)
    assert code == 130
    assert "--skip-existing" in err
    listed = tomllib.loads((here / "sim/dataset.toml").read_text())["micrographs"]
    assert 1 < len(listed) < 500
    for entry in listed:
        micrographs.read(here / f"sim/micrographs/{entry['name']}.mrc")
    assert not list((here / "sim").rglob(".*"))


def test_help_names_what_there_is(capsys):
    code, out, _ = upicker(capsys, "simulate", "--help")
    assert code == 0
    for option in ("--contamination", "--phase-plate", "--preset", "--skip-existing", "--decoys", "COLUMNSxROWS"):
        assert option in out
    assert "--empty-" not in out
