"""Lists of other programs: micrographs, their pixel sizes, optics and defocus; bad ones are refused."""

import pickle
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import starfile

from upicker.errors import InputError
from upicker.io import lists, micrographs, mrc, npy
from upicker.io.micrographs import Reading

SHAPE = (20, 31)
STEMS = ("mic2", "mic10", "00123")


def project(root: Path, folder: str = "MotionCorr/job002/Movies", suffix: str = ".mrc") -> list[str]:
    """A project folder with three micrographs; returns their paths from it."""
    pixels = np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE)
    for stem in STEMS:
        mrc.write(root / folder / f"{stem}{suffix}", pixels)
    return [f"{folder}/{stem}{suffix}" for stem in STEMS]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


OPTICS_3_1 = """# version 30001

data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMicrographOriginalPixelSize #3
_rlnVoltage #4
_rlnSphericalAberration #5
_rlnAmplitudeContrast #6
_rlnMicrographPixelSize #7
opticsGroup1            1     0.885000   300.000000     2.700000     0.100000     1.770000
grid2                   2     0.500000   200.000000     2.000000     0.070000     1.000000

"""


def relion_3_1(names: list[str]) -> str:
    """Return `micrographs_ctf.star` of RELION 3.1; the last micrograph is of the second group."""
    rows = "\n".join(
        f"{name} {1 + (i == 2)} {name.replace('.mrc', '.ctf:mrc')} 1{i}234.567800 10000.100000 -12.340000 0.123456"
        for i, name in enumerate(names)
    )
    return f"""{OPTICS_3_1}
# version 30001

data_micrographs

loop_
_rlnMicrographName #1
_rlnOpticsGroup #2
_rlnCtfImage #3
_rlnDefocusU #4
_rlnDefocusV #5
_rlnDefocusAngle #6
_rlnCtfFigureOfMerit #7
{rows}

"""


def test_relion_3_1_with_optics_groups_and_ctf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = project(tmp_path)
    path = write(tmp_path / "CtfFind/job003/micrographs_ctf.star", relion_3_1(names))
    # starfile reads it alike: what is written here is a STAR file to others, too.
    assert starfile.read(path)["micrographs"]["rlnMicrographName"].tolist() == names
    found = micrographs.entries([path])
    assert [entry.path.stem for entry in found] == ["00123", "mic2", "mic10"]
    entry = {entry.path.stem: entry for entry in found}
    assert [entry[stem].pixel_size_A for stem in STEMS] == [1.77, 1.77, 1.0]
    assert entry["mic10"].name == "MotionCorr/job002/Movies/mic10.mrc"
    assert entry["mic10"].path == tmp_path / entry["mic10"].name
    assert entry["mic10"].ctf == {
        "_rlnDefocusU": "11234.567800",
        "_rlnDefocusV": "10000.100000",
        "_rlnDefocusAngle": "-12.340000",
        "_rlnCtfFigureOfMerit": "0.123456",
    }
    optics = entry["00123"].optics
    assert optics is not None
    assert (optics["_rlnOpticsGroupName"], optics["_rlnVoltage"], optics["_rlnOpticsGroup"]) == (
        "grid2",
        "200.000000",
        "2",
    )
    monkeypatch.chdir(tmp_path)
    assert micrographs.find(["CtfFind/job003/micrographs_ctf.star"])[0] == Path(names[2])
    reading = Reading.of(found)
    assert [reading.read(entry[stem].path).pixel_size_A for stem in STEMS] == [1.77, 1.77, 1.0]


def test_relion_3_0_has_no_optics_table(tmp_path: Path) -> None:
    names = project(tmp_path, "Micrographs")
    rows = "\n".join(f"{name} 10000 9000 45 300 2.7 0.1 79096 14.0" for name in names)
    path = write(
        tmp_path / "micrographs_ctf.star",
        "\ndata_\n\nloop_\n_rlnMicrographName #1\n_rlnDefocusU #2\n_rlnDefocusV #3\n_rlnDefocusAngle #4\n"
        "_rlnVoltage #5\n_rlnSphericalAberration #6\n"
        "_rlnAmplitudeContrast #7\n_rlnMagnification #8\n_rlnDetectorPixelSize #9\n"
        f"{rows}\n\n",
    )
    for entry in micrographs.entries([path]):
        assert entry.pixel_size_A == pytest.approx(1.77, rel=1e-4)
        assert entry.optics == {
            "_rlnVoltage": "300",
            "_rlnSphericalAberration": "2.7",
            "_rlnAmplitudeContrast": "0.1",
            "_rlnMagnification": "79096",
            "_rlnDetectorPixelSize": "14.0",
        }
        assert entry.ctf == {"_rlnDefocusU": "10000", "_rlnDefocusV": "9000", "_rlnDefocusAngle": "45"}


def test_a_list_of_movies_gives_the_original_pixel_size(tmp_path: Path) -> None:
    names = project(tmp_path, "Movies", ".mrcs")
    rows = "".join(f"{name} 1\n" for name in names)
    text = f"{OPTICS_3_1}data_movies\n\nloop_\n_rlnMicrographMovieName\n_rlnOpticsGroup\n{rows}"
    assert {entry.pixel_size_A for entry in lists.read(write(tmp_path / "movies.star", text))} == {0.885}


def test_the_pixel_size_of_the_movies_is_not_taken_for_the_micrographs(tmp_path: Path) -> None:
    """Without the micrographs' own in the list their headers count."""
    names = project(tmp_path)
    text = relion_3_1(names).replace("_rlnMicrographPixelSize", "_rlnBeamTiltX")
    assert {entry.pixel_size_A for entry in lists.read(write(tmp_path / "micrographs.star", text))} == {None}


def test_lists_one_behind_the_other_are_read_whole(tmp_path: Path) -> None:
    """Each has its own optics groups, of the same numbers."""
    names = project(tmp_path)
    text = relion_3_1(names[:1]) + relion_3_1(names[1:]).replace("1.770000", "2.500000")
    found = lists.read(write(tmp_path / "micrographs.star", text))
    assert [(entry.name, entry.pixel_size_A) for entry in found] == list(zip(names, (1.77, 2.5, 2.5)))


def test_relion_5_list_of_picks_names_micrographs_too(tmp_path: Path) -> None:
    names = project(tmp_path, "Micrographs")
    rows = "".join(f"{name} AutoPick/job7/{name}_autopick.star\n" for name in names)
    text = f"data_coordinate_files\n\nloop_\n_rlnMicrographName #1\n_rlnMicrographCoordinates #2\n{rows}"
    path = write(tmp_path / "AutoPick/job7/autopick.star", text)
    assert [entry.name for entry in lists.read(path)] == names


# ---- cryoSPARC


def exposures(names: list[str]) -> np.ndarray:
    table = np.zeros(
        len(names),
        [
            ("uid", "<u8"), ("micrograph_blob/path", "S200"), ("micrograph_blob/idx", "<u4"),
            ("micrograph_blob/shape", "<u4", (2,)), ("micrograph_blob/psize_A", "<f4"), ("ctf/exp_group_id", "<u4"),
            ("ctf/accel_kv", "<f4"), ("ctf/cs_mm", "<f4"), ("ctf/amp_contrast", "<f4"), ("ctf/df1_A", "<f4"),
            ("ctf/df2_A", "<f4"), ("ctf/df_angle_rad", "<f4"), ("ctf/phase_shift_rad", "<f4"),
        ],
    )  # fmt: skip
    for i, name in enumerate(names):
        shape = SHAPE
        values = (1234567890123456789 + i, name, 0, shape, 1.062 + i, 7, 300, 2.7, 0.1, 12000 + i, 11000, 0.5, 0)
        table[i] = values
    return table


def put_cs(path: Path, table: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.save(file, table)
    return path


@pytest.mark.parametrize("mark", ["", ">"])
def test_cryosparc_exposures(tmp_path: Path, mark: str) -> None:
    names = project(tmp_path, "J3/motioncorrected")
    path = put_cs(tmp_path / "J12/exposures_accepted.cs", exposures([mark + name for name in names]))
    found = lists.read(path)
    assert [entry.path for entry in found] == [tmp_path / name for name in names]
    assert [entry.pixel_size_A for entry in found] == [1.062, 2.062, 3.062]
    assert [entry.uid for entry in found] == [1234567890123456789 + i for i in range(3)]
    assert found[1].shape == SHAPE
    assert found[1].ctf == {
        "_rlnDefocusU": "12001.000000",
        "_rlnDefocusV": "11000.000000",
        "_rlnDefocusAngle": "28.647890",
        "_rlnPhaseShift": "0.000000",
    }
    optics = found[1].optics
    assert optics is not None
    assert (optics["_rlnOpticsGroup"], optics["_rlnVoltage"]) == ("7", "300.000000")


def test_fields_that_a_job_only_hands_on_are_found_beside(tmp_path: Path) -> None:
    names = project(tmp_path, "J3/motioncorrected")
    table = exposures(names)
    fields = list(table.dtype.names or ())
    path = put_cs(tmp_path / "J4/exposures_ctf_estimated.cs", table[["uid", *fields[5:]]].copy())
    with pytest.raises(InputError, match="no field micrograph_blob/path"):
        lists.read(path)
    put_cs(tmp_path / "J4/J4_passthrough_exposures.cs", table[fields[:5]][::-1].copy())
    found = lists.read(path)
    assert [(entry.name, entry.ctf and entry.ctf["_rlnDefocusU"]) for entry in found] == [
        (name, f"{12000 + i}.000000") for i, name in enumerate(names)
    ]
    put_cs(tmp_path / "J4/J4_passthrough_exposures.cs", table[fields[:5]][1:].copy())
    with pytest.raises(InputError, match="no field micrograph_blob/path"):
        lists.read(path)


@pytest.mark.parametrize("field", ["micrograph_blob/psize_A", "uid", "ctf/df1_A"])
def test_a_field_of_another_type_is_refused(tmp_path: Path, field: str) -> None:
    table = exposures(project(tmp_path))
    kinds = [(name, "S3" if name == field else table.dtype[name]) for name in table.dtype.names or ()]
    path = put_cs(tmp_path / "x.cs", np.array([tuple(b"abc" if n == field else table[n][0] for n, _ in kinds)], kinds))
    with pytest.raises(InputError, match=r"x\.cs"):
        lists.read(path)


def test_a_cs_file_that_cryosparc_tools_writes_is_read(tmp_path: Path) -> None:
    dataset = pytest.importorskip("cryosparc.dataset")
    names = project(tmp_path, "J3/motioncorrected")
    table = exposures(names)
    fields = [(name, table.dtype[name].base.str, table.dtype[name].shape) for name in table.dtype.names or ()]
    fields = [
        (name, "O" if kind.startswith("|S") else kind, *([shape] if shape else [])) for name, kind, shape in fields
    ]
    theirs = dataset.Dataset.allocate(len(table), fields[1:])
    for name, *_ in fields:
        theirs[name] = table[name].astype(str) if name.endswith("/path") else table[name]
    (tmp_path / "J12").mkdir()
    theirs.save(str(tmp_path / "J12/exposures.cs"), format=dataset.NUMPY_FORMAT)
    found = lists.read(tmp_path / "J12/exposures.cs")
    assert [(entry.name, entry.pixel_size_A) for entry in found] == list(zip(names, [1.062, 2.062, 3.062]))
    theirs.save(str(tmp_path / "J12/stream.cs"), format=dataset.CSDAT_FORMAT)
    with pytest.raises(InputError, match=r"stream\.cs.*stream format"):
        lists.read(tmp_path / "J12/stream.cs")


def test_no_code_is_run_and_no_memory_taken_for_a_bad_cs_file(tmp_path: Path) -> None:
    project(tmp_path)
    marker = tmp_path / "run"

    class Evil:
        def __reduce__(self) -> tuple:
            return Path.touch, (marker,)

    path = tmp_path / "evil.cs"
    with path.open("wb") as file, warnings.catch_warnings():
        np.save(file, np.array([Evil()], object), allow_pickle=True)
    with pytest.raises(InputError, match="pickled Python objects"):
        lists.read(path)
    head = np.array([("a", "b")], [("uid", "O"), ("micrograph_blob/path", "O")])
    with path.open("wb") as file:
        np.save(file, head, allow_pickle=True)
    with pytest.raises(InputError, match="pickled Python objects"):
        lists.read(path)
    path.write_bytes(pickle.dumps(Evil()))
    assert not marker.exists()
    good = put_cs(path, exposures(["a.mrc"])).read_bytes()
    path.write_bytes(good.replace(b"'shape': (1,)", b"'shape': (9999999999999,)".ljust(13))[: len(good)])
    with pytest.raises(InputError):
        lists.read(path)
    # A header of 1.5 GB: found by damaging files at random.
    path.write_bytes(npy.MAGIC + b"\2\0" + (1_500_000_000).to_bytes(4, "little") + good[10:])
    tracemalloc.start()
    with pytest.raises(InputError, match="header"):
        lists.read(path)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    for keep in (6, 7, 10, 100, len(good) - 1):
        path.write_bytes(good[:keep])
        with pytest.raises(InputError, match=r"evil\.cs"):
            lists.read(path)


# ---- text, and where the files are


def test_a_text_list_with_comments_blanks_windows_line_ends_and_a_mark(tmp_path: Path) -> None:
    names = project(tmp_path, "my pictures")
    lines = ["# mine", "", *names[:2], f'  "{names[2]}"  ', "#no.mrc", str(tmp_path / names[0])]
    path = tmp_path / "lists/mics.txt"
    path.parent.mkdir()
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert [entry.path for entry in lists.read(path)] == [tmp_path / name for name in [*names, names[0]]]
    assert len(micrographs.find([path])) == 3


def test_file_names_of_any_encoding_are_found(tmp_path: Path) -> None:
    folder = str(tmp_path).encode() + b"/f\xfcr"
    path = Path(folder.decode("utf-8", "surrogateescape"))
    mrc.write(path / "a.mrc", np.eye(20))
    (tmp_path / "list.txt").write_bytes(b"f\xfcr/a.mrc\n")
    assert lists.read(tmp_path / "list.txt")[0].path.is_file()


def test_paths_are_looked_for_upward_and_where_one_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = project(tmp_path / "project")
    deep = write(tmp_path / "project/Select/job9/micrographs.star", relion_3_1(names))
    away = write(tmp_path / "elsewhere/list.txt", "\n".join(names))
    assert lists.read(deep)[0].path == tmp_path / "project" / names[0]
    with pytest.raises(InputError, match=r"none of its 3 .* 'MotionCorr/job002/Movies/mic2\.mrc'; tried") as caught:
        lists.read(away)
    assert str(tmp_path / "elsewhere") in str(caught.value)
    monkeypatch.chdir(tmp_path / "project")
    assert lists.read(away)[0].path == Path(names[0])


def test_a_missing_micrograph_among_others_is_left_to_be_reported(tmp_path: Path) -> None:
    names = project(tmp_path)
    (tmp_path / names[1]).unlink()
    found = lists.read(write(tmp_path / "list.txt", "\n".join(names)))
    assert [entry.path for entry in found] == [tmp_path / name for name in names]


def test_lists_and_files_join_and_mixed_sizes_stay_apart(tmp_path: Path) -> None:
    names = project(tmp_path)
    path = write(tmp_path / "micrographs.star", relion_3_1(names[1:]))
    mrc.write(tmp_path / "more/apart.mrc", np.eye(20), 0.9)
    found = micrographs.entries([path, tmp_path / "more"])
    reading = Reading.of(found)
    assert [(entry.path.stem, reading.read(entry.path).pixel_size_A) for entry in found] == [
        ("00123", 1.77),
        ("mic10", 1.77),
        ("apart", 0.9),
    ]
    assert {Reading.of(found, 2.5).read(entry.path).pixel_size_A for entry in found} == {2.5}
    assert Reading.of(found[:2]) == Reading(1.77)


BAD = {
    "particles": ("data_\nloop_\n_rlnCoordinateX\n_rlnMicrographName\n1 a.mrc\n", "has particles"),
    "no names": ("data_\nloop_\n_rlnDefocusU\n1\n", "no column _rlnMicrographName"),
    "no rows": ("data_\nloop_\n_rlnMicrographName\n", "lists no micrograph"),
    "short row": ("data_\nloop_\n_rlnMicrographName\n_rlnDefocusU\na.mrc\n", "line 5 has 1 values for 2"),
    "no group": (f"{OPTICS_3_1}data_m\nloop_\n_rlnMicrographName\n_rlnOpticsGroup\na.mrc 3\n", "optics group 3"),
    "no group column": (
        "data_optics\nloop_\n_rlnVoltage\n300\ndata_m\nloop_\n_rlnMicrographName\na.mrc\n",
        "no column _rlnOpticsGroup",
    ),
    "bad size": (
        f"{OPTICS_3_1.replace('1.770000', 'large')}data_m\nloop_\n_rlnMicrographName\n_rlnOpticsGroup\na.mrc 1\n",
        "_rlnMicrographPixelSize of line 20 is 'large'",
    ),
    "comments only": ("# nothing\n\n", "lists no micrograph"),
    "coordinates": ("x,y\n1,2\n", "none of its 2 micrographs exists, e.g. 'x,y'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_list_is_refused_with_the_reason(tmp_path: Path, case: str) -> None:
    text, reason = BAD[case]
    path = write(tmp_path / "list.star", text)
    with pytest.raises(InputError, match=reason) as caught:
        micrographs.entries([path])
    assert str(path) in str(caught.value)
    assert caught.value.remedy


def test_what_is_a_list_is_told_by_its_content(tmp_path: Path) -> None:
    names = project(tmp_path)
    for name, content in (("a.dat", "\n".join(names)), ("b", relion_3_1(names))):
        assert lists.is_list(write(tmp_path / name, content))
    for i, content in enumerate((b"", b" \n", b"\x89PNG\r\n\x1a\n", b"II*\0", b"a\0b", b"\x1f\x8b\x08")):
        path = tmp_path / str(i)
        path.write_bytes(content)
        assert not lists.is_list(path)
    assert not lists.is_list(tmp_path / "missing")
    assert not lists.is_list(tmp_path / names[0])


def test_zero_and_nan_pixel_sizes_are_unknown(tmp_path: Path) -> None:
    names = project(tmp_path)
    for size in ("0", "nan", "-1", "inf"):
        text = f"data_\nloop_\n_rlnMicrographName\n_rlnMicrographPixelSize\n{names[0]} {size}\n"
        assert lists.read(write(tmp_path / "list.star", text))[0].pixel_size_A is None
    table = exposures(names)
    table["micrograph_blob/psize_A"] = [0, np.nan, -1]
    assert {entry.pixel_size_A for entry in lists.read(put_cs(tmp_path / "a.cs", table))} == {None}
