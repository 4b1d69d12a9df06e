"""``upicker label``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from upicker.cli.options import (
    NO_MASKS,
    Changes,
    ConfigFile,
    Flag,
    Gain,
    Masking,
    Micrographs,
    Model,
    PixelSize,
    Size,
    changes,
    listed_micrographs,
)
from upicker.cli.serving import Force, Host, Port, check_host, counted, show


def label(
    *mics: Micrographs,
    labels: Path,
    diameter: Size | None = None,
    model: Model | None = None,
    host: Host = "127.0.0.1",
    port: Port = None,
    no_browser: Annotated[bool, Flag] = False,
    force: Force = False,
    pixel_size: PixelSize = None,
    gain: Gain = None,
    changes_: Changes = (),
    config: ConfigFile = None,
    masking: Masking = NO_MASKS,
) -> int:
    """Label particles in the browser, and train on the labels.

    Starts a small server and prints its address; Ctrl-C stops it. Every change is saved immediately, to LABELS/NAME.csv
    and coverage.csv (which labels are complete); the page's own state is in LABELS/.upicker.

    Parameters
    ----------
    labels
        Folder of labels, one file for each micrograph; created if it does not exist.
    diameter
        Particle diameter, e.g. 190A; by default the one last set on the page, that of the weights, or that of
        the labels. Otherwise the page asks for it.
    model
        Weights from "upicker finetune", "pretrain" or "train", for proposals, for suggestions, and to train further; by
        default the general model, "general-1", for proposals and to train further.
    no_browser
        Do not open a browser.
    """
    check_host(host)
    merged = changes(config, changes_)
    paths, reading = listed_micrographs(mics, pixel_size, gain, masking.masks)

    from upicker.pick.shipped import located
    from upicker.web.project import labelling

    weights = None if model is None else located(model)
    project = labelling(paths, reading, labels, diameter, weights, merged)
    return show(project, host, port, not no_browser, f"Labels of {counted(paths)} -> {labels}", force)
