"""``--fdr``: the threshold of a run by its decoys, chosen and told on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from upicker.cli.batches import warn_of_threshold
from upicker.cli.console import note, warning
from upicker.cli.progress import counted
from upicker.errors import ConfigError

if TYPE_CHECKING:
    from upicker.run.decoys import Choice
    from upicker.run.pick import Picking


def check(fdr: float | None, changes: Mapping[str, object]) -> None:
    """Refuse a share of false picks that none can have, or one beside a threshold.

    Raises
    ------
    ConfigError
        In these cases.
    """
    if fdr is None:
        return
    if not 0 < fdr < 1:
        raise ConfigError("--fdr", f"{fdr:g} is not between 0 and 1", "Give e.g. --fdr 0.05")
    if changes.get("pick.threshold") not in (None, "none"):
        raise ConfigError("--fdr", "a threshold was given, too", "Give --fdr or --threshold (pick.threshold)")


def chosen(work: Picking, paths: Sequence[Path], fdr: float, continues: str | None, left: int) -> Picking:
    """Return the work with the threshold of the run, and print it.

    Parameters
    ----------
    work : Picking
        The work on each micrograph.
    paths : sequence of Path
        All micrographs of the run.
    fdr : float
        The wanted share of false picks.
    continues : str or None
        The option for which an earlier run into the same folder goes on: its threshold is used again.
    left : int
        The number of micrographs to do.

    Raises
    ------
    ConfigError
        If the earlier run had other settings, or there is no diameter.
    OutputError
        If the output folder cannot be written.
    """
    from upicker.run import decoys
    from upicker.run.find import changed_settings, require_same_settings

    if continues:
        before = decoys.earlier(work.outputs.folder, fdr)
        work = work.choosing(before or decoys.Choice.pending(fdr, work.picker.stored_threshold))
        require_same_settings(work, continues)
        if before is not None and not changed_settings(work):
            note(f"threshold {before.threshold:.3f}, as chosen before")
            return work
    if left:
        work.outputs.prepare()
        work = work.choosing(_with_bar(work, paths, fdr))
        assert work.choice is not None
        _tell(work.choice)
        if work.choice.by == decoys.TOO_FEW:
            warn_of_threshold(work.picker)
    return work


def _with_bar(work: Picking, paths: Sequence[Path], fdr: float) -> Choice:
    from upicker.run.decoys import choose

    with counted("decoys") as tell:
        return choose(work, paths, fdr, tell)


def _tell(choice: Choice) -> None:
    """Print a threshold and what it is worth, or why it is another one than was asked for."""
    from upicker.run.decoys import LOWEST, NOTHING, TOO_FEW

    counted = f"{choice.decoys} decoys, {choice.picks} picks on {choice.micrographs} micrographs"
    if choice.by == NOTHING:
        warning(
            f"--fdr: nothing is there by this measure, so nothing is picked: {counted}. "
            "Check the diameter and image.particles, or give --threshold."
        )
    elif choice.by == TOO_FEW:
        warning(f"--fdr: too few picks to tell ({counted}): threshold {choice.threshold:.3f} of the weights is used.")
    elif choice.by == LOWEST:
        warning(
            f"--fdr {choice.fdr:g}: not reached at any threshold. The lowest estimate is {choice.estimate:.3f} "
            f"({counted}), at threshold {choice.threshold:.3f}, which is used."
        )
    else:
        note(
            f"threshold {choice.threshold:.3f}: {choice.estimate:.1%} of the picks are false by chance, "
            f"as estimated ({counted}); contamination is not counted"
        )
