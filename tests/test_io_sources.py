"""Particles of many micrographs are found alike in a folder, in a list and in one file; repeated positions are told."""

from pathlib import Path

import numpy as np
import pytest

from upicker.errors import CoordinatesError, InputError
from upicker.io import coordinates, sources
from upicker.io.pairing import pair_folder
from upicker.io.picks import Picks
from upicker.io.sources import Part, Repeated, by_micrograph, by_name, distinct, repeats
from upicker.particles import Particles
from upicker.run.convert import load

NAMES = ("M/Dataset1/001.mrc", "M/Dataset2/001.mrc", "M/Dataset2/a.mrc")
XY = {name: np.random.default_rng(i).uniform(0, 200, (4 + i, 2)).round(3) for i, name in enumerate(NAMES)}


@pytest.fixture
def many() -> list[Picks]:
    return [
        Picks(name, Particles.of(xy, 20.0, np.linspace(0.2, 0.9, len(xy))), (210, 220), 2.0) for name, xy in XY.items()
    ]


@pytest.mark.parametrize(
    "format", [one for one in coordinates.FORMATS if coordinates.format_of(one).carries >= {"path"}]
)
def test_one_file_of_many_micrographs(tmp_path: Path, many: list[Picks], format: str) -> None:
    file = tmp_path / f"all.{coordinates.format_of(format).ending.rpartition('.')[2]}"
    coordinates.write_all(file, many, format)
    found = by_micrograph(file)
    assert found == {name: Part(file, name) for name in NAMES}
    for name, part in found.items():
        np.testing.assert_allclose(sources.read(part).xy, XY[name], atol=1e-3)
    paths = [Path("/project") / name for name in reversed(NAMES)]
    assert pair_folder(paths, file).pairs == {path: Part(file, name) for path, name in zip(paths, reversed(NAMES))}


def test_the_folder_of_a_job_and_its_list(tmp_path: Path, many: list[Picks], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    coordinates.write_all(Path("AutoPick/job4"), many, "relion")
    for given in (Path("AutoPick/job4"), Path("AutoPick/job4/autopick.star")):
        found = by_micrograph(given)
        assert tuple(found) == NAMES
        for name, file in found.items():
            np.testing.assert_allclose(sources.read(file).xy, XY[name], atol=1e-3)


def job(folder: Path, *names: str) -> Path:
    """A picking job with a list, as RELION leaves it: one particle at (1, 2) in each micrograph."""
    coordinates.write_all(folder, [Picks(f"M/{name}.mrc", Particles.of([(1, 2)])) for name in names], "relion")
    return folder


def test_files_beside_a_list_count_too(tmp_path: Path) -> None:
    folder = job(tmp_path / "job", "a", "b")
    coordinates.write(folder / "c.csv", Particles.of([(3, 4)]), "csv")
    found = by_micrograph(folder)
    assert {name: sources.read(file).xy.tolist() for name, file in found.items()} == {
        "M/a.mrc": [[1, 2]],
        "M/b.mrc": [[1, 2]],
        "c": [[3, 4]],
    }
    assert list(by_name(folder)) == ["a", "b", "c"]


def test_a_file_beside_a_list_counts_instead_of_the_listed_one(tmp_path: Path) -> None:
    folder = job(tmp_path / "job", "a", "b")
    coordinates.write(folder / "b.csv", Particles.of([(3, 4), (5, 6)]), "csv")
    assert sources.read(by_micrograph(folder)["M/b.mrc"]).xy.tolist() == [[3, 4], [5, 6]]
    assert len(by_micrograph(folder)) == 2
    assert {one.picks.micrograph: len(one.picks.particles) for one in load([folder])} == {"M/a.mrc": 1, "M/b.mrc": 2}


def test_a_file_that_is_only_named_as_a_list_does_not_hide_others(tmp_path: Path) -> None:
    coordinates.write(tmp_path / "a.csv", Particles.of([(3, 4)]), "csv")
    (tmp_path / "summary.star").write_text("data_summary\n_rlnFoo 3\n")
    assert by_micrograph(tmp_path) == by_name(tmp_path) == {"a": tmp_path / "a.csv"}
    assert [one.picks.micrograph for one in load([tmp_path])] == ["a"]


def test_the_list_of_relion_3_names_no_micrograph(tmp_path: Path) -> None:
    coordinates.write(tmp_path / "a_manualpick.star", Particles.of([(3, 4)]), "star")
    coordinates.write(tmp_path / "b.csv", Particles.of([(3, 4)]), "csv")
    (tmp_path / "coords_suffix_manualpick.star").write_text("CtfFind/job003/micrographs_ctf.star\n")
    assert by_micrograph(tmp_path) == {"a": tmp_path / "a_manualpick.star", "b": tmp_path / "b.csv"}


def test_files_of_one_micrograph(tmp_path: Path, many: list[Picks]) -> None:
    for one in many[1:]:
        coordinates.write(tmp_path / f"{Path(one.micrograph).stem}.csv", one.particles, "csv")
    assert by_micrograph(tmp_path) == {"001": tmp_path / "001.csv", "a": tmp_path / "a.csv"}
    assert by_micrograph(tmp_path / "a.csv") == {"a": tmp_path / "a.csv"}
    with pytest.raises(InputError, match="no such folder or file"):
        by_micrograph(tmp_path / "none")


def test_origins_need_the_pixel_size_only_when_they_are_read(tmp_path: Path) -> None:
    file = tmp_path / "run_data.star"
    columns = ("rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY", "rlnOriginXAngst", "rlnOriginYAngst")
    rows = "a.mrc 50 60 4 8\nb.mrc 70 80 0 0\na.mrc 30 40 -4 0\n"
    file.write_text("data_particles\nloop_\n" + "".join(f"_{one}\n" for one in columns) + rows)
    part = by_micrograph(file)["a.mrc"]
    np.testing.assert_allclose(sources.read(part, pixel_size_A=2.0).xy, [(48, 56), (32, 40)])
    with pytest.raises(CoordinatesError, match="pixel size"):
        sources.read(part)


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "all.csv"
    file.write_text("micrograph,x,y\na,1,2\nb,3,4\n")
    part = by_micrograph(file)["a"]
    assert len(sources.read(part)) == 1
    file.write_text("micrograph,x,y\na,1,2\na,5,6\nb,3,4\n")
    assert len(sources.read(part)) == 2
    file.write_text("micrograph,x,y\nb,3,4\nc,3,4\n")
    with pytest.raises(CoordinatesError, match="'a' is not in it any more"):
        sources.read(part)


@pytest.mark.parametrize("text", ["x,y\n1,2\n", "micrograph,x,y\na,1,2\nb,3,4\n"])
def test_the_content_of_a_file_that_has_vanished_is_an_error_of_coordinates(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.csv"
    file.write_text(text)
    source = by_micrograph(file)["a"]
    assert sources.content(source)
    file.unlink()
    with pytest.raises(CoordinatesError, match=r"a\.csv.*cannot be read"):
        sources.content(source)


def test_a_position_counts_once_with_its_highest_score() -> None:
    particles = Particles.of([(1, 2), (3, 4), (1, 2), (5, 6), (1, 2), (3, 4.001)], 9, [0.1, 0.5, 0.9, 0.4, 0.3, 0.2])
    once, again = distinct(particles, Path("d/a.csv"))
    np.testing.assert_array_equal(once.xy, [(3, 4), (1, 2), (5, 6), (3, 4.001)])
    np.testing.assert_array_equal(once.score, [0.5, 0.9, 0.4, 0.2])
    assert again == [Repeated(Path("d/a.csv"), 1, 2)]
    assert distinct(once, Path("a")) == (once, [])
    assert distinct(Particles.of([]), Path("a"))[1] == []


def test_repeated_positions_are_one_sentence_for_all_files() -> None:
    a, b = Repeated(Path("d/a.csv"), 2, 2), Repeated(Part(Path("d/b.star"), "m"), 1, 3)
    assert repeats([a], "counted once") == "2 positions stand twice in a.csv, counted once"
    assert repeats([a._replace(positions=1, left_out=1)], "kept") == "1 position stands twice in a.csv, kept"
    assert repeats([a, b], "kept") == "3 positions stand several times in 2 files, e.g. a.csv, kept"
    assert repeats([b, b], "kept") == "2 positions stand several times in b.star, kept"
    assert repeats([], "kept") == ""
