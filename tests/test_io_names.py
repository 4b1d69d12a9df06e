"""The bare name of a micrograph's files, and which suffixes are those of micrographs."""

from pathlib import Path

from upicker.io.names import distinct, is_micrograph_name, plain


def test_plain_names_and_pictures() -> None:
    assert [plain(name) for name in ("d/a.mrc", "a.mrc.gz", "a.b.MRCS.BZ2", "mic.00.mrc", "notes.gz", "a")] == [
        "a",
        "a",
        "a.b",
        "mic.00",
        "notes",
        "a",
    ]
    assert all(is_micrograph_name(name) for name in ("a.MRC", "a.mrc.gz", "a.eer", "a.tif.bz2"))
    assert not any(is_micrograph_name(name) for name in ("a.star", "a.gz", "a.txt.gz", "mrc", "a.cs"))


def test_equal_names_get_as_many_folders_as_tell_them_apart() -> None:
    paths = [Path(name) for name in ("M/D1/001.mrc", "M/D2/001.mrc", "M/D1/a.mrc", "x/1/b.mrc", "y/1/b.mrc", "b.mrc")]
    found = distinct(paths)
    assert [found[path] for path in paths[:5]] == ["D1/001", "D2/001", "a", "x/1/b", "y/1/b"]
    assert found[paths[5]].endswith("/b")
    assert len({*found.values()}) == len(paths)
    assert distinct([Path("/a.mrc"), Path("/d/a.mrc")]) == {Path("/a.mrc"): "a", Path("/d/a.mrc"): "d/a"}
