"""STAR files as other programs write them: names that look like something else, and blocks one behind the other."""

from pathlib import Path

import pytest

from upicker.errors import CoordinatesError, OutputError
from upicker.io import lists, star

HEAD = "data_particles\n\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\n"
ONE_COLUMN = "data_\n\nloop_\n_rlnMicrographName #1\n"
ODD = ("data_2023/a.mrc", "data_a.mrc", "data_", "loop_", "loop_1.mrc", "save_a.mrc", "global_", "stop_", "_a.mrc", "_")


@pytest.mark.parametrize("name", ODD)
def test_a_line_of_several_words_in_a_loop_is_a_row_whatever_it_begins_with(name: str) -> None:
    rows = [f"{name} 10 20", "b.mrc 30 40", f"{name} 50 60"]
    for lines in (rows, rows[::-1], rows[1:]):
        (table,) = star.parse(HEAD + "\n".join(lines) + "\n", "a.star")
        assert table.rows == [line.split() for line in lines]


def test_a_row_that_begins_like_a_label_ends_the_labels() -> None:
    text = HEAD.replace("#", "") + "_a.mrc 10 20\n_b.mrc 30 40\n"
    (table,) = star.parse(text, "a.star")
    assert table.columns == ["_rlnMicrographName", "_rlnCoordinateX", "_rlnCoordinateY"]
    assert [row[0] for row in table.rows] == ["_a.mrc", "_b.mrc"]


def test_names_in_a_loop_of_one_column_and_the_block_behind_it() -> None:
    names = "data_2023/a.mrc\ndata_2023/b.mrc\n"
    for behind, count in (
        ("", 1),
        ("\n# version 30001\n\ndata_other\n\nloop_\n_rlnX #1\n1\n", 2),
        ("\ndata_other\n\n_rlnX 1\n", 2),
    ):
        tables = star.parse(ONE_COLUMN + names + behind, "a.star")
        assert tables[0].rows == [["data_2023/a.mrc"], ["data_2023/b.mrc"]]
        assert [table.name for table in tables] == ["", "other"][:count]


def test_a_block_with_fewer_words_than_columns_is_a_block() -> None:
    first, second = star.parse(HEAD + "a.mrc 1 2\ndata_next\nloop_\n_rlnX\n1\n", "a.star")
    assert (first.rows, second.name, second.rows) == ([["a.mrc", "1", "2"]], "next", [["1"]])
    assert (first.start, second.start) == (1, 8)
    with pytest.raises(CoordinatesError, match="line 7 has 2 values for 3 columns"):
        star.parse(HEAD + "data_x 1\n", "a.star")


@pytest.mark.parametrize("name", [*ODD, "DATA_1", "Save_1", "#a", "'q", '"q', "a b", 'a "b', "00123", ""])
def test_what_is_written_is_read_again(name: str) -> None:
    (table,) = star.parse(star.format_table("x", ("_a", "_b"), [(name, 1.5)]), "a.star")
    assert table.rows == [[name, "1.500000"]]


def test_a_word_that_no_quotes_can_hold_is_refused() -> None:
    with pytest.raises(OutputError, match="both kinds of quotes"):
        star.format_table("x", ("_a",), [('it\'s "a" b',)])


def test_other_readers_take_no_name_for_a_word_of_the_format() -> None:
    names = ("data_1", "Loop_1", "save_1", "STOP_1", "ab")
    text = star.format_table("x", ("_a", "_b"), [(name, 1) for name in names])
    assert [line.split()[0] for line in text.splitlines()[5:10]] == [*(f'"{name}"' for name in names[:4]), "ab"]


def test_names_that_begin_with_data_do_not_make_a_star_file(tmp_path: Path) -> None:
    names = ["data_2023/a.mrc", "data_2023/b.mrc"]
    text = "\n".join([*names, ""])
    assert not star.is_star(text)
    (tmp_path / "data_2023").mkdir()
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "list.txt").write_text(text)
    assert [entry.name for entry in lists.read(tmp_path / "list.txt")] == names
    (tmp_path / "list.star").write_text(ONE_COLUMN + text)
    assert [entry.name for entry in lists.read(tmp_path / "list.star")] == names


def test_optics_groups_stand_before_their_table_or_behind_it() -> None:
    optics, table = "data_optics\nloop_\n_rlnOpticsGroup #1\n{}\n", "data_particles\nloop_\n_rlnX #1\n1\n"
    for text, numbers in (
        (optics.format(1) + table + optics.format(2) + table, "12"),
        (table + optics.format(1), "1"),
        (table + optics.format(1).replace("Group", "Name") + table, "  "),
    ):
        tables = star.parse(text, "a.star")
        found = [star.optics_of(one, tables) for one in tables if one.name == "particles"]
        assert [one.rows[0][0] if one else " " for one in found] == list(numbers)


def test_a_table_that_has_lost_its_first_lines_does_not_vanish_before_another():
    lost = "_rlnCoordinateX #1\n_rlnCoordinateY #2\n9 11\n"
    whole = "data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n1 2\n"
    with pytest.raises(CoordinatesError, match="line 1 names the column _rlnCoordinateX before the first data_ line"):
        star.parse(lost + whole, "a.star")
    assert [table.rows for table in star.parse("Written by somebody\n" + whole, "a.star")] == [[["1", "2"]]]


def test_a_name_that_begins_like_a_label_is_a_row_or_a_row_that_is_cut():
    [table] = star.parse("data_\nloop_\n_rlnMicrographName #1\n_a.mrc\n_b.MRC\n", "a.star")
    assert table.rows == [["_a.mrc"], ["_b.MRC"]]
    with pytest.raises(CoordinatesError, match="line 5 has 1 values for 2 columns"):
        star.parse("data_\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n_a.mrc\n", "a.star")
