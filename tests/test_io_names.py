"""Files find their micrograph in spite of what programs do to names, and nothing is guessed."""

import random
import re
import time
from pathlib import Path

import pytest

from upicker.errors import InputError
from upicker.io.names import Matches, is_picture, match, plain

FOIL = "FoilHole_19649013_Data_19648054_19648056_20230107_043305"
UID = "001234567890123456789"


@pytest.mark.parametrize(
    ("name", "candidate"),
    [
        (f"{UID}_{FOIL}_fractions_patch_aligned_doseweighted", f"{FOIL}_fractions.mrc"),
        (f"J3/motioncorrected/{UID}_{FOIL}_EER_patch_aligned_doseweighted.mrc", f"job002/Movies/{FOIL}_EER.mrc"),
        (f"{UID}_{FOIL}_Fractions_rigid_aligned", f"{FOIL}.tiff"),
        (f"{FOIL}_EER", f"{FOIL}_DW.mrc"),
        (f"{UID}_{FOIL}", f"{FOIL}.mrc.gz"),
        ("14sep05c_00024sq_00003hl_00002es_c_DW", "14sep05c_00024sq_00003hl_00002es_c.csv"),
        ("mic_7", "mic_0007.mrc"),
        ("00123", "123.mrc"),
        ("00123.mrc", "picks/00123_autopick.star"),
        ("Falcon_2012_06_12-14_33_35_0", "falcon_2012_06_12-14_33_35_0.JPG"),
        ("a.b.c", "a.b.c.mrc"),
        ("mic_noDW", "mic_DW.mrc"),
        (r"D:\data\mic1.mrc", "/home/me/mic1.box"),
        ("stack_0001-aligned", "stack_0001.mrc"),
    ],
)  # fmt: skip
def test_the_same_micrograph_is_recognised(name: str, candidate: str) -> None:
    found = match([name, "quite_another"], [candidate, "something_else.mrc"])
    assert found.pairs == {name: candidate}
    assert (found.unmatched_names, found.unmatched_candidates) == (["quite_another"], ["something_else.mrc"])
    assert not found.ambiguous
    assert match([candidate], [name]).pairs == {candidate: name}


@pytest.mark.parametrize(
    ("name", "candidate"),
    [
        ("mic1", "mic10"),
        ("mic1", "mic2"),
        ("20230107_0433_a", "a"),
        ("s_1.05", "s_1.5"),
        (UID, f"{UID[:-1]}8"),
        ("mic", "mic_dwarf"),
        ("mic_a", "mic_b"),
        ("DW", "EER"),
        ("1", "10"),
        ("0", "00"),
    ],
)
def test_others_are_not(name: str, candidate: str) -> None:
    if (name, candidate) == ("0", "00"):  # One number, written in two ways.
        assert match([name], [candidate]).pairs
    else:
        assert not match([name], [candidate]).pairs


def test_the_whole_name_counts_first() -> None:
    files = [Path("m/a.mrc"), Path("m/a_DW.mrc"), Path("m/a_0.mrc"), Path("m/a_00.mrc")]
    found = match(["a_DW", "a", "a_00", "a_0", "a_rigid_aligned"], files)
    assert found.pairs == {"a": files[0], "a_DW": files[1], "a_0": files[2], "a_00": files[3]}
    assert (found.unmatched_names, found.unmatched_candidates) == (["a_rigid_aligned"], [])


def test_a_choice_is_refused_with_the_candidates() -> None:
    found = match(["a", "b"], ["a_DW.mrc", "a_noDW.mrc", "b.mrc"])
    assert (found.pairs, found.ambiguous) == ({"b": "b.mrc"}, {"a": ["a_DW.mrc", "a_noDW.mrc"]})
    assert (found.unmatched_names, found.unmatched_candidates) == ([], [])
    with pytest.raises(
        InputError, match=re.escape("picks: names do not tell what belongs together: 'a' and a_DW.mrc or")
    ):
        found.refuse_ambiguous("picks")
    other = match(["a_DW", "a_noDW"], ["a.mrc"])
    assert other.ambiguous == {"a_DW": ["a.mrc"], "a_noDW": ["a.mrc"]}
    with pytest.raises(InputError, match=r"'a_DW' or 'a_noDW' and a\.mrc"):
        other.refuse_ambiguous("picks")
    match(["a"], ["a.mrc"]).refuse_ambiguous("picks")


def test_folders_tell_equal_names_apart_where_they_can() -> None:
    files = [Path("old/grid1/001.mrc"), Path("old/grid2/001.mrc")]
    found = match(["new/data/grid2/001.mrc", "new/data/grid1/001.mrc"], files)
    assert found.pairs == {"new/data/grid1/001.mrc": files[0], "new/data/grid2/001.mrc": files[1]}
    assert match(["x/grid2/001_DW"], files).pairs == {"x/grid2/001_DW": files[1]}
    assert match(["x/grid2/001_DW"], files).unmatched_candidates == [files[0]]
    assert match(["001"], files).ambiguous == {"001": files}
    assert match(["a/001", "b/001"], ["c/001.mrc"]).ambiguous.keys() == {"a/001", "b/001"}


@pytest.mark.parametrize("shuffled", [0, 1])
def test_the_order_does_not_matter(shuffled: int) -> None:
    names = [f"{UID[:-3]}{i:03d}_{FOIL}_{i}_patch_aligned" for i in range(50)] + ["x", "y_DW", "z"]
    files = [f"{FOIL}_{i:05d}.mrc" for i in range(10, 60)] + ["x.mrc", "x_DW.mrc", "y.mrc", "z_DW.mrc", "z_noDW.mrc"]
    expected = match(names, files)
    assert len(expected.pairs) == 42
    generator = random.Random(shuffled)
    generator.shuffle(names)
    generator.shuffle(files)
    found = match(names, files)
    assert found.pairs == expected.pairs
    assert {name: sorted(map(str, same)) for name, same in found.ambiguous.items()} == {"z": ["z_DW.mrc", "z_noDW.mrc"]}
    assert sorted(found.unmatched_names) == sorted(expected.unmatched_names)
    everything = {*found.pairs.values(), *found.unmatched_candidates, *found.ambiguous["z"]}
    assert everything == set(files)


def test_ten_thousand_names_take_less_than_a_second() -> None:
    names = [f"{10**20 + i}_{FOIL}_{i:06d}_fractions_patch_aligned_doseweighted" for i in range(10_000)]
    files = [Path(f"Movies/{FOIL}_{i}_fractions.mrc") for i in range(10_000)]
    start = time.process_time()
    assert len(match(names, files).pairs) == 10_000
    assert time.process_time() - start < 1.0
    # All of one name: nothing to tell them apart, and no reason to compare each with each.
    assert len(match([f"{i}/a" for i in range(3000)], [f"{i}/x/a.mrc" for i in range(3000)]).ambiguous) == 3000


def test_nothing_gives_nothing() -> None:
    assert match([], []) == Matches()
    assert match(["a", "a"], []).unmatched_names == ["a"]


def test_plain_names_and_pictures() -> None:
    assert [plain(name) for name in ("d/a.mrc", "a.mrc.gz", "a.b.MRCS.BZ2", "mic.00.mrc", "notes.gz", "a")] == [
        "a",
        "a",
        "a.b",
        "mic.00",
        "notes",
        "a",
    ]
    assert all(is_picture(name) for name in ("a.MRC", "a.mrc.gz", "a.eer", "a.tif.bz2"))
    assert not any(is_picture(name) for name in ("a.star", "a.gz", "a.txt.gz", "mrc", "a.cs"))
