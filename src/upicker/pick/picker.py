"""A micrograph -> its particles, with trained weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from upicker.config import Config, PickConfig
from upicker.errors import ConfigError, UPickerWarning, warn
from upicker.image.mask import is_usable, masked
from upicker.image.prepare import Prepared, prepare
from upicker.io.stamp import stamp
from upicker.particles import Micrograph, Particles
from upicker.pick.decoys import ALL_CHANCE, DOUBTFUL, negated
from upicker.pick.detection import detect, number_of_views
from upicker.pick.network import DeviceFullError, LoadedNetwork, Network, load
from upicker.pick.scales import judge
from upicker.pick.shipped import located
from upicker.pick.size import NEAR, own
from upicker.pick.sparing import Sparing
from upicker.units import Length

# Lowest score of a pick where neither the weights nor the config have a threshold.
DEFAULT_THRESHOLD = 0.3


class Picker:
    """Picks particles with trained weights.

    Parameters
    ----------
    model : Path or str, optional
        A weights file of `upicker pretrain`, `finetune` or `train`, or the name of a shipped model; by default the
        general model.
    config : Mapping
        Changes to the stored config, e.g. ``{"pick.threshold": 0.3}``.
    back_end : callable
        Path and changes -> `upicker.pick.network.LoadedNetwork`: what computes the network. By default PyTorch.

    Attributes
    ----------
    path : Path
        The weights file.
    config : Config
        The merged config.
    diameter : Length or None
        The particle diameter that the weights were trained for; None: any.
    general : dict of str to str
        The shipped model that the weights are, or were trained from; empty: none.
    threshold : float
        Lowest score of a pick; may be set.
    relative_size : float
        Size of the particles, in given diameters: the working scale is that for particles of this size. 1 at first;
        may be set, or found by `follow`.
    stored_threshold : float
        What it is at first: the config's, that of the weights, or `DEFAULT_THRESHOLD`.
    has_threshold : bool
        Whether the weights or the config have a threshold; else it is `DEFAULT_THRESHOLD`.
    device : str
        Type of the device that computes the network: ``"cpu"``, ``"cuda"``, ...
    bfloat16 : bool
        Whether the network is computed in bfloat16.
    gpus : tuple of str
        The GPUs that several processes divide, see `upicker.pick.network.LoadedNetwork`.

    Raises
    ------
    WeightsError, ConfigError
        If the file or the changes cannot be used.
    """

    def __init__(
        self,
        model: Path | str | None = None,
        config: Mapping[str, object] | None = None,
        back_end: Callable[[Path, Mapping[str, object]], LoadedNetwork] = load,
    ) -> None:
        self.path, self._changes, self._back_end = located(model), dict(config or {}), back_end
        loaded = back_end(self.path, self._changes)
        self._network, self._spare, self.config = Sparing(loaded.network), loaded.spare, loaded.config
        self.diameter, self.device, self.gpus = loaded.diameter, loaded.device, loaded.gpus
        self.bfloat16 = loaded.bfloat16
        self.general, self._probability = dict(loaded.general), loaded.probability
        self._on_cpu: Network | None = None
        pick = self.config.pick
        thresholds = (pick.threshold, loaded.threshold_with(pick.views), DEFAULT_THRESHOLD)
        self.stored_threshold = next(threshold for threshold in thresholds if threshold is not None)
        self.threshold = self.stored_threshold
        self.relative_size = 1.0
        self.has_threshold = thresholds[:2] != (None, None)

    def __reduce__(self) -> tuple:
        # Another process reads the file itself: it sets up the device and the threads there, and no tensor is sent.
        state = {"threshold": self.threshold, "relative_size": self.relative_size}
        return _again, (self.path, self._changes, self._back_end, state)

    def with_threads(self, threads: int) -> Picker:
        """Return the same picker with this many CPU threads."""
        return self.changed({"train.threads": threads})

    def changed(self, changes: Mapping[str, object]) -> Picker:
        """Return the same picker with further changes to the config."""
        picker = Picker(self.path, {**self._changes, **changes}, self._back_end)
        picker.threshold, picker.relative_size = self.threshold, self.relative_size
        return picker

    @property
    def knows_contrast(self) -> bool:
        """Whether particles are known to be dark or bright: the user said so, or the weights are for one specimen."""
        return self.diameter is not None or "image.particles" in self._changes

    def negate(self) -> str:
        """Take particles to be bright instead of dark, or the reverse; return which (knob ``image.particles``)."""
        particles = "dark" if self.config.image.particles == "bright" else "bright"
        self._changes["image.particles"] = particles
        self.config = self.config.with_changes({"image.particles": particles})
        return particles

    def diameter_or(self, given: Length | None = None) -> Length:
        """Return the diameter that is given, or else that of the weights.

        Raises
        ------
        ConfigError
            If there is neither.
        """
        diameter = given or self.diameter
        if diameter is None:
            found = f"{self.path} is for particles of any size, so the diameter is not known"
            raise ConfigError(
                "--diameter", found, "Give --diameter, e.g. --diameter 190A or 108px; upicker size estimates it"
            )
        return diameter

    def follow(self, micrographs: Sequence[Micrograph], diameter_px: float) -> float:
        """Look at some micrographs, and set the working scale to the size that particles there have by their boxes.

        A diameter that is given too large or too small costs picks; this makes up for it, up to factors of 0.6 and 1.6.
        Where particles are not clearly of another size than was given (`upicker.pick.size.own`), the weights know the
        diameter, or the knob ``pick.follow`` is off, it is the given one.

        Parameters
        ----------
        micrographs : sequence of Micrograph
            One or a few, with their pixels.
        diameter_px : float
            The given diameter, raw pixels of the first one; where pixel sizes differ, the same length in others.

        Returns
        -------
        float
            The new `relative_size`.
        """
        pick = self.config.pick
        self.relative_size = 1.0
        if self.diameter is None and pick.follow:
            low, high = max(NEAR[0], pick.smallest), min(NEAR[1], pick.largest)
            one_view = self if pick.views == 1 else self.changed({"pick.views": 1})
            at = partial(judge, one_view, micrographs, limits_px=(low * diameter_px, high * diameter_px))
            self.relative_size = round(own(at, diameter_px), 2)
        return self.relative_size

    def pick(self, micrograph: Micrograph, diameter_px: float | None = None) -> Particles:
        """Find the particles of one micrograph.

        Parameters
        ----------
        micrograph : Micrograph
            As read.
        diameter_px : float, optional
            The particle diameter in raw pixels; by default that of the weights, through the pixel size.

        Returns
        -------
        Particles
            Raw pixels, by falling score, all at or above the threshold.

        Raises
        ------
        ConfigError
            If the diameter is in Angstrom and the pixel size is not known, or there is no diameter.
        MicrographError
            If the micrograph does not fit the diameter.
        """
        return self.picks(self.prepared(micrograph, diameter_px), micrograph.path or micrograph.name)

    def prepared(self, micrograph: Micrograph, diameter_px: float | None = None) -> Prepared:
        """Do the first step of `pick`, which needs no network: the micrograph as the network is shown it.

        Raises
        ------
        ConfigError, MicrographError
            As `pick`.
        """
        if diameter_px is None:
            length = self.diameter_or()
            diameter_px = length.to_px(micrograph.pixel_size_A, str(micrograph.path or micrograph.name))
        # All that is said in diameters is said in given ones.
        return replace(self.shown(micrograph, diameter_px * self.relative_size), diameter_px=diameter_px)

    def shown(self, micrograph: Micrograph, size_px: float) -> Prepared:
        """Return a micrograph at the working scale for particles of some size, whatever the given diameter.

        Raises
        ------
        MicrographError, InputError
            If the micrograph does not fit the size.
        """
        found = masked(prepare(micrograph, size_px, self.config.image), self.config.image)
        return replace(found, unflattened=None)

    def picks(self, prepared: Prepared, where: Path | str) -> Particles:
        """Do the second step of `pick`; `where` names the micrograph in warnings."""
        found = self._above(prepared, where)
        if self._are_chance(found, prepared, where):
            found = found.select(np.zeros(len(found), bool))
        if not len(found) and self.threshold == self.stored_threshold >= 1 and self.config.pick.threshold is None:
            warn(
                UPickerWarning(
                    where,
                    f"nothing was picked: the threshold stored with {self.path.name} is 1, as these weights found no "
                    "particle when they were validated",
                    "Train longer, or give --threshold",
                )
            )
        return found

    def _above(self, prepared: Prepared, where: Path | str, views: int | None = None) -> Particles:
        """Return what is at or above the threshold and of a size that was asked for, in some number of views."""
        config = self.config if views is None else self.config.with_changes({"pick.views": views})
        found = self.detections(prepared, where, config)
        found = found.select(is_usable(prepared, found.xy))
        probability = self._probability(found.score, number_of_views(prepared, config))
        return self._of_size(replace(found, score=probability).above(self.threshold), prepared.diameter_px)

    def _are_chance(self, found: Particles, prepared: Prepared, where: Path | str) -> bool:
        """Return whether the picks are as those of noise: doubtful, with many in the negated micrograph, too.

        Only weights for any size are asked, which do not know whether there is anything, and only where nobody gave a
        threshold. One view of the negative, with rather more picks than several, is enough.
        """
        if (
            self.diameter is not None
            or self.threshold != self.stored_threshold
            or self.config.pick.threshold is not None
        ):
            return False
        if not len(found) or found.score.mean() >= DOUBTFUL:
            return False
        return len(self._above(negated(prepared), where, views=1)) >= ALL_CHANCE * len(found)

    def _of_size(self, found: Particles, diameter_px: float) -> Particles:
        """Leave out what weights for particles of any size found of another size than was asked for.

        Picks get the given diameter, whatever the size of their boxes, unless ``pick.sizes`` is on.
        """
        if self.diameter is None:
            ratio, (low, high) = found.diameter_px / diameter_px, self._limits()
            found = found.select((ratio >= low) & (ratio <= high))
        return found if self.config.pick.sizes else found.with_diameter(diameter_px)

    def _limits(self) -> tuple[float, float]:
        """Return which sizes are kept, in given diameters; the usual limits hold for a size that is followed, too."""
        pick, usual, size = self.config.pick, PickConfig(), self.relative_size
        low = pick.smallest * min(1.0, size) if pick.smallest == usual.smallest else pick.smallest
        high = pick.largest * max(1.0, size) if pick.largest == usual.largest else pick.largest
        return low, high

    def detections(self, prepared: Prepared, where: Path | str, config: Config | None = None) -> Particles:
        """Return all that `picks` chooses from, down to a very low score, by falling score, which is not calibrated.

        It is detected on the CPU where the GPU's memory is full: perhaps it is only so for a while. `config` is the
        picker's by default; another one may have other views.
        """
        config = config or self.config
        try:
            return detect(self._network, prepared, config)
        except DeviceFullError:
            if self._spare is None:
                raise
        found = "the memory of the GPU is full: the particles were found on the CPU, which takes longer"
        warn(UPickerWarning(where, found, "End what else runs on the GPU, or use fewer --jobs"))
        if self._on_cpu is None:
            self._on_cpu = Sparing(self._spare())
        return detect(self._on_cpu, prepared, config)


_last: list[tuple[object, Picker]] = []


def _again(
    path: Path, changes: dict[str, object], back_end: Callable[..., LoadedNetwork], state: dict[str, float]
) -> Picker:
    """Return the picker that another process sent; the last one is kept, as each round of a watch sends it again."""
    key = (path, changes, back_end, state, stamp(path))
    if not _last or _last[0][0] != key:
        _last[:] = [(key, Picker(path, changes, back_end))]
        vars(_last[0][1]).update(state)
    return _last[0][1]
