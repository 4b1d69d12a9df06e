"""A data set in CryoPPP's layout: what lies where, which way up it is, and the labels made ready."""

from pathlib import Path

import numpy as np
import pytest
from command_line import CENTRES, DIAMETER, SHAPE, micrograph

from upicker.benchmark.labelled import Source, cryoppp_source, prepare
from upicker.benchmark.published import METHODS, TABLE_2, reported
from upicker.config import Config
from upicker.errors import ConfigError, CoordinatesError, InputError
from upicker.io import coordinates, cryoppp, mrc
from upicker.units import Length

CONFIG = Config().with_changes({"image.mask": "false"})
UPSIDE_DOWN = np.stack([CENTRES[:, 0], SHAPE[0] - 1 - CENTRES[:, 1]], 1)


def table(path: Path, xy: np.ndarray, diameter: float = DIAMETER) -> None:
    """Write a table as CryoPPP publishes them, with the columns that are of no use here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{x:.0f},{y:.0f},{diameter:g},0,12.5" for x, y in xy]
    path.write_text("\n".join(["X-Coordinate,Y-Coordinate,Diameter,Class Number,Angle-Psi", *lines, ""]))


@pytest.fixture
def data_set(tmp_path):
    """Four micrographs, three with labels; these are upside down, as with CryoPPP's MRC files."""
    folder = tmp_path / "10017"
    (folder / "micrographs").mkdir(parents=True)
    for i in range(4):
        micrograph(folder / "micrographs" / f"mic_{i}.mrc", seed=i)
    for i in range(3):
        table(folder / cryoppp.COORDINATES / f"mic_{i}.csv", UPSIDE_DOWN)
    return folder


def test_finds_what_lies_where(data_set, tmp_path):
    (data_set / "micrographs" / "mic_0.jpg").touch()
    (data_set / "micrographs" / "readme.txt").touch()
    found = cryoppp.find(data_set)
    assert found.name == "10017"
    assert [path.name for path in found.micrographs] == [f"mic_{i}.mrc" for i in range(4)]
    assert found.labels == data_set / "ground_truth" / "particle_coordinates"
    outer = tmp_path / "outer" / "10017"
    outer.mkdir(parents=True)
    data_set.rename(outer / "10017")
    assert cryoppp.find(outer).name == "10017"


@pytest.mark.parametrize("missing", ["micrographs", "ground_truth"])
def test_says_what_is_missing(data_set, tmp_path, missing):
    (data_set / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=missing):
        cryoppp.find(data_set)


def test_labels_are_turned_as_the_pictures_say(data_set, tmp_path):
    data = prepare(cryoppp_source(data_set, None, "auto", None), tmp_path / "labels", CONFIG)
    assert [path.stem for path in data.labelled] == ["mic_0", "mic_1", "mic_2"]
    assert [path.stem for path in data.unlabelled] == ["mic_3"]
    assert str(data.diameter) == "24px"
    for path in data.labelled:
        assert data.truth(path).xy == pytest.approx(CENTRES)
        assert data.truth(path).diameter_px == pytest.approx(np.full(5, DIAMETER))
    assert "fit flipped top to bottom (filter response in 3 micrographs" in data.notes[0]


def test_labels_that_fit_stay(data_set, tmp_path):
    for i in range(3):
        table(data_set / cryoppp.COORDINATES / f"mic_{i}.csv", CENTRES)
    data = prepare(cryoppp_source(data_set, None, "auto", None), tmp_path / "labels", CONFIG)
    assert data.truth(data.labelled[2]).xy == pytest.approx(CENTRES)
    assert "fit as they are" in data.notes[0]


@pytest.mark.parametrize(("suffix", "words"), [(".mrc", "flipped top to bottom"), (".png", "as they are")])
def test_takes_the_usual_frame_where_nothing_is_seen(data_set, tmp_path, suffix, words):
    """CryoPPP's maintainers reverse the rows of MRC files, not those of the pictures of the light version."""
    import cv2

    for i, path in enumerate(sorted((data_set / "micrographs").iterdir())):
        noise = np.random.default_rng(i).normal(100, 4, SHAPE)
        path.unlink()
        if suffix == ".mrc":
            mrc.write(path, noise, 2.0)
        else:
            cv2.imwrite(str(path.with_suffix(suffix)), noise.astype(np.uint8))
    data = prepare(cryoppp_source(data_set, None, "auto", None), tmp_path / "labels", CONFIG)
    assert f"used {words}, without proof" in data.notes[0]
    assert data.truth(data.labelled[0]).xy == pytest.approx(CENTRES if suffix == ".mrc" else UPSIDE_DOWN)


def test_a_frame_that_is_asked_for_is_taken(data_set, tmp_path):
    data = prepare(cryoppp_source(data_set, None, "as-is", None), tmp_path / "labels", CONFIG)
    assert data.truth(data.labelled[0]).xy == pytest.approx(UPSIDE_DOWN)


def test_turned_sideways_is_refused(data_set, tmp_path):
    for i in range(3):
        table(data_set / cryoppp.COORDINATES / f"mic_{i}.csv", np.stack([SHAPE[1] - 1 - CENTRES.T[0], CENTRES.T[1]], 1))
    with pytest.raises(InputError, match="left to right"):
        prepare(cryoppp_source(data_set, None, "auto", None), tmp_path / "labels", CONFIG)


def test_other_layouts_names_and_diameters(data_set, tmp_path):
    """A number in front and words behind names, another format, a diameter in Angstrom (2 A a pixel)."""
    labels = tmp_path / "coords"
    labels.mkdir()
    for i in range(3):
        true = prepare(cryoppp_source(data_set, None, "flipped", None), tmp_path / "first", CONFIG).labels
        particles = coordinates.read(true / f"mic_{i}.csv")
        coordinates.write(labels / f"012345678901234567890_mic_{i}_autopick.star", particles, "star")
    paths = tuple(sorted((data_set / "micrographs").iterdir()))
    source = Source("set", paths, labels, Length(60.0, "A"))
    data = prepare(source, tmp_path / "labels", CONFIG)
    assert data.truth(paths[1]).xy == pytest.approx(CENTRES, abs=1e-3)
    assert data.truth(paths[1]).diameter_px == pytest.approx(np.full(5, 30.0))
    with pytest.raises(ConfigError, match="carry no diameter"):
        prepare(Source("set", paths, labels), tmp_path / "labels", CONFIG)


def test_labels_of_other_micrographs_are_refused(data_set, tmp_path):
    paths = tuple(sorted((data_set / "micrographs").iterdir()))
    for i in range(3):
        table(data_set / cryoppp.COORDINATES / f"mic_{i}.csv", CENTRES * 3)
    source = Source("set", paths, data_set / cryoppp.COORDINATES, frame="as-is")
    with pytest.raises(CoordinatesError, match="outside the micrograph"):
        prepare(source, tmp_path / "labels", CONFIG)
    with pytest.raises(InputError, match="one of the 1 micrographs"):
        prepare(Source("set", paths[3:], source.labels), tmp_path / "labels", CONFIG)


def test_real_labels_fit_as_they_are(shared, tmp_path):
    """The JPG files of EMPIAR-10017 and the labels that CryoPPP publishes with them."""
    folder = shared / "data" / "empiar10017"
    paths = tuple(sorted((folder / "micrographs").iterdir())[:1])
    data = prepare(Source("10017", paths, folder / "coords"), tmp_path / "labels", Config())
    assert "fit as they are" in data.notes[0]


def test_the_papers_figures_are_whole():
    """F1 follows from precision and recall, but for the misprints that the paper has."""
    assert reported("EMPIAR-10017")["UPicker"] == (0.855, 0.950, 0.900)
    assert reported("sim-10028-full")["UPicker"] == (1.0, 0.99, 0.995)
    assert reported("10028")["UPicker"] == (0.922, 0.965, 0.943)
    assert reported("apoferritin") == {} == reported("110017") == reported("11111")
    odd = 0
    for name in TABLE_2:
        for p, r, f1 in reported(name).values():
            odd += abs(2 * p * r / (p + r) - f1) > 0.0025
    assert odd <= 2
    assert np.mean([reported(name)["UPicker"][2] for name in TABLE_2]) == pytest.approx(0.870, abs=0.001)
    assert len(METHODS) == 6
