"""A micrograph -> its particles: prepare, cut, detect, own, merge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from upicker.config import Config
from upicker.errors import ConfigError
from upicker.geometry import Region, Tile, suppress, tiles
from upicker.image.mask import is_usable, masked
from upicker.image.prepare import Prepared, prepare
from upicker.model import weights
from upicker.model.detector import Detector
from upicker.particles import Micrograph, Particles
from upicker.pick.views import VIEWS, back, fused, seen

# Detections below are noise of no use even for a precision-recall curve.
FLOOR = 0.02
# A tile also keeps what lies this far outside the part it owns (in diameters), so that a particle on the border
# whose two estimates differ is not lost; the merging then removes doubles.
SLACK = 0.15
# Picks of different tiles that overlap more than this are one particle.
SAME_IOU = 0.4
# Picks of different views that are closer than so many diameters are one particle.
SAME_DIAMETERS = 0.3
# In how many views micrographs are looked at, unless the config says it: in all where they are small, up to so many
# squared particle diameters, since that costs no more than the usual number of a large one.
SMALL, ALL_VIEWS, USUAL_VIEWS = 800, len(VIEWS), 4


class Picker:
    """Picks particles with trained weights.

    Parameters
    ----------
    path : str or Path
        A weights file of `upicker pretrain` or `finetune`.
    config : Mapping
        Changes to the stored config, e.g. ``{"pick.threshold": 0.3}``.

    Attributes
    ----------
    config : Config
        The merged config.
    diameter : Length
        The particle's diameter that the weights were trained for.
    threshold : float
        Lowest score of a pick.

    Raises
    ------
    WeightsError, ConfigError
        If the file or the changes cannot be used.
    """

    def __init__(self, path: str | Path, config: Mapping[str, object] | None = None) -> None:
        self._given = (Path(path), dict(config or {}))
        self._model, header, stored = weights.load(Path(path))
        self.config = stored.with_changes(config or {})
        if _fixed(self.config) != _fixed(stored):
            fixed = "model.*, image.working_diameter_px and train.tile_px are fixed by the weights"
            raise ConfigError("--set", fixed, "Leave them out")
        self.diameter = header.length
        chosen = self.config.pick.threshold
        self.threshold = chosen if chosen is not None else header.threshold if header.threshold is not None else 0.3
        self._model = to_device(self._model, self.config)

    def __reduce__(self) -> tuple:
        # Another process reads the file itself: it sets up the device and the threads there, and no tensor is sent.
        return Picker, self._given

    def with_threads(self, threads: int) -> Picker:
        """Return the same picker with so many CPU threads."""
        path, changes = self._given
        return Picker(path, {**changes, "train.threads": threads})

    def pick(self, micrograph: Micrograph, diameter_px: float | None = None) -> Particles:
        """Find the particles of one micrograph.

        Parameters
        ----------
        micrograph : Micrograph
            As read.
        diameter_px : float, optional
            The particle's diameter in raw pixels; by default that of the weights, through the pixel size.

        Returns
        -------
        Particles
            Raw pixels, by falling score, all at or above the threshold.

        Raises
        ------
        ConfigError
            If the diameter is in Angstrom and the pixel size is not known.
        MicrographError
            If the micrograph does not fit the diameter.
        """
        if diameter_px is None:
            diameter_px = self.diameter.to_px(micrograph.pixel_size_A, str(micrograph.path or micrograph.name))
        prepared = masked(prepare(micrograph, diameter_px, self.config.image), self.config.image)
        return detect(self._model, prepared, self.config).above(self.threshold)


def _fixed(config: Config) -> tuple:
    """What weights depend on: the architecture, the scale, and the tile that positions are counted in."""
    return config.model, config.image.working_diameter_px, config.train.tile_px


def to_device(model: Detector, config: Config) -> Detector:
    """Move a detector to the device that the config names, ready for picking."""
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    return model.to(device_of(config)).to(memory_format=torch.channels_last).eval()  # pyright: ignore[reportCallIssue]


def device_of(config: Config) -> torch.device:
    """Return the config's device; ``auto`` takes a GPU where there is one."""
    if config.train.device != "auto":
        return torch.device(config.train.device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def computing(config: Config, device: torch.device) -> torch.autocast:
    """Return the context in which the network computes: bfloat16 where the processor is fast at it."""
    wanted = config.train.bfloat16
    if wanted is None:
        wanted = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_is_fast_at_bfloat16()
    return torch.autocast(device.type, torch.bfloat16, enabled=bool(wanted) and device.type in {"cpu", "cuda"})


def _cpu_is_fast_at_bfloat16() -> bool:
    # A private name of torch: where it is missing, float32 is right, only slower.
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return torch.backends.mkldnn.is_available() and supported()


def detect(model: Detector, prepared: Prepared, config: Config, region: Region | None = None) -> Particles:
    """Return all detections of a prepared micrograph down to a very low score, doubles removed.

    Parameters
    ----------
    model : Detector
        On its device, in evaluation mode.
    prepared : Prepared
        The micrograph at the working scale, masked.
    config : Config
        Tiles, overlap, suppression, margin.
    region : Region, optional
        Look only here, raw pixels; the network sees what is around it, too. By default everywhere.

    Returns
    -------
    Particles
        Raw pixels, by falling score.
    """
    rows, columns = _looked_at(prepared, config, region)
    pixels = prepared.pixels[rows, columns]
    each = [_detect(model, seen(pixels, i), config) for i in range(views_of(prepared, config))]
    each = [back(_without_doubles(found, config), pixels.shape, i) for i, found in enumerate(each)]
    # Once more: where views disagree on which of two overlapping picks is the better one, both have come through.
    merged = _without_doubles(fused(each, SAME_DIAMETERS * config.image.working_diameter_px), config)
    frame = prepared.frame
    corner = np.array([columns.start, rows.start])
    raw = Particles.of(frame.to_raw(merged.xy + corner), merged.diameter_px / frame.scale, merged.score)
    inner = Region.inside(frame.raw_shape, (config.pick.edge_diameters or 0.0) * prepared.diameter_px)
    kept = inner.contains(raw.xy) & is_usable(prepared, raw.xy)
    if region is not None:
        kept &= region.contains(raw.xy)
    return raw.select(kept).by_score()


def views_of(prepared: Prepared, config: Config) -> int:
    """Return in how many views a micrograph, or a region of it, is looked at."""
    if config.pick.views is not None:
        return config.pick.views
    return ALL_VIEWS if prepared.pixels.size <= SMALL * config.image.working_diameter_px**2 else USUAL_VIEWS


def _looked_at(prepared: Prepared, config: Config, region: Region | None) -> tuple[slice, slice]:
    """Return the rows and columns of working pixels that show a region and what is around it."""
    height, width = prepared.pixels.shape
    if region is None:
        return slice(0, height), slice(0, width)
    around = config.pick.overlap_diameters * config.image.working_diameter_px
    low, high = prepared.frame.to_working(np.array([[region.x0, region.y0], [region.x1, region.y1]]))
    ends = zip((low[1], low[0]), (high[1], high[0]), (height, width), strict=True)
    rows, columns = (_around(first - around, last + around, config.train.tile_px, most) for first, last, most in ends)
    return rows, columns


def _around(first: float, last: float, least: int, most: int) -> slice:
    """Return the pixels from `first` to `last` of 0 to `most`, and on both sides so many more that they are `least`."""
    more = max(0.0, (least - (last - first)) / 2)
    start = int(np.clip(np.floor(first - more), 0, max(0, most - least)))
    return slice(start, int(np.clip(np.ceil(last + more), min(start + least, most), most)))


def cut(pixels: np.ndarray, x: int, y: int, size: int) -> np.ndarray:
    """Cut a `(size, size)` tile that starts at column `x`, row `y`; beyond the picture it is 0, the background."""
    part = pixels[y : y + size, x : x + size]
    if part.shape == (size, size):
        return part
    return np.pad(part, ((0, size - part.shape[0]), (0, size - part.shape[1])))


def _detect(model: Detector, pixels: np.ndarray, config: Config) -> Particles:
    """Return the detections of a picture at the working scale, one per place."""
    size = config.train.tile_px
    cover = tiles(pixels.shape, size, min(config.pick.overlap_diameters * config.image.working_diameter_px, size // 2))
    batches = [cover[start : start + config.pick.batch] for start in range(0, len(cover), config.pick.batch)]
    found = [part for batch in batches for part in _detect_tiles(model, pixels, batch, config)]
    everything = Particles.concatenate(found)
    tile = np.repeat(np.arange(len(found)), [len(part) for part in found])
    return everything.select(_unsuppressed(everything, SAME_IOU, tile))


def _detect_tiles(model: Detector, pixels: np.ndarray, batch: list[Tile], config: Config) -> Iterator[Particles]:
    """Yield, per tile, what it owns, in working pixels."""
    size = config.train.tile_px
    device = device_of(config)
    images = torch.from_numpy(np.stack([cut(pixels, tile.x, tile.y, size) for tile in batch]))[:, None]
    with torch.inference_mode(), computing(config, device):
        output = model(images.to(device, memory_format=torch.channels_last))
    scores = output.pred_logits[..., 0].sigmoid().float().cpu().numpy().astype(np.float64)
    boxes = output.pred_boxes.float().cpu().numpy().astype(np.float64) * size
    for tile, score, box in zip(batch, scores, boxes, strict=True):
        # A tile spans 0..1 from the outer edge of its first pixel, whose centre is at 0.
        xy = box[:, :2] - 0.5 + (tile.x, tile.y)
        kept = (score >= FLOOR) & tile.owns(xy, SLACK * config.image.working_diameter_px)
        yield Particles.of(xy[kept], np.sqrt(box[kept, 2] * box[kept, 3]), score[kept])


def _without_doubles(particles: Particles, config: Config) -> Particles:
    """Return a view's picks, or all views', less those that overlap better ones, if the config asks for that."""
    if config.pick.nms_iou is None:
        return particles
    return particles.select(_unsuppressed(particles, config.pick.nms_iou))


def _unsuppressed(particles: Particles, iou: float, group: np.ndarray | None = None) -> np.ndarray:
    return suppress(particles.xy, particles.diameter_px, particles.score, iou, group)
