"""Lists of some micrographs: RELION's and cryoSPARC's rows as they were, and lists made of files alone."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml

from upicker.errors import ConfigError, collected_warnings
from upicker.io import kept, lists, micrographs, mrc, star
from upicker.io.lists import Listed

HEAD = "data_optics\nloop_\n_rlnOpticsGroup\n_rlnOpticsGroupName\n_rlnVoltage\n_rlnBeamTiltX\n"
OPTICS = f"{HEAD}1 a 300 0.125\n2 b 200 x\n"
MICS = "data_micrographs\nloop_\n_rlnMicrographName\n_rlnCtfImage\n_rlnOpticsGroup\n"


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The current folder, with four micrographs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "M").mkdir()
    for number in range(4):
        mrc.write(tmp_path / f"M/m{number}.mrc", np.random.default_rng(number).normal(size=(20, 30)), 1.5)
    return tmp_path


def chosen(given: list[str], *names: str) -> list[Listed]:
    return [entry for entry in micrographs.entries(given) if entry.path.stem in names]


def test_all_columns_and_tables_of_a_star_list_are_kept(here):
    rows = "".join(f"M/m{number}.mrc CtfFind/m{number}.ctf:mrc {1 + number // 2}\n" for number in range(4))
    Path("in.star").write_text(f"# version 30001\n\n{OPTICS}\n# version 30001\n\n{MICS}{rows}\n")
    kept.write(Path("out.star"), chosen(["in.star"], "m1", "m2"), ["in.star"])
    before, after = (star.parse(Path(name).read_text(), name) for name in ("in.star", "out.star"))
    assert [(one.name, one.columns) for one in after] == [(one.name, one.columns) for one in before]
    assert after[0].rows == before[0].rows
    assert after[1].rows == before[1].rows[1:3]


@pytest.mark.relion
def test_relion_reads_the_kept_rows(here, relion):
    rows = "".join(f"M/m{number}.mrc c{number} 1\n" for number in range(4))
    head = HEAD.replace("_rlnBeamTiltX", "_rlnSphericalAberration\n_rlnAmplitudeContrast\n_rlnMicrographPixelSize")
    Path("in.star").write_text(f"{head}1 a 300 2.7 0.1 1.5\n\n{MICS}{rows}\n")
    kept.write(Path("out.star"), chosen(["in.star"], "m1", "m2"), ["in.star"])
    command = ["relion_star_handler", "--i", "out.star", "--o", "read.star", "--combine"]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "WARN" not in said.stdout + said.stderr
    assert [entry.name for entry in lists.read(Path("read.star"))] == ["M/m1.mrc", "M/m2.mrc"]


def test_files_alone_get_their_pixel_size(here):
    entries = chosen(["M"], "m0", "m3")
    kept.write(Path("out.star"), entries, ["M"], {entry.path: 1.5 for entry in entries})
    found = lists.read(Path("out.star"))
    assert [(entry.name, entry.pixel_size_A) for entry in found] == [("M/m0.mrc", 1.5), ("M/m3.mrc", 1.5)]
    kept.write(Path("bare.star"), entries, ["M"])
    assert [entry.name for entry in lists.read(Path("bare.star"))] == ["M/m0.mrc", "M/m3.mrc"]
    assert "optics" not in Path("bare.star").read_text()


def test_two_lists_become_one_with_the_optics_of_both(here):
    for name, numbers, optics in (("a", (0, 1), "1 a 300 0.125"), ("b", (2, 3), "1 b 200 0.25")):
        rows = "".join(f"M/m{number}.mrc c{number} 1\n" for number in numbers)
        Path(f"{name}.star").write_text(f"{HEAD}{optics}\n\n{MICS}{rows}\n")
    given = ["a.star", "b.star"]
    kept.write(Path("out.star"), chosen(given, "m1", "m2"), given)
    found = {entry.name: dict(entry.optics or {}) for entry in lists.read(Path("out.star"))}
    assert found["M/m1.mrc"] | {"_rlnOpticsGroup": ""} == {
        "_rlnOpticsGroup": "", "_rlnOpticsGroupName": "a", "_rlnVoltage": "300", "_rlnBeamTiltX": "0.125",
    }  # fmt: skip
    assert found["M/m2.mrc"]["_rlnVoltage"] == "200"


def test_columns_that_only_some_have_are_left_out_with_a_warning(here):
    Path("a.star").write_text(f"{HEAD}1 a 300 0.125\n\n{MICS}M/m0.mrc c 1\n")
    given = ["a.star", "M/m2.mrc"]
    entries = micrographs.entries(given)
    with collected_warnings() as noticed:
        kept.write(Path("out.star"), entries, given, {entry.path: 1.5 for entry in entries})
    assert "_rlnBeamTiltX" in noticed[0].found
    assert [(one.name, one.pixel_size_A) for one in lists.read(Path("out.star"))] == [
        ("M/m0.mrc", 1.5),
        ("M/m2.mrc", 1.5),
    ]


def exposures(path: Path) -> np.ndarray:
    dtype = [("uid", "<u8"), ("micrograph_blob/path", "S20"), ("micrograph_blob/psize_A", "<f4"), ("ctf/df1_A", "<f4")]
    rows = np.array([(2**63 + n, f">M/m{n}.mrc", 1.5, 1e4 + n) for n in range(4)], dtype)
    with path.open("wb") as file:
        np.lib.format.write_array(file, rows, allow_pickle=False)
    return rows


def test_exposures_of_cryosparc_are_kept_whole_with_a_group(here):
    rows = exposures(here / "in.cs")
    kept.write(Path("out.cs"), chosen(["in.cs"], "m0", "m2"), ["in.cs"])
    np.testing.assert_array_equal(np.load("out.cs"), rows[[0, 2]])
    group = yaml.safe_load(Path("out.csg").read_text())
    assert group["group"]["type"] == "exposure"
    assert group["results"]["micrograph_blob"] == {
        "metafile": ">out.cs", "num_items": 2, "type": "exposure.micrograph_blob",
    }  # fmt: skip
    assert set(group["results"]) == {"micrograph_blob", "ctf"}


def test_exposures_become_relions_list(here):
    exposures(here / "in.cs")
    kept.write(Path("out.star"), chosen(["in.cs"], "m1"), ["in.cs"])
    (found,) = lists.read(Path("out.star"))
    assert (found.name, found.pixel_size_A) == ("M/m1.mrc", 1.5)
    assert found.ctf is not None
    assert float(found.ctf["_rlnDefocusU"]) == 10001


@pytest.mark.parametrize(("name", "content"), [("o.txt", "M/m1.mrc\n"), ("o.csv", "micrograph\nM/m1.mrc\n")])
def test_plain_lists(here, name, content):
    kept.write(Path(name), chosen(["M"], "m1"), ["M"])
    assert Path(name).read_text() == content


@pytest.mark.parametrize(("name", "words"), [("o.cs", "knows the uid"), ("o.json", "ends in none of")])
def test_what_cannot_be_written_is_refused_before_anything_is_done(here, name, words):
    with pytest.raises(ConfigError, match=words):
        kept.check(Path(name), ["M"])
    assert not Path(name).exists()


def test_a_list_of_nothing_has_no_rows(here):
    for name in ("o.star", "o.txt"):
        kept.write(Path(name), [], ["M"])
    assert star.parse(Path("o.star").read_text(), "o.star")[-1].rows == []
    assert Path("o.txt").read_text() == ""
