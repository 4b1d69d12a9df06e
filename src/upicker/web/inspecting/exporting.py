"""Writing the picks above a threshold for other programs, without those that were rejected."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio.to_thread
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from upicker.errors import UPickerError
from upicker.io import coordinates
from upicker.io.formats import COMMON_FIRST
from upicker.io.picks import Picks
from upicker.run import record
from upicker.run.record import Entry
from upicker.web.answers import Refused, answer, body
from upicker.web.inspecting.picks import PickStore
from upicker.web.inspecting.pickstore import One
from upicker.web.project import Project


def formats() -> list[dict[str, str]]:
    """Return the formats that picks can be written in: name, for whom, what is written."""
    return [{"name": one.name, "use": one.programs, "files": one.files} for one in COMMON_FIRST]


def export(store: PickStore, format: str, threshold: float, folder: str, overwrite: bool = False) -> dict[str, object]:
    """Write the picks that reach a threshold and are not rejected, and ``run.toml`` beside them.

    Parameters
    ----------
    store : PickStore
        The picks.
    format : str
        One of `upicker.io.coordinates.TARGETS`.
    threshold : float
        The lowest score.
    folder : str
        Where to; below the current folder, or below the folder that the picks lie in.
    overwrite : bool
        Whether the folder may hold something already.

    Returns
    -------
    dict
        ``written``: how many particles; ``micrographs``, ``files``, ``folder``, ``left_out``: rejected ones.

    Raises
    ------
    Refused
        400 for another format or folder, 409 if the folder is not empty.
    UPickerError
        If something cannot be written, or the format needs what is not known.
    """
    if format not in coordinates.TARGETS:
        known = ", ".join(coordinates.TARGETS)
        raise Refused(400, "format", f"there is no format '{format[:40]}'", f"There are: {known}")
    if not np.isfinite(threshold):
        raise Refused(400, "threshold", "it is not a number", "Send one, e.g. 0.3")
    target = _target(store, folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())) and not overwrite:
        raise Refused(409, str(target), "something is there already", "Choose another folder, or replace what is there")
    picks, entries, left_out = [], [], 0
    for number in range(len(store.project.micrographs)):
        one = store.one(number)
        if one.picks is None:
            continue
        kept = _kept(store, number, one, threshold)
        left_out += int((~one.alive & (one.particles.score >= threshold)).sum())
        picks.append(kept)
        entries.append(_entry(store.project, number, kept))
    if not picks:
        raise Refused(400, "picks", "no micrograph has any", "There is nothing to write")
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


def _target(store: PickStore, text: str) -> Path:
    """Return the folder to write to, relative to the current one where it lies below that.

    Raises
    ------
    Refused
        400 if it lies elsewhere, or the picks or labels that are looked at lie in it.
    """
    if not text.strip() or "\0" in text:
        raise Refused(400, "folder", "none is named", "Name one, e.g. export")
    here = Path.cwd().resolve()
    try:
        folder = Path(text.strip()).expanduser().resolve()
        allowed = [here, store.picks.resolve().parent]
        own = [path.resolve() for path in (store.picks, store.labels, store.project.state) if path is not None]
    except (OSError, RuntimeError) as error:
        raise Refused(400, "folder", f"'{text[:200]}' cannot be used ({error})", "Choose another one") from error
    if not any(folder.is_relative_to(root) and folder != root for root in allowed):
        places = " or ".join(str(root) for root in dict.fromkeys(allowed))
        raise Refused(400, str(folder), f"it does not lie below {places}", "Choose a folder there")
    for path in own:
        if folder.is_relative_to(path) or path.is_relative_to(folder):
            raise Refused(400, str(folder), "the picks or labels that are looked at lie there", "Choose another folder")
    return Path(os.path.relpath(folder, here)) if folder.is_relative_to(here) else folder


def _kept(store: PickStore, number: int, one: One, threshold: float) -> Picks:
    """Return what is written of one micrograph, with what its file says of it."""
    assert one.picks is not None
    project = store.project
    shape, size = one.picks.shape, one.picks.pixel_size_A
    try:
        found = project.size(number)
        shape, size = found[0], found[1] or size
    except UPickerError:
        pass  # The picture is gone; what the picks say of it has to do.
    path, here = project.path(number).resolve(), Path.cwd().resolve()
    name = os.path.relpath(path, here) if path.is_relative_to(here) else str(project.path(number))
    particles = one.particles.select(one.alive & (one.particles.score >= threshold))
    diameter_px = project.diameter_px(number)
    if diameter_px is not None:
        particles = particles.with_diameter(diameter_px, only_missing=True)
    return replace(one.picks, micrograph=name, particles=particles, shape=shape, pixel_size_A=size)


def _entry(project: Project, number: int, kept: Picks) -> Entry | None:
    """Return the line of ``run.toml`` about one micrograph; None where its size is not known."""
    if kept.shape is None:
        return None
    diameter_px = project.diameter_px(number)
    known = kept.particles.diameter_px[np.isfinite(kept.particles.diameter_px)]
    if diameter_px is None:
        diameter_px = float(np.median(known)) if len(known) else float("nan")
    return Entry(
        name=project.name(number),
        path=str(project.path(number)),
        rows=kept.shape[0],
        columns=kept.shape[1],
        pixel_size_A=kept.pixel_size_A,
        diameter_px=round(diameter_px, 3),
        particles=len(kept.particles),
    )


def suggested(store: PickStore) -> str:
    """Return a folder beside the picks that does not exist yet."""
    folder = store.picks if store.picks.is_dir() else store.picks.with_suffix("")
    for number in range(1, 1000):
        chosen = folder.with_name(folder.resolve().name + "_selected" + ("" if number == 1 else f"_{number}"))
        if not chosen.exists():
            break
    here, chosen = Path.cwd().resolve(), chosen.resolve()
    return os.path.relpath(chosen, here) if chosen.is_relative_to(here) else str(chosen)


def routes(project: Project, parts: Mapping[str, Any]) -> list[Route]:
    """Return what the page asks about exporting."""
    store: PickStore = parts["picks"]

    async def known(request: Request) -> Response:
        return answer({"formats": formats(), "folder": await anyio.to_thread.run_sync(suggested, store)})

    async def write(request: Request) -> Response:
        content = await body(request)
        format, folder, threshold = (content.get(name) for name in ("format", "folder", "threshold"))
        if not (isinstance(format, str) and isinstance(folder, str) and isinstance(threshold, float | int)):
            raise Refused(400, "request", "it lacks format, folder or threshold", "Send all three")
        if isinstance(threshold, bool):
            raise Refused(400, "threshold", "it is not a number", "Send one, e.g. 0.3")
        overwrite = content.get("overwrite") is True
        return answer(await anyio.to_thread.run_sync(export, store, format, float(threshold), folder, overwrite))

    return [Route("/api/export", known), Route("/api/export", write, methods=["POST"])]
