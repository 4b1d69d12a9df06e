"""The bare name of a micrograph's files, and which suffixes are those of micrographs."""

from upicker.io.names import is_micrograph_name, plain


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
