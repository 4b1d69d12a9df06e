"""The formats of coordinates, one module each; `upicker.io.formats.format` explains how to add one."""

from __future__ import annotations

from upicker.io.formats import (
    box,
    cbox,
    coco,
    cryoppp,
    cryosparc,
    eman2,
    relion_job,
    relion_particles,
    relion_star,
    topaz,
    upicker_csv,
    upicker_tsv,
    warp,
)
from upicker.io.formats.content import Content, unknown
from upicker.io.formats.format import Format

# From the special to the general: the first that recognises a content reads it, and CSV, which accepts any text, comes
# last. Help, page and documents list them in reverse, the common ones first; this is also the order of preference if
# several files of a folder belong to one micrograph.
FORMATS: tuple[Format, ...] = (
    cryoppp.FORMAT,
    coco.FORMAT,
    warp.FORMAT,
    topaz.FORMAT,
    eman2.FORMAT,
    cbox.FORMAT,
    box.FORMAT,
    cryosparc.FORMAT,
    relion_particles.FORMAT,
    relion_job.FORMAT,
    relion_star.FORMAT,
    upicker_tsv.FORMAT,
    upicker_csv.FORMAT,
)
COMMON_FIRST = FORMATS[::-1]


def recognized(content: Content) -> Format:
    """Return the format of a content.

    Raises
    ------
    CoordinatesError
        If no format recognises it, or it is damaged.
    """
    if upicker_csv.is_own(content.data) and content.kind == "text":
        return upicker_csv.FORMAT  # As it would be after all others were asked.
    for format in FORMATS:
        if format.sniff(content):
            return format
    raise unknown(content)
