"""``upicker relion-job``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from upicker.cli.batches import follow, remaining, warn_of_threshold
from upicker.cli.clusters import workers
from upicker.cli.console import problem, warning
from upicker.cli.options import (
    NO_MASKS,
    Accurate,
    Changes,
    Cluster,
    ConfigFile,
    Fast,
    Insecure,
    Masking,
    Model,
    Size,
    changes,
    views,
)
from upicker.cli.size import follow_or_resume, known
from upicker.cli.watch import Watching, follow_arriving
from upicker.errors import ConfigError

if TYPE_CHECKING:
    from upicker.io.lists import Listed
    from upicker.io.masks import Masks
    from upicker.run.batch import Workers
    from upicker.run.pick import Picking
    from upicker.run.propose import Proposing
    from upicker.run.relion import RelionJob
    from upicker.units import Length


def relion_job(
    *,
    in_mics: Annotated[Path, Parameter(name="--in_mics")],
    o: Annotated[Path, Parameter(name="--o")],
    j: Annotated[int, Parameter(name="--j")] = 1,
    model: Model | None = None,
    diameter: Size | None = None,
    threshold: float | None = None,
    fast: Fast = False,
    accurate: Accurate = False,
    only_do_unfinished: Annotated[
        bool, Parameter(name="--only_do_unfinished", negative="--redo", show_default=False)
    ] = True,
    cluster: Cluster = None,
    insecure: Insecure = False,
    changes_: Changes = (),
    config: ConfigFile = None,
    masking: Masking = NO_MASKS,
    watching: Watching = Watching(),  # noqa: B008 (it cannot change)
) -> int:
    """Pick particles as an external job in RELION (3.1, 4, 5).

    In RELION's "External" job type, give "upicker relion-job" as the executable, a micrographs.star as the input
    micrographs, and the diameter as a parameter. The job's autopick.star (3.1: coords_suffix_autopick.star) is the
    input of RELION's particle extraction. A continued job keeps its coordinates and picks the remaining micrographs.

    Parameters
    ----------
    in_mics
        RELION's list of micrographs, a STAR file.
    o
        Job folder.
    j
        CPU threads, divided among parallel processes; GPUs have one process each.
    model
        Weights to pick with; by default the general model, "general-1". With "none", particles are proposed as by
        "upicker propose".
    diameter
        Particle diameter, e.g. 190A; by default that of the weights, or if they know none what "upicker size"
        finds.
    threshold
        Lowest score of a pick, 0..1; by default the threshold stored with the weights.
    only_do_unfinished
        Skip micrographs with coordinates from an earlier run of the job (default), or pick them again.
    """
    from upicker.run import relion
    from upicker.run.find import changed_settings

    relion.begin(o)
    try:
        own = {"pick__threshold": threshold, "pick__views": views(fast, accurate, changes_), "train__threads": j}
        asked = _Asked(model, diameter, changes(config, changes_, **own), j)
        if watching.watch:
            if not only_do_unfinished:
                raise ConfigError("--redo", "with --watch, what is done stays", "Leave out one of them")
            return _job_arriving(watching, in_mics, o, asked, (cluster, insecure), masking.masks)
        job = relion.job(o, in_mics, masking.masks)
        todo = remaining(job.paths, job.outputs, only_do_unfinished)
        work, jobs = asked.work(job, len(todo))
        work = asked.sized(work, job.paths, len(todo), only_do_unfinished)
        if len(todo) < len(job.paths) and (changed := changed_settings(work)):
            settings = " and ".join(changed)
            warning(f"Coordinates of an earlier run with another {settings} are kept; --redo picks all again")
        continued = todo if only_do_unfinished else None
        with workers(cluster, insecure, None, jobs, o) as crew:
            code = follow("picked", relion.run(job, continued, work, crew), len(todo), o)
        relion.end(o, relion.SUCCESS if job.done else relion.FAILURE)
    except relion.AbortError:
        relion.end(o, relion.ABORTED)
        problem("Stopped, as RELION asked. All files there are complete; continue the job to pick the rest.")
        return 1
    except KeyboardInterrupt:
        relion.end(o, relion.ABORTED)
        raise
    except Exception:
        relion.end(o, relion.FAILURE)
        raise
    return code


@dataclass(frozen=True)
class _Asked:
    """What the user asks for, beside the micrographs."""

    model: str | None
    diameter: Length | None
    merged: dict[str, object]
    threads: int

    def work(self, job: RelionJob, count: int) -> tuple[Picking | Proposing, int]:
        """Return the work on a number of micrographs, and how many processes do it."""
        from upicker.pick.shipped import NONE
        from upicker.run import relion

        if self.model != NONE:
            work, jobs = relion.picking(job, count, self.model, self.diameter, self.merged, self.threads)
            warn_of_threshold(work.picker)
            return work, jobs
        if self.diameter is None:
            raise ConfigError("--diameter", "the filter has to know it", "Give --diameter 190A, or another --model")
        return relion.proposing(job, self.diameter, self.merged), self.threads

    def sized(
        self, work: Picking | Proposing, paths: Sequence[Path], left: int, continued: bool
    ) -> Picking | Proposing:
        """Return the work with diameter and working scale, determined by micrographs if some are left to do."""
        from upicker.run.propose import Proposing

        if isinstance(work, Proposing):
            return work
        begun = work.outputs.folder if continued else None
        work = replace(work, diameter=known(work.picker, paths, work.reading, self.diameter, begun))
        follow_or_resume(work, paths, self.diameter if left else None, continued)
        return work


def _job_arriving(
    watching: Watching,
    in_mics: Path,
    o: Path,
    asked: _Asked,
    elsewhere: tuple[str | None, bool],
    masks: Masks | None,
) -> int:
    """Pick the micrographs of a list that grows; what holds for all is determined by the first ones."""
    from upicker.io.arriving import Arriving
    from upicker.io.micrographs import natural
    from upicker.run import record, relion
    from upicker.run.find import changed_settings, continued
    from upicker.run.propose import Proposing
    from upicker.run.watch import FIRST, MANY, Task

    def job(listed: Sequence[Listed]) -> RelionJob:
        return relion.job_of(o, in_mics, sorted(listed, key=lambda entry: natural(entry.path)), masks)

    source = Arriving([str(in_mics)], o, watching.settle)
    work, jobs = asked.work(job([]), MANY)
    before = record.read(o)
    if before.micrographs and (changed := changed_settings(asked.sized(work, [], 0, continued=True))):
        warning(f"Coordinates of an earlier run with another {' and '.join(changed)} are kept")
    if isinstance(work, Proposing):
        learns = continued(work, before).learns
    else:
        learns = work.picker.diameter is None and not before.micrographs  # the particles' size and contrast

    def at(work: Picking | Proposing, listed: Sequence[Listed]) -> Picking | Proposing:
        return replace(work, outputs=job(listed).outputs, reading=job(listed).reading)

    def begin(there: Sequence[Listed], first: Sequence[Listed]) -> tuple[Picking | Proposing, int | Workers]:
        return asked.sized(at(work, there), job(there).paths, len(first), continued=True), crew

    with workers(*elsewhere, None, jobs, o) as crew:
        task = Task(
            source,
            outputs=lambda listed: job(listed).outputs,
            begin=begin,
            at=at,
            least=FIRST if learns else 1,
            after=lambda listed: relion.write_lists(job(listed)),
            check=lambda: relion.refuse_abort(o),
        )
        code = follow_arriving("picked", task, watching, o)
    relion.end(o, relion.SUCCESS if job([*source.entries.values()]).done else relion.FAILURE)
    return code
