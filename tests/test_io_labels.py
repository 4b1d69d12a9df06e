"""The reader of a folder of labels: which file belongs to which micrograph, what it holds, and what it covers."""

from pathlib import Path

import numpy as np
import pytest

from upicker.errors import CoordinatesError, InputError
from upicker.geometry import Region
from upicker.io import coordinates
from upicker.io.coverage import FILE, Coverage
from upicker.io.labels import LabelFolder, Labelled
from upicker.io.picks import Picks
from upicker.io.sources import Part
from upicker.particles import Particles


def write(folder: Path, name: str, count: int, format: str = "csv") -> Path:
    folder.mkdir(exist_ok=True)
    coordinates.write(folder / name, Particles.of(np.arange(2.0 * count).reshape(-1, 2), 20.0), format)
    return folder / name


@pytest.fixture
def folder(tmp_path) -> Path:
    """Labels of three of five micrographs, in three formats, and of another one that is not given."""
    write(tmp_path / "labels", "mic0.csv", 3)
    write(tmp_path / "labels", "mic1_autopick.star", 2, "star")
    write(tmp_path / "labels", "mic2.box", 0, "box")
    write(tmp_path / "labels", "other.csv", 9)
    return tmp_path / "labels"


def reader(folder: Path) -> LabelFolder:
    return LabelFolder(folder, [Path(f"mic{number}.mrc") for number in range(5)])


def counts(labels: LabelFolder) -> dict[int, tuple[int, bool]]:
    return {int(one.path.stem[-1]): (one.particles, one.partial) for one in labels.labelled()}


def test_files_of_any_format_are_found_by_name(folder):
    labels = reader(folder)
    names = [None if (file := labels.file(number)) is None else file.name for number in range(5)]
    assert names == ["mic0.csv", "mic1_autopick.star", "mic2.box", None, None]
    assert labels.content(folder / "mic0.csv").labels == 3
    assert labels.labelled()[0] == Labelled(Path("mic0.mrc"), folder / "mic0.csv", 3, False)
    missing = LabelFolder(folder / "none", [Path("a.mrc")])
    assert (missing.file(0), missing.labelled(), missing.unlabelled()) == (None, [], [Path("a.mrc")])


def test_a_file_written_beside_a_list_counts(tmp_path):
    """The page keeps labels as CSV, also in the folder of RELION's manual picking."""
    folder, names = tmp_path / "job", ("M/mic0.mrc", "M/mic1.mrc")
    coordinates.write_all(folder, [Picks(name, Particles.of([(1, 2)])) for name in names], "relion")
    (folder / "autopick.star").rename(folder / "manualpick.star")
    labels = reader(folder)
    assert counts(labels) == {0: (1, False), 1: (1, False)}
    for number, count in ((1, 3), (2, 4)):
        labels.assign(number, write(folder, f"mic{number}.csv", count))
    assert counts(labels) == {0: (1, False), 1: (3, False), 2: (4, False)}


def test_labels_in_one_file_of_many_micrographs(tmp_path):
    path = tmp_path / "particles.star"
    columns = ("rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY", "rlnOriginXAngst")
    rows = "M/mic0.mrc 1 2 0\nM/mic3.mrc 3 4 1.5\nM/mic0.mrc 5 6 0\nM/none.mrc 5 6 0\n"
    path.write_text("data_particles\nloop_\n" + "".join(f"_{one}\n" for one in columns) + rows)
    labels = reader(path)
    assert counts(labels) == {0: (2, False), 3: (1, False)}
    assert labels.labelled()[0] == Labelled(Path("mic0.mrc"), Part(path, "M/mic0.mrc"), 2, False)
    assert labels.unlabelled() == [Path(f"mic{number}.mrc") for number in (1, 2, 4)]
    assert labels.coverage(Part(path, "M/mic0.mrc")) is None


def test_a_file_is_read_again_only_when_it_has_changed(folder, monkeypatch):
    labels, read, files = reader(folder), coordinates.read_stored, []
    monkeypatch.setattr(coordinates, "read_stored", lambda file: files.append(file.name) or read(file))
    for _ in range(3):
        assert counts(labels) == {0: (3, False), 1: (2, False)}
    assert sorted(files) == ["mic0.csv", "mic1_autopick.star", "mic2.box"]
    write(folder, "mic0.csv", 5)
    assert counts(labels)[0] == (5, False)
    assert len(files) == 4


def test_new_files_are_noticed(folder):
    labels = reader(folder)
    write(folder, "mic3.csv", 1)
    file = labels.file(3)
    assert file == folder / "mic3.csv"
    write(folder, "mic4_picks.csv", 4)
    assert labels.file(4) is None
    assert counts(labels) == {0: (3, False), 1: (2, False), 3: (1, False), 4: (4, False)}
    assert labels.file(4) == folder / "mic4_picks.csv"
    assert [path.name for path in labels.unlabelled()] == ["mic2.mrc"]


def test_coverage_decides_what_is_complete_and_whether_an_empty_file_counts(folder):
    labels = reader(folder)
    assert labels.coverage(folder / "mic0.csv") is None
    labels.record(folder / "mic0.csv", Coverage(True))
    labels.record(folder / "mic1_autopick.star", Coverage(False, (Region(0, 0, 9, 9),)))
    labels.record(folder / "mic2.box", Coverage(False))
    assert labels.coverage(folder / "mic0.csv") == Coverage(True)
    assert counts(labels) == {0: (3, True), 1: (2, True), 2: (0, False)}
    assert [path.name for path in labels.unlabelled()] == ["mic3.mrc", "mic4.mrc"]
    assert labels.partial_files() == 1
    labels.record(folder / "mic2.box", None)
    assert 2 not in counts(labels)
    before = (folder / FILE).stat().st_mtime_ns
    labels.record(folder / "mic0.csv", Coverage(True))
    assert (folder / FILE).stat().st_mtime_ns == before


def test_what_cannot_be_read_is_refused_or_counts_as_empty(folder):
    labels = reader(folder)
    (folder / "mic0.csv").write_text("x,y\n1,nonsense\n")
    assert counts(labels) == {1: (2, False)}
    with pytest.raises(CoordinatesError, match="nonsense"):
        labels.content(folder / "mic0.csv")
    (folder / FILE).write_text("name,coverage\nother,partial\n")  # of a micrograph that is not given
    assert counts(labels) == {1: (2, False)}
    (folder / FILE).write_text("name,coverage\nmic9,partial\n")
    with pytest.raises(CoordinatesError, match="mic9"):
        labels.labelled()
    assert [path.name for path in labels.unlabelled()] == ["mic0.mrc", "mic2.mrc", "mic3.mrc", "mic4.mrc"]
    (folder / FILE).unlink()
    write(folder, "MIC3_DW.csv", 2)
    write(folder, "mic3_aligned.csv", 2)
    with pytest.raises(InputError, match="ambiguous"):
        labels.labelled()
    assert labels.file(1) == folder / "mic1_autopick.star"
