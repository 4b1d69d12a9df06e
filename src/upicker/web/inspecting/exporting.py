"""Export of the picks above a threshold, without the rejected ones, in the format of any program."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from upicker.errors import OutputError, UPickerError
from upicker.io import coordinates
from upicker.io.formats import COMMON_FIRST
from upicker.io.picks import Picks
from upicker.run import record
from upicker.run.entries import Entry
from upicker.web.inspecting.gathered import MicrographPicks
from upicker.web.inspecting.pick_store import PickStore
from upicker.web.project import Project
from upicker.web.responses import Refused

# Of file names, on nearly all file systems.
_LONGEST_NAME = 255


def formats() -> list[dict[str, str]]:
    """Return the export formats: name, which programs read it, which files are written."""
    return [{"name": one.name, "use": one.programs, "files": one.files} for one in COMMON_FIRST]


def export(store: PickStore, format: str, threshold: float, folder: str, overwrite: bool = False) -> dict[str, object]:
    """Write the picks that reach a threshold and are not rejected, with a ``run.toml`` beside them.

    Parameters
    ----------
    store : PickStore
        The picks.
    format : str
        One of `upicker.io.coordinates.TARGETS`.
    threshold : float
        The lowest score.
    folder : str
        The folder to write to; below the current folder, or below the parent folder of the picks.
    overwrite : bool
        Whether the folder may contain files already.

    Returns
    -------
    dict
        Numbers of ``written`` particles, of ``micrographs``, ``files`` and rejected particles ``left_out``; ``folder``.

    Raises
    ------
    Refused
        400 for another format or folder, 409 if the folder is not empty.
    UPickerError
        If a file cannot be written, or the format requires something unknown, such as pixel sizes.
    """
    if format not in coordinates.TARGETS:
        known = ", ".join(coordinates.TARGETS)
        raise Refused(400, "format", f"unknown format '{format[:40]}'", f"Use one of: {known}")
    if not np.isfinite(threshold):
        raise Refused(400, "threshold", "it is not a number", "Send one, e.g. 0.3")
    target = _target(store, folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())) and not overwrite:
        raise Refused(409, str(target), "this folder contains files already", "Choose another one, or overwrite them")
    picks, entries, left_out = [], [], 0
    for number, one in enumerate(store.found.micrographs):
        if one.picks is None:
            continue
        kept = _kept(store, number, one, threshold)
        left_out += int((~one.accepted & (one.particles.score >= threshold)).sum())
        picks.append(kept)
        entries.append(_entry(store.project, number, kept))
    if not picks:
        raise Refused(400, "picks", "no micrograph has any", "Pick first")
    _prepare(target, picks, format)
    files = coordinates.write_all(target, picks, format)
    written = sum(len(kept.particles) for kept in picks)
    about = {"threshold": threshold, "picks": str(store.picks), "format": format, "rejected": left_out}
    diameter = store.project.diameter
    about |= {} if diameter is None else {"diameter": str(diameter)}
    record.write(target, "inspect", store.project.config, about, [entry for entry in entries if entry is not None])
    return {
        "written": written,
        "micrographs": len(picks),
        "files": len(files),
        "folder": str(target),
        "left_out": left_out,
    }


def _prepare(target: Path, picks: Sequence[Picks], format: str) -> None:
    """Make the folder, and remove the ``run.toml`` of an earlier export: the new one follows once all files are there.

    Raises
    ------
    OutputError
        If it cannot be made, or the format requires something unknown; an earlier export keeps its ``run.toml`` then.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
        coordinates.check_all(target, picks, format)
        (target / record.NAME).unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(target, f"cannot be written ({reason})", "Choose another folder") from error


def _target(store: PickStore, text: str) -> Path:
    """Return the folder to write to, relative to the current one where it lies below that.

    Raises
    ------
    Refused
        400 if it lies elsewhere, or contains, or lies in, the picks or labels on display.
    """
    if not text.strip() or "\0" in text:
        raise Refused(400, "folder", "no folder is given", "Give one, e.g. export")
    here = Path.cwd().resolve()
    try:
        folder = Path(text.strip()).expanduser().resolve()
        allowed = [here, store.picks.resolve().parent]
        project = store.project
        own = [path.resolve() for path in (store.picks, project.labels, project.state) if path is not None]
        long = [part for part in folder.parts if len(os.fsencode(part)) > _LONGEST_NAME]
        _ = long or folder.exists()  # which raises where the whole path is too long
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no file name"
        raise Refused(400, "folder", f"'{text[:200]}' cannot be used ({reason})", "Choose another one") from error
    if long:
        found = f"the name {long[0][:40]}... has more than {_LONGEST_NAME} bytes"
        raise Refused(400, "folder", found, "Choose a shorter one")
    if not any(folder.is_relative_to(root) and folder != root for root in allowed):
        places = " or ".join(str(root) for root in dict.fromkeys(allowed))
        raise Refused(400, str(folder), f"it does not lie below {places}", "Choose a folder there")
    for path in own:
        if folder.is_relative_to(path) or path.is_relative_to(folder):
            raise Refused(400, str(folder), "this folder holds the picks or labels on display", "Choose another one")
    return Path(os.path.relpath(folder, here)) if folder.is_relative_to(here) else folder


def _kept(store: PickStore, number: int, one: MicrographPicks, threshold: float) -> Picks:
    """Return the picks of one micrograph to write, with its shape and pixel size."""
    assert one.picks is not None
    project = store.project
    shape, size = one.picks.shape, one.picks.pixel_size_A
    try:
        found = project.size(number)
        shape, size = found[0], found[1] or size
    except UPickerError:
        pass  # Without the micrograph, use what the file of picks says of it.
    path, here = project.path(number).resolve(), Path.cwd().resolve()
    name = os.path.relpath(path, here) if path.is_relative_to(here) else str(project.path(number))
    particles = one.particles.select(one.accepted & (one.particles.score >= threshold))
    diameter_px = project.diameter_px(number)
    if diameter_px is not None:
        particles = particles.with_diameter(diameter_px, only_missing=True)
    return replace(one.picks, micrograph=name, particles=particles, shape=shape, pixel_size_A=size)


def _entry(project: Project, number: int, kept: Picks) -> Entry | None:
    """Return the entry of ``run.toml`` for one micrograph; None if its shape is unknown."""
    if kept.shape is None:
        return None
    diameter_px = project.diameter_px(number)
    if diameter_px is None:
        diameter_px = kept.particles.median_diameter_px
    return Entry(
        name=project.name(number),
        path=str(project.path(number)),
        rows=kept.shape[0],
        columns=kept.shape[1],
        pixel_size_A=kept.pixel_size_A,
        diameter_px=None if diameter_px is None else round(diameter_px, 3),
        particles=len(kept.particles),
        score=kept.particles.score_kind.declaration,
    )


def suggested_folder(store: PickStore) -> str:
    """Return a folder beside the picks that does not exist yet."""
    folder = store.picks if store.picks.is_dir() else store.picks.with_suffix("")
    for number in range(1, 1000):
        chosen = folder.with_name(folder.resolve().name + "_selected" + ("" if number == 1 else f"_{number}"))
        if not chosen.exists():
            break
    here, chosen = Path.cwd().resolve(), chosen.resolve()
    return os.path.relpath(chosen, here) if chosen.is_relative_to(here) else str(chosen)
