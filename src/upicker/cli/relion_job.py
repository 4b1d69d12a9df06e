"""``upicker relion-job``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from upicker.cli.batches import follow
from upicker.cli.console import problem
from upicker.cli.options import Changes, ConfigFile, Flag, Size, changes
from upicker.errors import ConfigError


def relion_job(
    *,
    in_mics: Annotated[Path, Parameter(name="--in_mics")],
    o: Annotated[Path, Parameter(name="--o")],
    j: Annotated[int, Parameter(name="--j")] = 1,
    model: Path | None = None,
    diameter: Size | None = None,
    threshold: float | None = None,
    only_do_unfinished: Annotated[bool, Flag, Parameter(name="--only_do_unfinished")] = False,
    changes_: Changes = (),
    config: ConfigFile = None,
) -> int:
    """Pick as an external job of RELION (3.1, 4, 5).

    In RELION's "External" job: the executable is "upicker relion-job", the input micrographs a micrographs.star, and
    the parameters model or diameter. The job's autopick.star (3.1: coords_suffix_autopick.star) is then an input of
    RELION's particle extraction.

    Parameters
    ----------
    in_mics
        RELION's list of micrographs.
    o
        The job's folder.
    j
        CPU threads.
    model
        Weights to pick with; without, the particles are proposed by the A-LoG filter.
    diameter
        Diameter of the particles, e.g. 190A; by default the one that the weights were trained for.
    threshold
        Lowest score of picks; by default the one stored with the weights.
    only_do_unfinished
        Leave out micrographs that have coordinates from an earlier run of the job.
    """
    from upicker.run import relion

    relion.begin(o)
    try:
        merged = changes(config, changes_, pick__threshold=threshold, train__threads=j)
        if model is not None:
            find = relion.picking(model, diameter, merged)
        elif diameter is not None:
            find = relion.proposing(diameter, merged, in_mics)
        else:
            raise ConfigError("--model", "neither weights nor a diameter are given", "Give --model or --diameter 190A")
        job = relion.RelionJob(o, in_mics, find, only_do_unfinished)
        count = len(relion.left(job))
        code = follow("picked", relion.run(job), count, o)
        relion.sign(o, relion.SUCCESS if relion.done(job) else relion.FAILURE)
    except relion.AbortError:
        relion.sign(o, relion.ABORTED)
        problem("Stopped, as RELION asked. What is written is whole; go on with --only_do_unfinished.")
        return 1
    except KeyboardInterrupt:
        relion.sign(o, relion.ABORTED)
        raise
    except Exception:
        relion.sign(o, relion.FAILURE)
        raise
    return code
