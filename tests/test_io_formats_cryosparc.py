"""cryoSPARC's tables: cryosparc-tools reads what we write, we read what it writes, and nobody unpickles."""

import io
from pathlib import Path

import numpy as np
import pytest

from upicker.errors import CoordinatesError, OutputError
from upicker.io import coordinates
from upicker.io.picks import Picks, ReadOptions, WriteOptions
from upicker.particles import Particles
from upicker.run.convert import Converting, convert

SHAPE = (371, 533)
NAMES = ("J3/motioncorrected/012345678901234567890_a_patch_aligned_doseweighted.mrc", "imported/b.mrc")


def some(n: int) -> Particles:
    random = np.random.default_rng(n)
    extra = {"class_number": random.integers(0, 9, n), "psi_deg": random.uniform(-180, 180, n)}
    return Particles(random.uniform(0, SHAPE[::-1], (n, 2)), random.uniform(20, 60, n), random.uniform(0, 1, n), extra)


def written(folder: Path, **options: object) -> Path:
    picks = [Picks(name, some(i + 2), SHAPE, 1.77) for i, name in enumerate(NAMES)]
    return coordinates.write_all(folder / "picked.cs", picks, "cs", WriteOptions(**options))[0]  # type: ignore[arg-type]


def test_every_field_of_location_and_pick_stats(tmp_path: Path) -> None:
    table = np.load(written(tmp_path), allow_pickle=False)
    assert table.dtype.descr == [
        ("uid", "<u8"),
        ("location/micrograph_uid", "<u8"),
        ("location/exp_group_id", "<u4"),
        ("location/micrograph_path", f"|S{len(NAMES[0])}"),
        ("location/micrograph_shape", "<u4", (2,)),
        ("location/center_x_frac", "<f4"),
        ("location/center_y_frac", "<f4"),
        ("location/micrograph_psize_A", "<f4"),
        ("location/min_dist_A", "<f4"),
        ("pick_stats/ncc_score", "<f4"),
        ("pick_stats/power", "<f4"),
        ("pick_stats/template_idx", "<u4"),
        ("pick_stats/angle_rad", "<f4"),
    ]
    assert len(np.unique(table["uid"])) == 5
    assert list(np.unique(table["location/micrograph_uid"][:2])) == [12345678901234567890]
    np.testing.assert_array_equal(table["location/micrograph_shape"], [SHAPE] * 5)
    np.testing.assert_allclose(table["location/center_x_frac"][:2] * SHAPE[1], some(2).xy[:, 0], rtol=1e-6)
    np.testing.assert_allclose(table["location/center_y_frac"][:2] * SHAPE[0], some(2).xy[:, 1], rtol=1e-6)
    np.testing.assert_allclose(table["location/min_dist_A"][:2], some(2).diameter_px * 1.77, rtol=1e-6)


def test_numbers_are_the_same_again_and_may_be_given(tmp_path: Path) -> None:
    first, second = written(tmp_path / "a").read_bytes(), written(tmp_path / "b").read_bytes()
    assert first == second
    given = np.load(written(tmp_path, uid_of=lambda name: 7 if name == NAMES[1] else None))
    assert set(given["location/micrograph_uid"]) == {7, 12345678901234567890}


def test_flipped_for_other_motion_correction(tmp_path: Path) -> None:
    plain, flipped = np.load(written(tmp_path / "a")), np.load(written(tmp_path / "b", flip="cryosparc"))
    np.testing.assert_allclose(flipped["location/center_y_frac"], 1 - plain["location/center_y_frac"], atol=1e-6)
    again = coordinates.read_all(tmp_path / "b" / "picked.cs", ReadOptions(flip="cryosparc"))
    np.testing.assert_allclose(again[1].particles.xy, some(3).xy, atol=1e-3)


def test_the_group_file_names_the_table(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    path = written(tmp_path)
    group = yaml.safe_load(path.with_suffix(".csg").read_text())
    assert group["group"]["type"] == "particle"
    assert set(group["results"]) == {"location", "pick_stats"}
    for slot, result in group["results"].items():
        assert result == {"metafile": ">picked.cs", "num_items": 5, "type": f"particle.{slot}"}


def test_cryosparc_tools_reads_what_we_write_and_we_what_it_writes(tmp_path: Path) -> None:
    dataset = pytest.importorskip("cryosparc.dataset")
    ours = dataset.Dataset.load(str(written(tmp_path)))
    assert len(ours) == 5
    assert list(ours["location/micrograph_path"]) == [NAMES[0]] * 2 + [NAMES[1]] * 3
    assert ours["location/micrograph_shape"].shape == (5, 2)
    assert {field.split("/")[0] for field in ours.fields()} == {"uid", "location", "pick_stats"}
    ours.save(str(tmp_path / "theirs.cs"))
    for again in (coordinates.read_all(tmp_path / "theirs.cs"), coordinates.read_all(tmp_path / "picked.cs")):
        for i, picks in enumerate(again):
            assert (picks.micrograph, picks.shape) == (NAMES[i], SHAPE)
            assert picks.pixel_size_A == pytest.approx(1.77)
            np.testing.assert_allclose(picks.particles.xy, some(i + 2).xy, atol=1e-3)
            np.testing.assert_allclose(picks.particles.diameter_px, some(i + 2).diameter_px, rtol=1e-5)
            np.testing.assert_allclose(picks.particles.extra["psi_deg"], some(i + 2).extra["psi_deg"], rtol=1e-5)


def saved(path: Path, table: np.ndarray) -> Path:
    with path.open("wb") as file:
        np.save(file, table, allow_pickle=True)
    return path


def without(table: np.ndarray, start: str, only: bool = False) -> np.ndarray:
    names = [n for n in table.dtype.names or () if n == "uid" or n.startswith(start) == only]
    small = np.zeros(len(table), [(n, table.dtype[n]) for n in names])
    for name in names:
        small[name] = table[name]
    return small


def test_a_passthrough_file_beside_is_joined_by_uid(tmp_path: Path) -> None:
    table = np.load(written(tmp_path))
    (tmp_path / "picked.cs").unlink()
    path = saved(tmp_path / "J9_particles.cs", without(table, "location"))
    with pytest.raises(CoordinatesError, match=r"no field location/micrograph_path .*passthrough"):
        coordinates.read_all(path)
    saved(tmp_path / "J9_passthrough_other.cs", without(table, "location", only=True)[:2])
    with pytest.raises(CoordinatesError, match="no field location/micrograph_path"):
        coordinates.read_all(path)
    saved(tmp_path / "J9_passthrough_particles.cs", without(table, "location", only=True)[::-1])
    for i, picks in enumerate(coordinates.read_all(path)):
        np.testing.assert_allclose(picks.particles.xy, some(i + 2).xy, atol=1e-3)
        np.testing.assert_allclose(picks.particles.score, some(i + 2).score, rtol=1e-6)


def test_a_group_names_its_tables(tmp_path: Path) -> None:
    path = written(tmp_path)
    (group,) = tmp_path.glob("*.csg")
    for i, picks in enumerate(coordinates.read_all(group)):
        np.testing.assert_allclose(picks.particles.xy, some(i + 2).xy, atol=1e-3)
    table = np.load(path)
    saved(path, without(table, "location"))
    saved(tmp_path / "other.cs", without(table, "location", only=True)[::-1])
    text = group.read_text()
    group.write_text(text.replace("'>picked.cs'", "'>other.cs'", 1))
    # The first table's order holds.
    for i, picks in enumerate(reversed(coordinates.read_all(group))):
        np.testing.assert_allclose(picks.particles.xy[::-1], some(i + 2).xy, atol=1e-3)
        np.testing.assert_allclose(picks.particles.score[::-1], some(i + 2).score, rtol=1e-6)
    (tmp_path / "other.cs").unlink()
    with pytest.raises(CoordinatesError, match=r"its table 'other\.cs' does not exist"):
        coordinates.read_all(group)


def test_what_cryosparc_needs_is_asked_for(tmp_path: Path) -> None:
    for picks, what in (
        (Picks("a.mrc", some(1), SHAPE), "--pixel-size"),
        (Picks("a.mrc", some(1), None, 1.0), "size of"),
    ):
        with pytest.raises(OutputError, match=what):
            coordinates.write_all(tmp_path / "a.cs", [picks], "cs")
    assert not list(tmp_path.iterdir())


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_no_pickle_is_opened(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "p.cs",
        np.array([(Trap(tmp_path / "was here"), 1.0)], [("uid", "O"), ("location/center_x_frac", "<f4")]),
    )
    with pytest.raises(CoordinatesError, match="pickled"):
        coordinates.read_all(path)
    with pytest.raises(CoordinatesError, match="not a table"):
        coordinates.read_all(saved(tmp_path / "q.cs", np.zeros((3, 2))))
    assert not (tmp_path / "was here").exists()


def header(descr: str, shape: str, version: bytes = b"\x01\x00") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (header("[('uid', '<u8')]", "(1000000000000,)") + bytes(80), "declares 1000000000000 rows and holds 10"),
        (header("[('uid', '<u8')]", "(-1,)") + bytes(80), "declares -1 rows"),
        (header("[('uid', '<u8')]", "(4, 10000000000)") + bytes(80), "not a table"),
        (header("[('uid', 'S0')]", "(1000000000000,)"), "not a table|damaged"),
        (header("[('uid', '<u8', (100000, 100000, 100000, 100000))]", "(1,)"), "damaged|declares 1 rows"),
        (header("__import__('os')", "(1,)"), "damaged"),
        (header("[('uid', '<u8')]", "(1,)", b"\x09\x00"), "damaged"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b"x" * 200, "damaged"),
        (b"\x93NUMPY", "damaged"),
        (header("[('uid', '<u8')]", "(" * 300 + "1" + ")" * 300), "damaged"),
    ],
)
def test_headers_are_not_believed(tmp_path: Path, content: bytes, found: str) -> None:
    (tmp_path / "a.cs").write_bytes(content)
    with pytest.raises(CoordinatesError, match=found) as caught:
        coordinates.read_all(tmp_path / "a.cs")
    assert "a.cs" in str(caught.value)


@pytest.mark.parametrize("kind", ["U5", "<f2", "<f8", ">i2", "?", "<c8", "V3", "M8[s]", ("<f4", (2, 2)), "<f16"])
@pytest.mark.parametrize("field", ["micrograph_path", "micrograph_shape", "center_y_frac", "min_dist_A"])
def test_fields_of_other_kinds(tmp_path: Path, field: str, kind: object) -> None:
    good = np.load(written(tmp_path))
    fields = [(n, kind if n == f"location/{field}" else good.dtype[n]) for n in good.dtype.names]
    path = saved(tmp_path / "odd.cs", np.zeros(3, np.dtype(fields)))  # type: ignore[arg-type]
    with pytest.raises(CoordinatesError, match=r"location/micrograph_(path|shape)|location/center_y|location/min"):
        coordinates.read_all(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named_by_row(tmp_path: Path, value: float) -> None:
    table = np.load(written(tmp_path)).copy()
    table["location/center_y_frac"][3] = value
    with pytest.raises(CoordinatesError, match=r"row 4 .* location/center_y_frac"):
        coordinates.read_all(saved(tmp_path / "nan.cs", table))


def test_a_table_cut_short(tmp_path: Path) -> None:
    content = written(tmp_path).read_bytes()
    (tmp_path / "cut.cs").write_bytes(content[:-1])
    with pytest.raises(CoordinatesError, match="declares 5 rows and holds 4"):
        coordinates.read_all(tmp_path / "cut.cs")
    stream = io.BytesIO()
    np.save(stream, np.load(io.BytesIO(content))[:0])
    (tmp_path / "none.cs").write_bytes(stream.getvalue())
    assert coordinates.read_all(tmp_path / "none.cs") == []


def test_a_header_with_the_fields_of_many_classes(tmp_path: Path) -> None:
    """After a 3D classification cryoSPARC keeps a set of fields for each class."""
    good = np.load(written(tmp_path))
    more = [(f"alignments_class_{i}/{name}", "<f4") for i in range(400) for name in ("shift_x", "class_posterior")]
    wide = np.zeros(len(good), good.dtype.descr + more)
    for name in good.dtype.names:
        wide[name] = good[name]
    path = saved(tmp_path / "wide.cs", wide)
    assert int.from_bytes(path.read_bytes()[8:10], "little") > 30_000
    for i, picks in enumerate(coordinates.read_all(path)):
        np.testing.assert_allclose(picks.particles.xy, some(i + 2).xy, atol=1e-3)
    longer = 1 << 21
    path.write_bytes(b"\x93NUMPY\x02\x00" + longer.to_bytes(4, "little") + b" " * longer)
    with pytest.raises(CoordinatesError, match="its NumPy header has 2097152 bytes"):
        coordinates.read_all(path)


def test_without_shapes_the_micrographs_give_them(tmp_path: Path) -> None:
    path = saved(tmp_path / "picks.cs", _but(np.load(written(tmp_path)), "location/micrograph_shape"))
    with pytest.raises(CoordinatesError, match=r"fractions of the size of micrograph .*Name the micrographs"):
        coordinates.read_all(path)
    for scale in (1, 4):
        found = coordinates.read_all(path, ReadOptions(lambda _: SHAPE, scale=scale))
        for i, picks in enumerate(found):
            assert picks.shape == SHAPE
            np.testing.assert_allclose(picks.particles.xy, some(i + 2).xy, atol=1e-3)
    flipped = coordinates.read_all(path, ReadOptions(lambda _: SHAPE, "cryosparc"))
    np.testing.assert_allclose(flipped[1].particles.xy[:, 1], SHAPE[0] - some(3).xy[:, 1], atol=1e-3)


def test_distances_become_diameters_with_the_micrographs_own_pixel_size(tmp_path: Path) -> None:
    table = np.load(written(tmp_path))
    own = coordinates.read_all(tmp_path / "picked.cs", ReadOptions(pixel_size_A=2 * 1.77))
    np.testing.assert_allclose(own[1].particles.diameter_px, some(3).diameter_px / 2, rtol=1e-5)
    binned = coordinates.read_all(tmp_path / "picked.cs", ReadOptions(scale=2))
    np.testing.assert_allclose(binned[1].particles.diameter_px, some(3).diameter_px * 2, rtol=1e-5)
    path = saved(tmp_path / "unsized.cs", _but(table, "location/micrograph_psize_A"))
    without = coordinates.read_all(path)[1]
    assert np.isnan(without.particles.diameter_px).all()
    assert without.unread == ("diameters in Angstrom, for want of a pixel size",)
    given = coordinates.read_all(path, ReadOptions(pixel_size_A=1.77))[1]
    np.testing.assert_allclose(given.particles.diameter_px, some(3).diameter_px, rtol=1e-5)


def test_what_is_not_read_is_told(tmp_path: Path) -> None:
    good = np.load(written(tmp_path))
    more = [("filament/filament_uid", "<u8"), ("alignments3D/shift", "<f4", (2,))]
    table = np.zeros(len(good), good.dtype.descr + more)
    for name in good.dtype.names:
        table[name] = good[name]
    assert {picks.unread for picks in coordinates.read_all(saved(tmp_path / "a.cs", table))} == {()}
    table["filament/filament_uid"], table["alignments3D/shift"] = 7, 1.5
    found = coordinates.read_all(saved(tmp_path / "b.cs", table))
    assert {picks.unread for picks in found} == {
        ("filament numbers", "shifts of refinement, for want of their pixel size")
    }


@pytest.mark.parametrize("beside", [False, True])
def test_shifts_of_the_last_alignment_are_subtracted(tmp_path: Path, beside: bool) -> None:
    good = np.load(written(tmp_path))
    sizes = [("alignments2D/psize_A", "<f4"), ("alignments3D/psize_A", "<f4"), ("blob/psize_A", "<f4")]
    more = [*sizes, ("alignments2D/shift", "<f4", (2,)), ("alignments3D/shift", "<f4", (2,))]
    fields = [("uid", "<u8"), *more] if beside else good.dtype.descr + more
    table = np.zeros(len(good), fields)
    for name in table.dtype.names:
        if name in good.dtype.names:
            table[name] = good[name]
    table["alignments2D/shift"], table["alignments2D/psize_A"], table["blob/psize_A"] = (4, -2), 2 * 1.77, 1.77
    path = saved(tmp_path / ("picked_passthrough_particles.cs" if beside else "all.cs"), table)
    path = tmp_path / "picked.cs" if beside else path
    for i, picks in enumerate(coordinates.read_all(path)):
        np.testing.assert_allclose(picks.particles.xy, some(i + 2).xy - (8, -4), atol=1e-3)
        assert picks.unread == ()
    table["alignments3D/shift"], table["alignments3D/psize_A"] = (0, 1), 4 * 1.77
    saved(tmp_path / ("picked_passthrough_particles.cs" if beside else "all.cs"), table)
    for i, picks in enumerate(coordinates.read_all(path)):
        np.testing.assert_allclose(picks.particles.xy, some(i + 2).xy - (0, 4), atol=1e-3)
    flipped = coordinates.read_all(path, ReadOptions(lambda _: SHAPE, "cryosparc"))
    np.testing.assert_allclose(flipped[1].particles.xy[:, 1], SHAPE[0] - some(3).xy[:, 1] + 4, atol=1e-3)
    table["alignments3D/shift"] = np.nan
    saved(tmp_path / ("picked_passthrough_particles.cs" if beside else "all.cs"), table)
    with pytest.raises(CoordinatesError, match="alignments3D/shift does not hold shifts"):
        coordinates.read_all(path)


@pytest.mark.parametrize(
    ("field", "shape", "words"),
    [
        ("alignments2D/pose", (), "angles of 2D classification"),
        ("alignments2D/class", (), "2D classes"),
        ("alignments3D/pose", (3,), "angles of refinement"),
        ("alignments3D/class", (), "3D classes"),
    ],
)
def test_angles_and_classes_that_are_not_read_are_told(tmp_path: Path, field: str, shape: tuple, words: str) -> None:
    good = np.load(written(tmp_path))
    table = np.zeros(len(good), [*good.dtype.descr, (field, "<u4" if "class" in field else "<f4", shape)])
    for name in good.dtype.names:
        table[name] = good[name]
    table[field] = 2
    assert {picks.unread for picks in coordinates.read_all(saved(tmp_path / "b.cs", table))} == {(words,)}


def test_a_group_announces_no_more_particles_than_its_table_has(tmp_path: Path) -> None:
    group = written(tmp_path).with_suffix(".csg")
    assert sum(len(picks.particles) for picks in coordinates.read_all(group)) == 5
    group.write_text(group.read_text().replace("num_items: 5", "num_items: 9", 1))
    with pytest.raises(CoordinatesError, match=r"it announces 9 particles, but picked\.cs has 5"):
        coordinates.read_all(group)


def test_scores_beyond_single_precision_are_clipped_and_told(tmp_path: Path) -> None:
    scores = np.array([3.5e38, -6.1e39, 0.5])
    particles = Particles.of([(30, 45), (30, 145), (60, 70)], 40, scores)
    (source,) = coordinates.write_all(tmp_path / "in.csv", [Picks("a.mrc", particles, SHAPE, 1.77)], "csv")
    report = convert([source], Converting("cs", tmp_path / "out.cs"))
    (again,) = coordinates.read_all(tmp_path / "out.cs")
    largest = np.finfo(np.float32).max
    np.testing.assert_allclose(again.particles.score, [largest, -largest, 0.5], rtol=1e-6)
    assert "scores beyond 3.4e+38, which were clipped to it" in report.lost


def _but(table: np.ndarray, left_out: str) -> np.ndarray:
    names = [name for name in table.dtype.names or () if name != left_out]
    small = np.zeros(len(table), [(name, table.dtype[name]) for name in names])
    for name in names:
        small[name] = table[name]
    return small
