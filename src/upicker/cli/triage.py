"""``upicker triage``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from upicker.cli.batches import watch
from upicker.cli.clusters import workers
from upicker.cli.console import as_json, note, result
from upicker.cli.options import (
    Changes,
    Cluster,
    ConfigFile,
    Flag,
    Fraction,
    Gain,
    Insecure,
    Jobs,
    Json,
    Micrographs,
    Model,
    PixelSize,
    changes,
    entries,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from upicker.pick.triage import Verdict


def triage(
    *mics: Micrographs,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    model: Model | None = None,
    least_score: Fraction | None = None,
    skip_existing: Annotated[bool, Flag] = False,
    jobs: Jobs | None = None,
    json: Json = False,
    cluster: Cluster = None,
    insecure: Insecure = False,
    pixel_size: PixelSize = None,
    gain: Gain = None,
    changes_: Changes = (),
    config: ConfigFile = None,
) -> int:
    """Tell which micrographs are usable, without a diameter: the others are empty, contaminated, carbon ...

    Writes the list of usable micrographs, and beside it NAME_triage.csv with the class, the score and one reason of
    each: usable, empty, contaminated (or aggregated), carbon, crystalline, no ice.

    Parameters
    ----------
    output
        List of the usable ones: .star for RELION (rows and optics groups of a list that was given are kept), .cs for
        cryoSPARC (of a .cs file of exposures), .csv or .txt.
    model
        Weights for particles of any size, from "upicker train"; by default the general model, "general-1".
    least_score
        Lowest score of a usable micrograph, 0..1; by default 0.5. Lower keeps more.
    skip_existing
        Skip micrographs that are in the table already, to continue an earlier run, or to apply another --least-score.
    jobs
        Number of parallel processes; by default one per core, or one with a GPU.
    """
    as_json(json)
    merged = changes(config, changes_)
    listed = entries(mics)

    from upicker.io import kept

    kept.check(output, mics)

    from upicker.io.micrographs import Reading
    from upicker.pick.picker import Picker
    from upicker.pick.triage import LEAST_SCORE
    from upicker.run.pick import processes
    from upicker.run.triage import ENDING, Triaging, done, read, triage_all

    least = LEAST_SCORE if least_score is None else least_score
    work = Triaging(Picker(model, {**merged, "pick.views": 1}), Reading.of(listed, pixel_size, gain))
    paths, table = [entry.path for entry in listed], output.with_name(output.stem + ENDING)
    earlier = len(done(table, paths, work.weights)) if skip_existing else 0
    if earlier:
        note(f"{earlier} of {len(paths)} micrographs are in {table} already, skipped")
    todo = len(paths) - earlier
    with workers(cluster, insecure, jobs, processes(todo, work.picker), output) as crew:
        outcomes = triage_all(paths, work, table, least, crew, not skip_existing)
        batch = watch("triage", outcomes, todo, "usable", lambda one: int(one.verdict(least).kind == "usable"))
    found = read(table)
    verdicts = {one.path: one.verdict(least) for one in found}
    usable = [entry for entry in listed if entry.path in verdicts and verdicts[entry.path].kind == "usable"]
    kept.write(output, usable, mics, {one.path: one.pixel_size_A for one in found})
    _show(list(verdicts.values()))
    seconds = f" ({batch.seconds:.0f} s)" if todo else ""
    note(f"triage: {len(usable)} of {len(paths)} micrographs are usable -> {output}; all: {table}{seconds}")
    code = batch.exit_code()
    told = [
        {"path": path, "class": one.kind, "score": one.score, "reason": one.reason} for path, one in verdicts.items()
    ]
    result({"result": "triage", "usable": len(usable), "micrographs": told, "output": output, "exit_code": code})
    return code


def _show(verdicts: Sequence[Verdict]) -> None:
    """Print how many there are of each class, with the reason of the first one that is not usable."""
    counts = Counter(one.kind for one in verdicts)
    for kind, count in counts.most_common():
        example = next(one for one in verdicts if one.kind == kind)
        reason = "" if kind == "usable" else f"e.g. {example.reason}"
        note(f"{count:6} {kind:12}  {reason}".rstrip())
