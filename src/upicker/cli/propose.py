"""``upicker propose``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

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
from upicker.config import Config


def propose(
    *mics: Micrographs,
    output: Output,
    diameter: Size,
    min_diameter: Size | None = None,
    max_diameter: Size | None = None,
    top_k: str | None = None,
    threshold: float | None = None,
    mask: Annotated[Path | None, Parameter(negative="")] = None,
    no_mask: Annotated[bool, Flag] = False,
    format: str = "csv",
    overlay: Annotated[bool, Flag] = False,
    skip_existing: Annotated[bool, Flag] = False,
    pixel_size: PixelSize = None,
    gain: Gain = None,
    changes_: Changes = (),
    config: ConfigFile = None,
    jobs: Jobs = 1,
) -> int:
    """Propose particles without labels and without training: A-LoG, and a template learned from it.

    Writes DIR/NAME.csv (and other formats), pictures of them with --overlay, and run.toml.

    Parameters
    ----------
    output
        The folder to write to.
    diameter
        Diameter of the particles, e.g. 190A or 108px.
    min_diameter
        The smallest diameter to accept; by default propose.min_ratio times --diameter.
    max_diameter
        The largest diameter to accept; by default propose.max_ratio times --diameter.
    top_k
        How many proposals a micrograph gives at most: a number, "all", or "auto" (follows its density).
    threshold
        Lowest score; by default the mean of the filter's answers in the picture.
    mask
        A picture where 1 marks what is not usable, or a folder with NAME_mask.* or NAME.* for each.
    no_mask
        Turn the built-in contamination mask off.
    format
        Formats of coordinates, separated by commas; upicker convert --help lists them.
    overlay
        Draw each micrograph with its proposals, too.
    skip_existing
        Leave out micrographs whose outputs are there.
    jobs
        Processes that work side by side.
    """
    from upicker.run.find import find_all
    from upicker.run.masks import Masks
    from upicker.run.outputs import Outputs
    from upicker.run.propose import Proposing, ratios

    own = {
        "propose__top_k": top_k,
        "propose__threshold": threshold,
        "propose__mask": False if no_mask else None,
    }
    merged = changes(config, changes_, **own)
    paths, reading = listed_micrographs(mics, pixel_size, gain)
    merged |= ratios(diameter, min_diameter, max_diameter, reading.pixel_size_A)
    outputs = Outputs(output, words(format), overlay)
    masks = None if mask is None else Masks(mask)
    work = Proposing(diameter, outputs, Config().with_changes(merged), reading, masks)
    todo = remaining(paths, outputs, skip_existing)
    return follow("proposed", find_all(todo, work, jobs), len(todo), output)
