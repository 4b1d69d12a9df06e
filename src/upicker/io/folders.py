"""The coordinates files of a folder, by the micrographs that they are named after, and by RELION's lists of them."""

from __future__ import annotations

from pathlib import Path

from upicker.errors import InputError, UPickerWarning, warn
from upicker.io import coordinates
from upicker.io.formats import COMMON_FIRST
from upicker.io.formats.format import Format
from upicker.io.picks import grouped, stem

_HEAD_BYTES = 65_536


def lists(folder: Path) -> list[Path]:
    """Return the files in a folder that are named as lists are, such as RELION's ``autopick.star``."""
    patterns = [pattern for format in COMMON_FIRST if format.listing for pattern in format.listing.patterns]
    return sorted(file for pattern in patterns for file in Path(folder).glob(pattern))


def in_folder(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Return the coordinates files of a folder by micrograph: those of its list, and those named after a micrograph.

    Of several lists the first counts. A file named after a listed micrograph, such as labels that were corrected in
    another format, counts instead of the listed one.

    Returns
    -------
    by_list : dict of str to Path
        By the micrograph's name in the list; empty without a list.
    by_name : dict of str to Path
        All others, by the stem of their micrograph.

    Raises
    ------
    InputError
        If there is no such folder.
    CoordinatesError
        If the list cannot be read, or a listed file does not exist.
    """
    by_name, named_as_lists = stems(folder), lists(folder)
    found = (coordinates.listed(file) for file in named_as_lists)
    by_list = next((dict(files) for files in found if files is not None), None)
    if by_list is None:
        return {}, by_name
    known = {file.resolve() for file in (*named_as_lists, *by_list.values())}
    by_name = {name: file for name, file in by_name.items() if file.resolve() not in known}
    listed_names = list(by_list)
    rows = grouped([stem(name) for name in listed_names])
    for name in [name for name in by_name if len(rows.get(name, ())) == 1]:
        by_list[listed_names[rows[name][0]]] = by_name.pop(name)
    return by_list, by_name


def collections(folder: Path) -> list[Path]:
    """Return the files of a folder that may hold the particles of many micrographs, and are not named after one."""
    suffixes = {Path(format.file_of_all).suffix for format in COMMON_FIRST if format.file_of_all}
    return sorted(
        file
        for suffix in suffixes - {ending for ending, _ in coordinates.PREFERENCE}
        for file in Path(folder).glob(f"*{suffix}")
        if file.is_file()
    )


def stems(folder: Path) -> dict[str, Path]:
    """Return the coordinates files of a folder by the stem of their micrograph, sorted by it.

    Files of the same suffixes that hold something else (a log in CSV, a STAR file without coordinates or with
    extracted particles) are left out; damaged ones are not, so that `read` can name them.

    Raises
    ------
    InputError
        If there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(folder, "there is no such folder", "Give the folder of coordinates files")
    files: dict[str, dict[int, Path]] = {}
    for path in folder.iterdir():
        rank, name = _rank(path.name)
        if name and path.is_file():
            files.setdefault(name, {})[rank] = path
    found, beside = {}, {}
    for name, ranked in sorted(files.items()):
        held = (rank for rank in sorted(ranked) if not _holds_other(ranked[rank], coordinates.PREFERENCE[rank][1]))
        taken = next(held, None)
        if taken is not None:
            found[name] = ranked.pop(taken)
            beside |= dict.fromkeys(_alike(taken, ranked), found[name])
    _warn_of_others(folder, beside)
    return found


def _alike(taken: int, others: dict[int, Path]) -> list[Path]:
    """Return the less preferred files of the same format: a run writes only one, so these hold other picks."""
    kind = coordinates.PREFERENCE[taken][1]
    alike = [path for rank, path in sorted(others.items()) if rank > taken and coordinates.PREFERENCE[rank][1] is kind]
    return [path for path in alike if not _holds_other(path, kind)]


def _warn_of_others(folder: Path, beside: dict[Path, Path]) -> None:
    """Name one of the files that are not used, and count the others, in one warning."""
    if beside:
        (other, taken), *more = beside.items()
        rest = f" (and so for {len(more)} more)" if more else ""
        what = f"{other.name} is not used, because {taken.name} is of the same micrograph{rest}"
        warn(UPickerWarning(folder, what, "Give a folder with one of them"))


def _rank(name: str) -> tuple[int, str]:
    """Return the index in `coordinates.PREFERENCE` and the micrograph's stem, empty for other files."""
    fitting = [(len(ending), i) for i, (ending, _) in enumerate(coordinates.PREFERENCE) if name.endswith(ending)]
    if not fitting or name.startswith("."):
        return len(coordinates.PREFERENCE), ""
    length, rank = max(fitting)
    return rank, name[:-length]


def _holds_other(path: Path, kind: Format) -> bool:
    """Tell whether a file certainly holds something else than coordinates; False for one that cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    return kind.is_other(head.decode("utf-8-sig", "ignore"))
