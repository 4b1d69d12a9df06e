"""Folders of picks, of runs over parts of the micrographs, made one."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from upicker.errors import InputError, OutputError, listed
from upicker.io.atomic import create, replacing
from upicker.run import entries, record
from upicker.run.entries import Journal
from upicker.run.find import LEFT_OUT, SETTINGS, name_of
from upicker.run.outputs import writable
from upicker.run.record import Record

# Commands whose folders hold files of one micrograph each, and nothing about all of them.
COMMANDS = ("pick", "propose")


def merge(parts: Sequence[Path], output: Path) -> Record:
    """Copy the files and entries of several folders into one.

    It may be repeated, and the folder may hold some of them already. Nothing is written if anything is refused.

    Parameters
    ----------
    parts : sequence of Path
        Folders of ``upicker pick`` or ``propose`` with the same settings.
    output : Path
        The folder to make, or to add to.

    Returns
    -------
    Record
        Of the merged folder.

    Raises
    ------
    InputError
        If one is no such folder, their settings differ, or they have different files of one name.
    OutputError
        If something cannot be written.
    """
    folders = [*parts, *([output] if record.read(output, micrographs=False).about else [])]
    records = [_read(folder) for folder in folders]
    for folder, one in zip(folders[1:], records[1:], strict=True):
        if changed := _differing(records[0], one):
            found = f"its {' and '.join(changed)} are not those of {folders[0]}"
            raise InputError(folder, found, "Merge folders of runs with the same settings; --share keeps them the same")
    pairs = list(_files(parts, output))
    writable(output)
    for source, target in pairs:
        try:
            with replacing(target) as temporary:
                shutil.copy2(source, temporary)
        except OSError as error:
            raise OutputError(source, f"cannot be copied ({error.strerror})", "Run again: nothing is lost") from error
    create(output / record.NAME, (folders[0] / record.NAME).read_text(encoding="utf-8"))
    there = set(entries.read(output))
    with closing(Journal(output)) as journal:
        journal.append(entry for one in records for entry in one.micrographs if entry not in there)
    return record.read(output)


def _read(folder: Path) -> Record:
    found = record.read(folder)
    if found.command in COMMANDS:
        return found
    what = f"it is of upicker {found.command}" if found.command else f"it has no {record.NAME}"
    raise InputError(folder, what, "Give folders that upicker pick or upicker propose wrote")


def _differing(one: Record, other: Record) -> list[str]:
    """Return the names of settings of two runs that differ."""
    keys = ("model_sha256", "pixel_size_A", "relative_size", *SETTINGS)
    changed = [key for key in keys if name_of(one.about.get(key)) != name_of(other.about.get(key))]
    knobs = (one.knobs.keys() | other.knobs.keys()) - (LEFT_OUT - {"propose.profile"})
    rooms = ("image", one.command, "train.bfloat16")
    return changed + sorted(
        key
        for key in knobs
        if (key in rooms or key.partition(".")[0] in rooms) and one.knobs.get(key) != other.knobs.get(key)
    )


def _files(parts: Sequence[Path], output: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each file to copy with its target; refuse two that differ, before the first is copied."""
    chosen: dict[str, Path] = {}
    clashes = []
    for part in parts:
        for file in sorted(part.iterdir()):
            if file.name.startswith(".") or file.name == record.NAME or not file.is_file():
                continue
            others = [one for one in (chosen.get(file.name), output / file.name) if one is not None and one.is_file()]
            if any(not filecmp.cmp(file, other, shallow=False) for other in others):
                clashes.append(file)
            elif not others:
                chosen[file.name] = file
    if clashes:
        found = f"{len(clashes)} files differ from those of the same name in another folder: {listed(clashes)}"
        raise InputError(output, found, "Rename micrographs that have the same name, or merge into several folders")
    yield from ((file, output / name) for name, file in chosen.items())
