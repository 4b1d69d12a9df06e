"""Files find their micrograph in spite of what programs do to names, and nothing is guessed."""

import random
import re
from pathlib import Path

import pytest
from work import calls

from upicker.errors import InputError
from upicker.io.pairing import EXACT, Endings, Pairing, differing, match, pair, pair_folder, unmatched

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
        ("tab", "tab.tif.mrc"),
    ],
)  # fmt: skip
def test_the_same_micrograph_is_recognised(name: str, candidate: str) -> None:
    found = match([name, "quite_another"], [candidate, "something_else.mrc"])
    assert found.pairs == {name: candidate}
    assert (found.unmatched_micrographs, found.unmatched_files) == (["quite_another"], ["something_else.mrc"])
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
        ("mic_dwarf", "mic"),
        ("mic", "mic_2"),
        ("mic", "mic.2"),
        ("mic", "micdwarf"),
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
    assert (found.unmatched_micrographs, found.unmatched_files) == (["a_rigid_aligned"], [])


@pytest.mark.parametrize(
    "names", [["tab.tif", "x.mrc", "y.tif", "y"], ["tab.tif.mrc", "x.mrc.mrc", "y.tif.mrc", "y.tif"]]
)
@pytest.mark.parametrize("folder", ["", "old/"])
def test_what_is_named_after_a_micrograph_belongs_to_it(names: list[str], folder: str) -> None:
    # Stems of files that the package wrote, and names in lists; y.tif alone may mean either micrograph.
    paths = [Path("m/tab.tif.mrc"), Path("m/x.mrc.mrc"), Path("m/y.tif.mrc"), Path("m/y.tif")]
    assert match(paths, [f"{folder}{name}" for name in names]).pairs == {
        path: f"{folder}{name}" for path, name in zip(paths, names)
    }
    assert match(names, names).pairs == dict(zip(names, names))
    assert match(names, paths).pairs == dict(zip(names, paths))


FRACTIONS = f"{FOIL}_fractions"


@pytest.mark.parametrize(
    "ending",
    [
        "_extract", "_automatch", "_topazpicks", "_BoxNet2_20180602", "_aligned_mic_DW_autopick", "_Sumcorr2_DW",
        "_checked", "_aligned_DW_patch_aligned_doseweighted_mrc", "-cleaned", ".picked_2",
    ],
)  # fmt: skip
@pytest.mark.parametrize("number", ["", f"{UID}_"])
def test_endings_that_are_not_known_are_seen_through_and_told(ending: str, number: str) -> None:
    paths = [Path(f"mics/{FRACTIONS}.mrc"), Path("mics/other.mrc")]
    found = pair(paths, {f"{number}{FRACTIONS}{ending}": 1, f"Other{ending}": 2}, "picks")
    assert found.pairs == {paths[0]: 1, paths[1]: 2}
    assert set(found.endings) == {ending}
    assert differing(found).startswith(f"names differ by '{ending}': ")


def test_a_name_that_begins_with_several_belongs_to_the_longest_and_exact_names_count_first() -> None:
    found = match(["mic_a", "mic_a_b", "mic_c"], ["mic_a_extract", "mic_a_b_extract", "mic_c"])
    assert found.pairs == {"mic_a": "mic_a_extract", "mic_a_b": "mic_a_b_extract", "mic_c": "mic_c"}
    assert found.endings == ("_extract",)
    # A second file of a micrograph is not given to another one.
    found = match(["mic_a", "mic_a_b"], ["mic_a_b", "mic_a_b_extract"])
    assert (found.pairs, found.unmatched_files) == ({"mic_a_b": "mic_a_b"}, ["mic_a_b_extract"])


def test_two_files_that_begin_with_one_name_are_left_alone() -> None:
    found = match(["mic", "b"], ["mic_good", "mic_bad", "b"])
    assert (found.pairs, found.unmatched_micrographs) == ({"b": "b"}, ["mic"])
    assert (found.unmatched_files, found.ambiguous, differing(found)) == (["mic_good", "mic_bad"], {}, "")
    assert not match(["mic"], ["mic_good"], EXACT).pairs


def test_an_ending_may_be_given() -> None:
    given = Endings("_2nd")
    names = ["a_2nd", "b_2ND.star", "c", f"{UID}_d_2nd"]
    found = match(["a.mrc", "b.mrc", "c_2nd.mrc", "d_DW.mrc"], names, given)
    assert list(found.pairs.values()) == names
    found = match(["a.mrc", "a_2nd.mrc"], ["a_2nd"], given)
    assert (found.pairs, found.unmatched_micrographs) == ({"a_2nd.mrc": "a_2nd"}, ["a.mrc"])
    with pytest.raises(InputError, match=r"names differ by '_2nd'\. If they belong together, give --suffix _2nd"):
        pair(["a.mrc", "b.mrc"], {"a_2nd": 1}, "picks")


def test_a_choice_is_refused_with_the_candidates() -> None:
    found = match(["a", "b"], ["a_DW.mrc", "a_noDW.mrc", "b.mrc"])
    assert (found.pairs, found.ambiguous) == ({"b": "b.mrc"}, {"a": ["a_DW.mrc", "a_noDW.mrc"]})
    assert (found.unmatched_micrographs, found.unmatched_files) == ([], [])
    with pytest.raises(InputError, match=re.escape("picks: names are ambiguous: 'a_DW.mrc' or 'a_noDW.mrc' may")):
        pair(["a", "b"], dict.fromkeys(["a_DW.mrc", "a_noDW.mrc", "b.mrc"]), "picks", required=False)
    other = match(["a_DW", "a_noDW"], ["a.mrc"])
    assert other.ambiguous == {"a_DW": ["a.mrc"], "a_noDW": ["a.mrc"]}
    with pytest.raises(InputError, match=r"'a\.mrc' may belong to 'a_DW' or 'a_noDW'\. Name the files"):
        pair(["a_DW", "a_noDW"], {"a.mrc": 1}, "picks")


def test_pairs_follow_the_micrographs_and_hold_what_the_names_stand_for() -> None:
    paths = [Path("mics/c.mrc"), Path("mics/b.mrc"), Path("mics/a.mrc"), Path("mics/b.mrc")]
    found = pair(paths, {"a": 1, "b": 2, "z": 3}, "picks")
    assert list(found.pairs.items()) == [(paths[1], 2), (paths[2], 1)]
    assert (found.unmatched_micrographs, found.unmatched_files, found.ambiguous) == ([paths[0]], [3], {})


def test_pairs_with_the_files_of_a_folder_are_made_by_their_stems(tmp_path: Path) -> None:
    for name in ("a.csv", "b_autopick.star", "z.csv"):
        (tmp_path / name).write_text("data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n" if "star" in name else "x,y\n")
    found = pair_folder([Path(f"mics/{stem}.mrc") for stem in "abc"], tmp_path)
    assert found.pairs == {Path("mics/a.mrc"): tmp_path / "a.csv", Path("mics/b.mrc"): tmp_path / "b_autopick.star"}
    assert (found.unmatched_micrographs, found.unmatched_files) == ([Path("mics/c.mrc")], [tmp_path / "z.csv"])
    with pytest.raises(InputError, match="no such folder"):
        pair_folder(["a"], tmp_path / "none")


def test_no_pair_at_all_is_an_error_that_shows_both_names_unless_none_is_needed() -> None:
    with pytest.raises(InputError, match=r"picks: none of the 1 names \(e\.g\. 'foil_7'\).*2 micro.*'a.mrc'"):
        pair([Path("m/a.mrc"), Path("m/b.mrc")], {"foil_7": 1}, "picks")
    with pytest.raises(InputError, match="no coordinate files for the 1 micrographs"):
        pair(["a"], {}, "picks")
    with pytest.raises(InputError, match="matches one of the 0 micrographs"):
        pair([], {"a": 1}, "picks")
    assert pair(["a"], {"b": 1}, "picks", required=False) == Pairing({}, ["a"], [1])


def test_what_is_left_over_is_one_sentence() -> None:
    assert unmatched([Path("d/a.csv")], "pick file", "a micrograph") == "1 pick file without a micrograph: a.csv"
    many = unmatched([f"m{i}" for i in range(12)], "micrograph", "picks, left out")
    assert many.startswith("12 micrographs without picks, left out: m0, m1, ")
    assert many.endswith("m9 and 2 more")


def test_folders_tell_equal_names_apart_where_they_can() -> None:
    files = [Path("old/grid1/001.mrc"), Path("old/grid2/001.mrc")]
    found = match(["new/data/grid2/001.mrc", "new/data/grid1/001.mrc"], files)
    assert found.pairs == {"new/data/grid1/001.mrc": files[0], "new/data/grid2/001.mrc": files[1]}
    assert match(["x/grid2/001_DW"], files).pairs == {"x/grid2/001_DW": files[1]}
    assert match(["x/grid2/001_DW"], files).unmatched_files == [files[0]]
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
    assert sorted(found.unmatched_micrographs) == sorted(expected.unmatched_micrographs)
    everything = {*found.pairs.values(), *found.unmatched_files, *found.ambiguous["z"]}
    assert everything == set(files)


def test_the_work_grows_with_the_names_not_with_their_pairs() -> None:
    def different(count: int) -> None:
        names = [f"{10**20 + i}_{FOIL}_{i:06d}_fractions_patch_aligned_doseweighted" for i in range(count)]
        files = [Path(f"Movies/{FOIL}_{i}_fractions.mrc") for i in range(count)]
        assert len(match(names, files).pairs) == count

    def equal(count: int) -> None:
        """All of one name: nothing tells them apart, and each is not compared with each."""
        names, files = [f"{i}/a" for i in range(count)], [f"{i}/x/a.mrc" for i in range(count)]
        assert len(match(names, files).ambiguous) == count

    for case in (different, equal):
        assert calls(lambda case=case: case(2000)) < 2.2 * calls(lambda case=case: case(1000))


def test_nothing_gives_nothing() -> None:
    assert match([], []) == Pairing()
    assert match(["a", "a"], []).unmatched_micrographs == ["a"]


def test_a_number_in_front_is_seen_through_and_told() -> None:
    names = ["M/000123456_mic1_patch_aligned_doseweighted.mrc", "M/000123457_mic2_patch_aligned_doseweighted.mrc"]
    for ours, theirs in ((names, ["mic1.csv", "mic2.csv"]), (["mic1.mrc", "mic2.mrc"], names)):
        found = match(ours, theirs)
        assert found.pairs == dict(zip(ours, theirs))
        assert differing(found) == "names differ by '000123456_' or '000123457_': numbers in front were left out"
        assert match(ours, theirs, EXACT).pairs == {}


@pytest.mark.parametrize(
    ("micrographs", "files"),
    [
        (["000123_mic1.mrc", "000124_mic1.mrc"], ["mic1.csv"]),
        (["000123_mic1.mrc", "000124_mic1.mrc"], ["000123_mic1.csv", "mic1.csv"]),
        (["000123_mic1.mrc"], ["000124_mic1.csv"]),
        (["123456_mic1.mrc"], ["mic1.csv"]),
        (["000123_1.mrc"], ["1.csv"]),
    ],
)
def test_a_number_in_front_is_not_guessed(micrographs: list[str], files: list[str]) -> None:
    found = match(micrographs, files)
    assert micrographs[-1] in found.unmatched_micrographs
    assert files[-1] in found.unmatched_files
