"""Files appear whole or not at all."""

from pathlib import Path

import pytest

from upicker.errors import OutputError
from upicker.io.atomic import replacing


def test_the_file_appears_at_the_end_in_folders_made_for_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "picks.star"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == path.parent
        assert temporary.suffix == ".star"
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_keeps_the_previous_file_and_leaves_no_other(tmp_path: Path, error: type) -> None:
    path = tmp_path / "picks.csv"
    path.write_text("before")

    def interrupted() -> None:
        with replacing(path) as temporary:
            temporary.write_text("ha")
            raise error

    with pytest.raises(error):
        interrupted()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_an_output_error_that_names_the_file(tmp_path: Path) -> None:
    def full() -> None:
        with replacing(tmp_path / "picks.csv") as temporary:
            temporary.write_text("ha")
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"picks\.csv.*No space left"):
        full()
    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_is_a_file_and_a_target_that_is_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "picks.csv", tmp_path):
        with pytest.raises(OutputError, match=str(path)), replacing(path) as temporary:
            temporary.write_text("ha")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_device_is_never_replaced() -> None:
    null = Path("/dev/null")
    with pytest.raises(OutputError, match="/dev/null"), replacing(null):
        pass
    assert not null.is_file()
