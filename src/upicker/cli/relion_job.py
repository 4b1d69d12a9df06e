"""``upicker relion-job``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from upicker.cli.batches import follow, remaining, warn_of_threshold
from upicker.cli.clusters import workers
from upicker.cli.console import problem, warning
from upicker.cli.options import Accurate, Changes, Cluster, ConfigFile, Fast, Insecure, Model, Size, changes, views
from upicker.cli.size import follow_or_resume, known
from upicker.errors import ConfigError


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
    from upicker.pick.shipped import NONE
    from upicker.run import relion
    from upicker.run.find import changed_settings

    relion.begin(o)
    try:
        own = {"pick__threshold": threshold, "pick__views": views(fast, accurate, changes_), "train__threads": j}
        merged = changes(config, changes_, **own)
        job = relion.job(o, in_mics)
        todo = remaining(job.paths, job.outputs, only_do_unfinished)
        if model != NONE:
            work, jobs = relion.picking(job, todo, model, diameter, merged, j)
            begun = o if only_do_unfinished else None
            work = replace(work, diameter=known(work.picker, job.paths, job.reading, diameter, begun))
            follow_or_resume(work, job.paths, diameter if todo else None, only_do_unfinished)
            warn_of_threshold(work.picker)
        elif diameter is not None:
            work, jobs = relion.proposing(job, diameter, merged), j
        else:
            raise ConfigError("--diameter", "the filter has to know it", "Give --diameter 190A, or another --model")
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
