"""What every format in `FORMATS` promises, whatever it is: it knows its own files, and carries what it claims."""

import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from upicker.errors import OutputError
from upicker.io import coordinates, folders
from upicker.io.formats import FORMATS, recognized
from upicker.io.formats.content import load
from upicker.io.formats.format import QUANTITIES, Format
from upicker.io.picks import EXTRA_WORDS, FLIPS, Picks, ReadOptions, WriteOptions, stem
from upicker.particles import EXTRA, Particles, ScoreKind
from upicker.run.convert import Converting, convert

SHAPE = (371, 533)
PLAIN = WriteOptions()
DOCS = Path(__file__).resolve().parents[1] / "docs"
# How `upicker convert` calls what particles have.
TOLD = {"diameter": "diameters", "score": "scores", "score_kind": "what the scores are"} | EXTRA_WORDS
every = pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)


def full(n: int = 7) -> Picks:
    """Picks with a value of their own for everything that a format may carry."""
    random = np.random.default_rng(3)
    extra = {"class_number": random.integers(1, 9, n), "psi_deg": random.uniform(-180, 180, n)}
    extra |= {"label_key": np.array([f"k{i}" for i in range(n)], "U24")}
    xy = random.uniform(0, SHAPE[::-1], (n, 2))
    particles = Particles(xy, random.uniform(20, 60, n), random.uniform(0.1, 0.9, n), extra, ScoreKind.PROBABILITY)
    return Picks("M/job001/00123.mrc", particles, SHAPE, 1.77)


def written(folder: Path, picks: list[Picks], format: Format, options: WriteOptions = PLAIN) -> list[Path]:
    """Write to a file whose name does not give the micrograph's."""
    target = folder if format.layout == "folder" else folder / f"all.{format.ending.rpartition('.')[2]}"
    return coordinates.write_all(target, picks, format.name, options)


def read(files: list[Path], format: Format) -> Picks:
    """Read one micrograph's picks: of a list what it names, else the first file, which others may repeat."""
    (picks,) = coordinates.read_all(files[-1] if format.listing else files[0])
    return picks


def carried(before: Picks, after: Picks) -> set[str]:
    """Return the quantities that came back as they were."""
    old, new = before.particles, after.particles
    found = {
        "diameter": np.allclose(old.diameter_px, new.diameter_px, rtol=1e-4, atol=0),
        "score": np.allclose(old.score, new.score, rtol=1e-6, atol=0),
        "score_kind": old.score_kind == new.score_kind,
        "micrograph": stem(before.micrograph) == stem(after.micrograph),
        "path": before.micrograph == after.micrograph,
        "shape": before.shape == after.shape,
        "pixel_size": after.pixel_size_A is not None and np.isclose(after.pixel_size_A, before.pixel_size_A or 0),
    }
    for name, values in old.extra.items():
        other = new.extra.get(name)
        same = np.array_equal if values.dtype.kind == "U" else lambda one, two: np.allclose(one, two, atol=1e-4)
        found[name] = other is not None and same(values, other)
    assert found.keys() == QUANTITIES.keys()
    return {name for name, came_back in found.items() if came_back}


@every
@pytest.mark.parametrize("n", [0, 1, 7])
def test_a_format_recognises_its_own_files(tmp_path: Path, format: Format, n: int) -> None:
    files = written(tmp_path, [full(n)], format)
    for file in files[-1:] if format.layout == "folder" else files:
        assert recognized(load(file, "all")) is format


@every
def test_a_format_carries_what_it_claims_and_nothing_else(tmp_path: Path, format: Format) -> None:
    files = written(tmp_path, [full()], format)
    again = read(files, format)
    np.testing.assert_allclose(again.particles.xy, full().particles.xy, atol=1e-3)
    assert carried(full(), again) == format.carries


@every
def test_a_format_needs_what_it_claims_and_nothing_else(tmp_path: Path, format: Format) -> None:
    without = {
        "diameter": replace(full(), particles=replace(full().particles, diameter_px=np.full(7, np.nan))),
        "shape": replace(full(), shape=None),
        "pixel_size": replace(full(), pixel_size_A=None),
    }
    for quantity, picks in without.items():
        if quantity in format.needs:
            with pytest.raises(OutputError) as caught:
                written(tmp_path, [picks], format)
            assert caught.value.remedy
        else:
            assert written(tmp_path, [picks], format)


@every
def test_files_beside_each_other_are_found_by_the_micrographs_names(tmp_path: Path, format: Format) -> None:
    picks = [full(), replace(full(), micrograph="M/job001/x.y.mrc")]
    files = coordinates.write_all(tmp_path, picks, format.name)
    if format.endings:
        assert folders.stems(tmp_path) == {"00123": files[0], "x.y": files[1]}
    if format.listing:
        assert folders.lists(tmp_path) == files[-1:]
    single = {"each": 2, "either": 2, "together": 1, "folder": 2}[format.layout]
    assert len(files) == single + format.repeats


@every
@pytest.mark.parametrize(("flip", "last"), [("upside-down", 1), ("cryosparc", 0)])
def test_a_format_is_written_in_the_frame_that_is_asked_for(
    tmp_path: Path, format: Format, flip: str, last: int
) -> None:
    picks = replace(full(), shape=(372, 534))
    plain = read(written(tmp_path, [picks], format), format).particles.xy
    flipped = read(written(tmp_path, [picks], format, WriteOptions(flip, scale=2)), format).particles.xy
    np.testing.assert_allclose(flipped * 2, np.stack([plain[:, 0], 372 - last - plain[:, 1]], 1), atol=1e-2)


@every
@pytest.mark.parametrize("flip", [name for name in FLIPS if name != "none"])
def test_a_flip_mirrors_angles(tmp_path: Path, format: Format, flip: str) -> None:
    """A direction psi in a picture that is mirrored top to bottom is -psi; the same flip again restores it."""
    if "psi_deg" not in format.carries:
        return
    psi = full().particles.extra["psi_deg"]
    files = written(tmp_path, [full()], format, WriteOptions(flip))
    file = files[-1] if format.listing else files[0]
    (mirrored,) = coordinates.read_all(file)
    (again,) = coordinates.read_all(file, ReadOptions(lambda _: SHAPE, flip))
    np.testing.assert_allclose(mirrored.particles.extra["psi_deg"], -psi, atol=1e-4)
    np.testing.assert_allclose(again.particles.extra["psi_deg"], psi, atol=1e-4)


@every
def test_what_a_format_does_not_carry_is_told(tmp_path: Path, format: Format) -> None:
    source = coordinates.write_all(tmp_path / "in.csv", [full(), replace(full(), micrograph="M/job001/b.mrc")], "csv")
    report = convert(source, Converting(format.name, tmp_path / "out"))
    for quantity, words in TOLD.items():
        told = any(lost.startswith(words) for lost in report.lost)
        # Where there are no scores, there is nothing to say of their kind.
        carried = quantity in format.carries or (quantity == "score_kind" and "score" not in format.carries)
        assert told != carried, (quantity, report.lost)


@every
def test_no_format_invents_what_is_not_known(tmp_path: Path, format: Format) -> None:
    plain = replace(full(), particles=Particles.of(full().particles.xy, 30.0))
    again = read(written(tmp_path, [plain], format), format).particles
    assert not np.nan_to_num(again.extra.get("psi_deg", np.zeros(1))).any()
    assert not np.any(again.extra.get("class_number", 0))


@every
@pytest.mark.parametrize("name", ["a", "coords_suffix_autopick"])
def test_recognising_a_binary_file_raises_nothing(tmp_path: Path, format: Format, name: str) -> None:
    for suffix in {".star", Path(format.ending).suffix}:
        path = tmp_path / f"{name}{suffix}"
        for content in (bytes(range(256)), b"\0", b"\xff\xfe_\0", b"\x93NUMP", b""):
            path.write_bytes(content)
            assert format.sniff(load(path, name)) in (True, False)


@every
def test_scores_of_other_programs_are_given_and_labels_have_none(tmp_path: Path, format: Format) -> None:
    given = replace(full().particles, score_kind=ScoreKind.GIVEN)
    labels = Particles.of(given.xy, 30.0)
    for particles in (given, labels):
        again = read(written(tmp_path, [replace(full(), particles=particles)], format), format).particles
        assert again.score_kind == (particles.score_kind if "score" in format.carries else ScoreKind.NONE)


def test_names_are_unique_and_words_are_there() -> None:
    assert EXTRA_WORDS.keys() == set(EXTRA)
    assert len({format.name for format in FORMATS}) == len(FORMATS)
    endings = [ending for format in FORMATS for ending in format.endings]
    assert len(set(endings)) == len(endings)
    for format in FORMATS:
        notes = format.notes
        assert all((format.programs, format.files, notes.position, notes.columns, notes.checked)), format.name
        assert format.carries <= QUANTITIES.keys()
        assert bool(format.file_of_all) == (format.layout == "together"), format.name


def test_the_documents_are_current() -> None:
    page = (DOCS / "formats.md").read_text(encoding="utf-8")
    assert runpy.run_path(str(DOCS / "formats.py"))["renewed"](page) == page, "run: python docs/formats.py"
