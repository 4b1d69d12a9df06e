"""``upicker pick``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from upicker.cli.batches import follow, remaining
from upicker.cli.options import (
    Changes,
    ConfigFile,
    Flag,
    Gain,
    Jobs,
    Micrographs,
    Output,
    PixelSize,
    Size,
    changes,
    listed_micrographs,
    words,
)


def pick(
    *mics: Micrographs,
    model: Path,
    output: Output,
    diameter: Size | None = None,
    format: str = "csv,star",
    threshold: float | None = None,
    overlay: Annotated[bool, Flag] = False,
    skip_existing: Annotated[bool, Flag] = False,
    jobs: Jobs | None = None,
    pixel_size: PixelSize = None,
    gain: Gain = None,
    changes_: Changes = (),
    config: ConfigFile = None,
) -> int:
    """Pick particles with trained weights.

    Writes DIR/NAME.csv and DIR/NAME_autopick.star (and other formats), pictures of them with --overlay, and
    run.toml.

    Parameters
    ----------
    model
        Weights of "upicker finetune" or "upicker pretrain".
    output
        The folder to write to.
    diameter
        Diameter of the particles, e.g. 190A; by default the one that the weights were trained for.
    format
        Formats of coordinates, separated by commas; upicker convert --help lists them.
    threshold
        Lowest score, 0..1; by default the one that training chose and stored with the weights.
    overlay
        Draw each micrograph with its picks, too.
    skip_existing
        Leave out micrographs whose outputs are there: goes on where an earlier run stopped.
    jobs
        Processes that pick at the same time; by default one a core, or one with a GPU.
    """
    from upicker.run.outputs import Outputs

    outputs = Outputs(output, words(format), overlay)
    merged = changes(config, changes_, pick__threshold=threshold)
    paths, reading = listed_micrographs(mics, pixel_size, gain)
    paths = remaining(paths, outputs, skip_existing)

    from upicker.pick.picker import Picker
    from upicker.run.find import find_all
    from upicker.run.pick import Picking, processes

    work = Picking(Picker(model, merged), outputs, diameter, reading)
    jobs = jobs or processes(len(paths), work.picker)
    return follow("picked", find_all(paths, work, jobs), len(paths), output)
