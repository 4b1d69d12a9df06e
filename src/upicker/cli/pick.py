"""``upicker pick``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from upicker.cli import decoys
from upicker.cli.batches import follow, remaining, warn_of_threshold
from upicker.cli.clusters import workers
from upicker.cli.console import as_json
from upicker.cli.options import (
    NO_MASKS,
    Accurate,
    Changes,
    Cluster,
    ConfigFile,
    Fast,
    Flag,
    Fraction,
    Gain,
    Insecure,
    Jobs,
    Json,
    Masking,
    Micrographs,
    Model,
    Output,
    PixelSize,
    ShareOf,
    Size,
    changes,
    comma_separated,
    listed_micrographs,
    views,
)
from upicker.cli.shares import OPTION, own_share, shared, tell_of_all
from upicker.cli.size import follow_or_resume, known
from upicker.cli.watch import Watching, follow_arriving
from upicker.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from upicker.io.lists import Listed
    from upicker.io.micrographs import Reading
    from upicker.pick.picker import Picker
    from upicker.run.batch import Workers
    from upicker.run.outputs import Outputs
    from upicker.run.pick import Picking
    from upicker.units import Length


def pick(
    *mics: Micrographs,
    model: Model | None = None,
    output: Output,
    diameter: Size | None = None,
    min_diameter: Size | None = None,
    max_diameter: Size | None = None,
    sizes: Annotated[bool, Flag] = False,
    format: str = "csv,star",
    threshold: float | None = None,
    fdr: Fraction | None = None,
    fast: Fast = False,
    accurate: Accurate = False,
    overlay: Annotated[bool, Flag] = False,
    skip_existing: Annotated[bool, Flag] = False,
    share: ShareOf = None,
    jobs: Jobs | None = None,
    json: Json = False,
    cluster: Cluster = None,
    insecure: Insecure = False,
    pixel_size: PixelSize = None,
    gain: Gain = None,
    changes_: Changes = (),
    config: ConfigFile = None,
    masking: Masking = NO_MASKS,
    watching: Watching = Watching(),  # noqa: B008 (it cannot change)
) -> int:
    """Pick particles with the general model, or with weights trained for a data set.

    Writes DIR/NAME.csv and DIR/NAME_autopick.star (or other formats), run.toml, and with --overlay drawings of the
    picks.

    Parameters
    ----------
    model
        Weights from "upicker finetune", "pretrain" or "train"; by default "general-1", which comes with UPicker and
        picks particles of any kind.
    output
        Output folder.
    diameter
        Particle diameter, e.g. 190A; by default that of the weights, or if they know none what "upicker size"
        finds.
    min_diameter
        Smallest pick of weights for particles of any size, in the unit of the diameter; by default 0.6 diameters.
    max_diameter
        Largest pick; likewise, 1.6 diameters.
    sizes
        Each pick keeps its own size, instead of getting the diameter.
    format
        Coordinate formats, separated by commas; "upicker convert --help" lists them.
    threshold
        Lowest score of a pick, 0..1; by default the threshold stored with the weights.
    fdr
        Choose the threshold for this share of picks that are false by chance, e.g. 0.05, as estimated by decoys on a
        few of the micrographs. Contamination is not counted.
    overlay
        Also draw each micrograph with its picks.
    skip_existing
        Skip micrographs whose outputs exist, to continue an earlier run.
    jobs
        Number of parallel processes; by default one per core, or one per GPU.
    """
    from upicker.run.outputs import Outputs

    as_json(json)
    outputs = Outputs(output, comma_separated(format), overlay)
    merged = changes(config, changes_, pick__threshold=threshold, pick__views=views(fast, accurate, changes_))
    merged |= {"pick.sizes": True} if sizes else {}
    decoys.check(fdr, merged)
    asked = _Asked(outputs, diameter, min_diameter, max_diameter, fdr)
    watching.require_whole(share)
    if watching.watch:
        from upicker.io.micrographs import Reading
        from upicker.pick.picker import Picker
        from upicker.run.pick import processes
        from upicker.run.watch import MANY

        picker = Picker(model, merged)
        with workers(cluster, insecure, jobs, processes(MANY, picker), output) as crew:
            of = partial(Reading.of, pixel_size_A=pixel_size, gain=gain, masks=masking.masks)
            return _pick_arriving(mics, watching, asked, picker, crew, of)
    paths, reading = listed_micrographs(mics, pixel_size, gain, masking.masks)
    own = own_share(share, paths)
    todo = remaining(own, outputs, skip_existing)
    if share and not todo:
        return tell_of_all(share, paths, outputs)

    from upicker.pick.picker import Picker
    from upicker.run.find import find_all
    from upicker.run.pick import processes

    def work() -> Picking:
        return asked.work(Picker(model, merged), paths, reading, len(todo), continues)

    continues = OPTION if share else "--skip-existing" if skip_existing else None
    task = shared(paths, work) if share else work()
    with workers(cluster, insecure, jobs, processes(len(todo), task.picker), output) as crew:
        outcomes = find_all(own, task, crew, todo if continues else None, len(paths))
        code = follow("picked", outcomes, len(todo), output)
    return tell_of_all(share, paths, outputs, code) if share else code


@dataclass(frozen=True)
class _Asked:
    """What the user asks for, beside weights and micrographs."""

    outputs: Outputs
    diameter: Length | None
    min_diameter: Length | None
    max_diameter: Length | None
    fdr: float | None

    def work(
        self, picker: Picker, paths: Sequence[Path], reading: Reading, left: int, continues: str | None
    ) -> Picking:
        """Return the work, with diameter and threshold determined by the micrographs.

        Parameters
        ----------
        picker : Picker
            The weights.
        paths : sequence of Path
            The micrographs to determine them by.
        reading : Reading
            How these are read.
        left : int
            How many are to be done.
        continues : str or None
            The option for which an earlier run into the same folder goes on.
        """
        from upicker.run.find import require_same_settings
        from upicker.run.pick import Picking

        diameter = known(picker, paths, reading, self.diameter, self.outputs.folder if continues else None)
        picker = _limited(picker, diameter, self.min_diameter, self.max_diameter)
        work = Picking(picker, self.outputs, diameter, reading)
        follow_or_resume(work, paths, self.diameter if left else None, bool(continues))
        if self.fdr is not None:
            work = decoys.chosen(work, paths, self.fdr, continues, left)
        else:
            warn_of_threshold(work.picker)
        if continues:
            require_same_settings(work, continues)
        return work


def _pick_arriving(
    mics: Sequence[str],
    watching: Watching,
    asked: _Asked,
    picker: Picker,
    crew: int | Workers,
    of: Callable[[Sequence[Listed]], Reading],
) -> int:
    """Pick micrographs as they arrive; diameter and threshold are determined by the first ones."""
    from upicker.io.arriving import Arriving
    from upicker.run import record
    from upicker.run.decoys import MICROGRAPHS, earlier
    from upicker.run.find import require_same_settings
    from upicker.run.watch import FIRST, Task

    outputs = asked.outputs
    source = Arriving(mics, outputs.folder, watching.settle)
    before = record.read(outputs.folder)
    # Weights for any size look at the first ones for the particles' size and contrast.
    least = FIRST if picker.diameter is None and not before.micrographs else 1
    if asked.fdr is not None and earlier(outputs.folder, asked.fdr) is None:
        least = MICROGRAPHS
    ready: list[Picking] = []
    if before.micrographs:  # Other settings are refused before anything arrives.
        ready.append(asked.work(picker, [], of([]), 0, "--watch"))

    def at(work: Picking, listed: Sequence[Listed]) -> Picking:
        return replace(work, reading=of(listed))

    def begin(there: Sequence[Listed], first: Sequence[Listed]) -> tuple[Picking, int | Workers]:
        if not ready:
            paths, reading = [entry.path for entry in there], of(there)
            ready.append(asked.work(picker, paths, reading, len(first), "--watch"))
        require_same_settings(work := at(ready[0], there), "--watch")
        return work, crew

    task = Task(source, lambda listed: outputs, begin, at, least)
    return follow_arriving("picked", task, watching, outputs.folder)


def _limited(picker: Picker, diameter: Length | None, smallest: Length | None, largest: Length | None) -> Picker:
    """Return the picker with limits of its picks' size, which are stored as parts of the diameter.

    Raises
    ------
    ConfigError
        If the weights are for one size, or a limit has another unit than the diameter, or none fits between them.
    """
    changes: dict[str, object] = {}
    for name, knob, limit in (("min", "smallest", smallest), ("max", "largest", largest)):
        if limit is None:
            continue
        if picker.diameter is not None or diameter is None:
            found = f"{picker.path} is for particles of {picker.diameter}"
            raise ConfigError(f"--{name}-diameter", found, "Leave it out, or pick with a general model")
        if limit.unit != diameter.unit:
            remedy = f"Give it in {diameter.unit}, as the diameter is {diameter}"
            raise ConfigError(f"--{name}-diameter", f"{limit} has another unit than the diameter", remedy)
        changes[f"pick.{knob}"] = limit.value / diameter.value
    if not changes:
        return picker
    found = picker.changed(changes)
    if found.config.pick.smallest > found.config.pick.largest:
        lowest, highest = (getattr(found.config.pick, name) for name in ("smallest", "largest"))
        what = f"no size is between {lowest:.3g} and {highest:.3g} diameters of {diameter}"
        raise ConfigError("--min-diameter, --max-diameter", what, "Give both, or another --diameter")
    return found
