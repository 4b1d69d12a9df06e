"""``upicker check-frame``: which way coordinates lie in their micrographs."""

import numpy as np
import pytest
from command_line import upicker

from upicker.io import coordinates, mrc
from upicker.particles import Particles
from upicker.run.frames import FRAMES, FrameResponse, Measured, judge
from upicker.simulate.scene import Scene, make

SHAPE = (470, 630)
WORDS = {
    "as they are": "fit as they are",
    "flipped top to bottom": "--from-flip upside-down",
    "flipped left to right": "fit flipped left to right",
    "rotated by 180 degrees": "fit rotated by 180 degrees",
    "rows and columns exchanged": "fit rows and columns exchanged",
}


@pytest.fixture(scope="module")
def simulated():
    scene = Scene(shape=SHAPE, pixel_size_A=6.25, particles=40, dose_e_A2=30, seed=3)
    return [make(scene, i) for i in range(2)]


@pytest.fixture
def mics(tmp_path, simulated):
    folder = tmp_path / "mics"
    folder.mkdir()
    for i, one in enumerate(simulated):
        mrc.write(folder / f"mic{i}.mrc", one.micrograph.pixels, 6.25)
    return folder


def write(folder, simulated, turn):
    folder.mkdir(exist_ok=True)
    for i, one in enumerate(simulated):
        xy = turn(one.particles.xy, SHAPE)
        coordinates.write(folder / f"mic{i}.csv", Particles(xy, one.particles.diameter_px, one.particles.score), "csv")
    return folder


@pytest.mark.parametrize("frame", FRAMES, ids=[frame.name for frame in FRAMES])
def test_finds_the_frame(tmp_path, capsys, simulated, mics, frame):
    """Each way of turning undoes itself, so that the frame found is the one the truth was turned by."""
    picks = write(tmp_path / "picks", simulated, frame.to_stored)
    code, out, _ = upicker(capsys, "check-frame", picks, "--micrographs", mics, "-o", tmp_path / "f.png")
    assert code == 0
    assert WORDS[frame.name] in " ".join(out.split())
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")


def test_picks_that_need_the_micrographs_sizes(tmp_path, capsys, simulated, mics):
    """Refined particles, whose origins of 40 px are in Angstrom; one micrograph of the three is damaged."""
    head = "data_\nloop_\n_rlnMicrographName\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnOriginXAngst\n_rlnOriginYAngst\n"
    rows = [
        f"mics/mic{i}.mrc {x + 40} {y - 40} 250 -250\n" for i in (0, 1) for x, y in simulated[i].particles.xy.tolist()
    ]
    (mics / "mic2.mrc").write_bytes(b"")
    picks = tmp_path / "run_data.star"
    picks.write_text(head + "".join(rows) + "mics/mic2.mrc 1 1 250 250\n")
    more = ("--micrographs", mics, "--no-picture", "--diameter", "190A")
    code, out, err = upicker(capsys, "check-frame", picks, *more)
    assert (code, "fit as they are" in " ".join(out.split())) == (3, True)
    assert err.count("mic2.mrc") == 1


def test_says_so_if_no_micrograph_can_be_read(tmp_path, capsys):
    mics, picks = tmp_path / "mics", tmp_path / "run_data.star"
    mics.mkdir()
    (mics / "mic0.mrc").write_bytes(b"")
    head = "data_\nloop_\n_rlnMicrographName\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnOriginXAngst\n"
    picks.write_text(f"{head}mics/mic0.mrc 1 1 250\n")
    code, out, err = upicker(capsys, "check-frame", picks, "--micrographs", mics, "--no-picture", "--diameter", "190A")
    assert (code, out) == (1, "")
    assert "mic0.mrc" in err
    assert "No micrograph could be used." in err


def test_the_advice_works(tmp_path, capsys, simulated, mics):
    picks = write(tmp_path / "picks", simulated, FRAMES[1].to_stored)
    mended = tmp_path / "mended"
    more = ("--to", "csv", "-o", mended, "--from-flip", "upside-down", "--micrographs", mics)
    assert upicker(capsys, "convert", picks, *more)[0] == 0
    _, out, _ = upicker(capsys, "check-frame", mended, "--micrographs", mics, "--no-picture")
    assert "fit as they are" in out
    assert coordinates.read(mended / "mic1.csv").xy == pytest.approx(simulated[1].particles.xy, abs=1e-3)


def test_cannot_tell_of_chance_and_of_few(tmp_path, capsys, simulated, mics):
    def anywhere(xy, shape):
        return np.random.default_rng(len(xy)).uniform(0, [shape[1] - 1, shape[0] - 1], (40, 2))

    picks = tmp_path / "picks"
    picks.mkdir()
    for i in range(2):
        coordinates.write(picks / f"mic{i}.csv", Particles.of(anywhere(np.zeros(i), SHAPE)), "csv")
    more = ("--micrographs", mics, "--diameter", "150A", "--no-picture")
    code, out, _ = upicker(capsys, "check-frame", picks, *more)
    assert code == 0
    assert "Undecided: the picks do not stand out" in out
    few = Particles(simulated[0].particles.xy[:4], simulated[0].particles.diameter_px[:4], np.ones(4))
    coordinates.write(picks / "mic0.csv", few, "csv")
    (picks / "mic1.csv").unlink()
    _, out, _ = upicker(capsys, "check-frame", picks, *more)
    assert "Undecided: there are only" in out


def test_bright_particles_are_noticed(tmp_path, capsys, simulated, mics):
    for i, one in enumerate(simulated):
        mrc.write(mics / f"mic{i}.mrc", -one.micrograph.pixels, 6.25)
    picks = write(tmp_path / "picks", simulated, FRAMES[0].to_stored)
    more = ("--micrographs", mics, "--no-picture")
    _, out, _ = upicker(capsys, "check-frame", picks, *more)
    assert "image.particles=bright" in out
    _, out, _ = upicker(capsys, "check-frame", picks, *more, "--set", "image.particles=bright")
    assert "fit as they are" in out


def test_asks_for_a_diameter(tmp_path, capsys, mics):
    (tmp_path / "mic0.csv").write_text("x,y\n100,100\n200,200\n")
    code, _, err = upicker(capsys, "check-frame", tmp_path / "mic0.csv", "--micrographs", mics)
    assert code == 2
    assert "--diameter" in err


def measured(*means, error=0.05):
    return Measured(tuple(FrameResponse(mean, error, 1.0, 100) for mean in means), 100)


def test_judge():
    assert judge([measured(2, 0, 0, 0, 0)]).fits is FRAMES[0]
    alike = judge([measured(1.0, 0.9, 0, 0, 0)])
    assert alike.fits is None
    assert "fit alike" in alike.reason
    # More micrographs that agree make it sure; micrographs that contradict each other do not.
    assert judge([measured(1.0, 0.7, 0, 0, 0)] * 9).fits is FRAMES[0]
    assert judge([measured(2, 0, 0, 0, 0), measured(0, 2, 0, 0, 0)] * 3).fits is None
    assert judge([]).fits is None


@pytest.mark.parametrize(("turn", "words"), [(0, "fit as they are"), (1, "--from-flip upside-down")])
def test_on_real_micrographs(tmp_path, capsys, shared, turn, words):
    """EMPIAR-10017's JPG have the rows of the MRC reversed: labels of other packages need y -> H - y."""
    data = shared / "data" / "empiar10017"
    mics = sorted((data / "micrographs").iterdir())[:2]
    for path in mics:
        labels = coordinates.read(data / "coords" / f"{path.stem}.csv")
        turned = Particles(FRAMES[turn].to_stored(labels.xy, (4096, 4096)), labels.diameter_px, labels.score)
        coordinates.write(tmp_path / f"{path.stem}.csv", turned, "csv")
    code, out, _ = upicker(capsys, "check-frame", tmp_path, "--micrographs", *mics, "--no-picture")
    assert code == 0
    assert words in " ".join(out.split())
