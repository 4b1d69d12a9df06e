"""``upicker propose``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from upicker.cli.batches import follow, remaining
from upicker.cli.clusters import workers
from upicker.cli.console import as_json
from upicker.cli.options import (
    NO_MASKS,
    Changes,
    Cluster,
    ConfigFile,
    Flag,
    Gain,
    Insecure,
    Jobs,
    Json,
    Masking,
    Micrographs,
    Output,
    PixelSize,
    ShareOf,
    Size,
    changes,
    comma_separated,
    listed_micrographs,
)
from upicker.cli.shares import own_share, shared, tell_of_all
from upicker.cli.watch import Watching, follow_arriving
from upicker.config import Config
from upicker.errors import ConfigError
from upicker.units import Length

if TYPE_CHECKING:
    from upicker.io.lists import Listed
    from upicker.run.batch import Workers
    from upicker.run.propose import Proposing


def propose(
    *mics: Micrographs,
    output: Output,
    diameter: Size,
    min_diameter: Size | None = None,
    max_diameter: Size | None = None,
    top_k: str | None = None,
    threshold: float | None = None,
    no_mask: Annotated[bool, Flag] = False,
    format: str = "csv",
    overlay: Annotated[bool, Flag] = False,
    skip_existing: Annotated[bool, Flag] = False,
    share: ShareOf = None,
    pixel_size: PixelSize = None,
    gain: Gain = None,
    changes_: Changes = (),
    config: ConfigFile = None,
    jobs: Jobs | None = None,
    json: Json = False,
    cluster: Cluster = None,
    insecure: Insecure = False,
    masking: Masking = NO_MASKS,
    watching: Watching = Watching(),  # noqa: B008 (it cannot change)
) -> int:
    """Propose particles without labels or training: A-LoG filters, refined by a template learned from them.

    Writes DIR/NAME.csv (or other formats), run.toml, and with --overlay drawings of the proposals.

    Parameters
    ----------
    output
        Output folder.
    diameter
        Particle diameter, e.g. 190A or 108px.
    min_diameter
        Smallest diameter of the blobs that the template is learned from, or with --set propose.template=false of those
        that are accepted; by default that of propose.min_ratio.
    max_diameter
        Largest diameter; likewise, propose.max_ratio.
    top_k
        Largest number of proposals per micrograph: a number, "all", or "auto" (follows the density of particles).
    threshold
        Lowest score, in sigma (knob propose.threshold); with --top-k auto, it can only lower the number of proposals.
    no_mask
        Turn off the built-in contamination mask.
    format
        Coordinate formats, separated by commas; "upicker convert --help" lists them.
    overlay
        Also draw each micrograph with its proposals.
    skip_existing
        Skip micrographs whose outputs exist.
    jobs
        Number of parallel processes.
    """
    from upicker.io.micrographs import Reading
    from upicker.run.find import find_all, require_same_settings
    from upicker.run.outputs import Outputs
    from upicker.run.propose import Proposing, ratios

    as_json(json)
    own = {
        "propose__top_k": top_k,
        "propose__threshold": threshold,
        "propose__mask": False if no_mask else None,
    }
    merged = changes(config, changes_, **own)
    watching.require_whole(share)
    if watching.watch:
        paths, reading = [], Reading(pixel_size, {}, gain, masking.masks)
    else:
        paths, reading = listed_micrographs(mics, pixel_size, gain, masking.masks)
    merged |= ratios(diameter, min_diameter, max_diameter, reading.pixel_size_A)
    knobs = Config().with_changes(merged)
    if knobs.propose.template and knobs.propose.profile is not None and not knobs.propose.sizes:
        _refuse_range(min_diameter, max_diameter)
    outputs = Outputs(output, comma_separated(format), overlay)
    work = Proposing(diameter, outputs, knobs, reading)
    if watching.watch:
        with workers(cluster, insecure, jobs, 1, output) as crew:
            return _propose_arriving(mics, watching, work, crew)
    mine = own_share(share, paths)
    todo = remaining(mine, outputs, skip_existing)
    if share and not todo:
        return tell_of_all(share, paths, outputs)
    if share:
        work = shared(paths, lambda: work)
    elif skip_existing:
        require_same_settings(work)
    with workers(cluster, insecure, jobs, 1, output) as crew:
        outcomes = find_all(mine, work, crew, todo if share or skip_existing else None, len(paths))
        code = follow("proposed", outcomes, len(todo), output)
    return tell_of_all(share, paths, outputs, code) if share else code


def _propose_arriving(mics: Sequence[str], watching: Watching, work: Proposing, crew: int | Workers) -> int:
    """Propose in micrographs as they arrive; a template is learned from the first ones."""
    from upicker.io.arriving import Arriving
    from upicker.io.micrographs import Reading
    from upicker.run import record
    from upicker.run.find import continued, require_same_settings
    from upicker.run.watch import FIRST, Task

    outputs, given = work.outputs, work.reading
    source = Arriving(mics, outputs.folder, watching.settle)
    require_same_settings(work, "--watch")
    least = FIRST if continued(work, record.read(outputs.folder)).learns else 1

    def at(work: Proposing, listed: Sequence[Listed]) -> Proposing:
        return replace(work, reading=Reading.of(listed, given.pixel_size_A, given.gain, given.masks))

    def begin(there: Sequence[Listed], first: Sequence[Listed]) -> tuple[Proposing, int | Workers]:
        require_same_settings(begun := at(work, there), "--watch")
        return begun, crew

    task = Task(source, lambda listed: outputs, begin, at, least)
    return follow_arriving("proposed", task, watching, outputs.folder)


def _refuse_range(smallest: Length | None, largest: Length | None) -> None:
    """Refuse a range of diameters beside a template that is given: none is learned, so it would have no effect."""
    for option, length in (("--min-diameter", smallest), ("--max-diameter", largest)):
        if length is not None:
            remedy = "Leave it out, or propose.profile, or give --set propose.template=false"
            raise ConfigError(option, "it has no effect beside a template that is given (propose.profile)", remedy)
