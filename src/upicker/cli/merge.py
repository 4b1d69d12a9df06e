"""``upicker merge``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from upicker.cli.console import note
from upicker.cli.options import Output


def merge(*parts: Annotated[Path, Parameter(help="Folders of picks or proposals.")], output: Output) -> int:
    """Merge folders of picks, of runs over parts of the micrographs, into one.

    Runs with "--share" write to one folder, and need no merging. The settings must be the same: weights, diameter,
    threshold, knobs. Files are copied; it may be repeated, and nothing is written if anything is refused.

    Parameters
    ----------
    output
        The folder to make, or to add to.
    """
    from upicker.run import merge as folders

    found = folders.merge(parts, output)
    particles = sum(one.particles or 0 for one in found.micrographs)
    note(f"merged: {particles} particles in {len(found.micrographs)} micrographs of {len(parts)} folders -> {output}")
    return 0
