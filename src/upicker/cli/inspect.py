"""``upicker inspect``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from upicker.cli.options import (
    NO_MASKS,
    Changes,
    ConfigFile,
    Flag,
    Gain,
    Masking,
    PixelSize,
    Size,
    changes,
    listed_micrographs,
)
from upicker.cli.serving import Force, Host, Port, check_host, counted, show


def inspect(
    picks: Path,
    *,
    micrographs: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")],
    labels: Annotated[Path | None, Parameter(negative="", show_default=False)] = None,
    triage: Annotated[Path | None, Parameter(negative="", show_default=False)] = None,
    diameter: Size | None = None,
    host: Host = "127.0.0.1",
    port: Port = None,
    no_browser: Annotated[bool, Flag] = False,
    force: Force = False,
    pixel_size: PixelSize = None,
    gain: Gain = None,
    changes_: Changes = (),
    config: ConfigFile = None,
    masking: Masking = NO_MASKS,
) -> int:
    """Inspect picks in the browser, choose a threshold, and export.

    Starts a small server and prints its address; Ctrl-C stops it. The page follows a run that is under way: more picks
    and micrographs appear by themselves. The files of picks are not changed; rejections are saved in PICKS/.upicker.

    Parameters
    ----------
    picks
        Folder of picks, or a file with the picks of many micrographs.
    micrographs
        Micrographs: files, folders, quoted patterns or lists.
    labels
        Folder or file of labels to compare with.
    triage
        Table of "upicker triage", NAME_triage.csv, to filter and sort by; by default the one beside PICKS, if there is
        just one.
    diameter
        Particle diameter, e.g. 190A; by default that of the run.toml beside the picks, or of the picks.
    no_browser
        Do not open a browser.
    """
    check_host(host)
    merged = changes(config, changes_)
    given = (micrographs, pixel_size, gain, masking.masks)
    paths, reading = listed_micrographs(*given)

    from upicker.web.project import inspecting

    project = inspecting(paths, reading, picks, labels, diameter, merged, triage)
    project.again = partial(listed_micrographs, *given, again=True)
    return show(project, host, port, not no_browser, f"Picks of {picks} in {counted(paths)}", force)
