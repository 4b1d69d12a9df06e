"""Every knob of the package: one frozen dataclass per room, the unit in the name.

Precedence: the defaults here < a config file (TOML, one table per room) < the command line
(``--set room.knob=value``). An unknown knob is an error that names the nearest one. The merged config
travels with the weights and with every output.
"""

from __future__ import annotations

import difflib
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from upicker.config.augmentation import RANGES, AugmentConfig
from upicker.config.teaching import RANGES as TEACHER_RANGES
from upicker.config.teaching import TeacherConfig
from upicker.errors import ConfigError


@dataclass(frozen=True)
class ImageConfig:
    """Preparing a micrograph (`upicker.image`).

    Attributes
    ----------
    working_diameter_px : one particle diameter at the working scale, in working pixels.
    particles : ``"dark"`` or ``"bright"``: how particles look against the ice in the raw picture.
    repair : replace non-finite and hot pixels by their surroundings.
    flatten : subtract the background (ice gradient), a Gaussian of `flatten_diameters`.
    flatten_diameters : standard deviation of that Gaussian, in particle diameters.
    bilateral : edge-preserving denoising (the paper's bilateral filter).
    equalize : ``"none"``, ``"histogram"`` or ``"clahe"``.
    clip_sigma : values beyond so many robust standard deviations are clipped.
    mask : blank what is no usable ice (frames, contaminants, carbon edges) before training and picking.
    """

    working_diameter_px: float = 24.0
    particles: str = "dark"
    repair: bool = True
    flatten: bool = True
    flatten_diameters: float = 2.5
    bilateral: bool = False
    equalize: str = "none"
    clip_sigma: float = 5.0
    mask: bool = True


@dataclass(frozen=True)
class ProposeConfig:
    """Adaptive-LoG proposals (`upicker.propose`).

    Attributes
    ----------
    template : find particles with a template learned from the strongest A-LoG proposals; False: A-LoG alone, as in the
        paper.
    profile : that template: its values above the ice at 0, 1/32, 2/32, ... diameters from the centre; None: learned
        from a few micrographs of the run (`upicker.propose.template`).
    min_ratio, max_ratio : d_min and d_max, in particle diameters; None: 0.6 and 1.3, or, with a template, the best of a
        few ranges. The paper's: 0.8 and 1.25.
    range_penalty : what a pixel loses when a diameter out of that range answers better there: so many times the
        difference; ``inf``: it is no candidate at all, as in the paper.
    maxima : take only local maxima of the score; False: any remaining pixel, as in the paper.
    disc_diameters : diameter of the disc zeroed around a peak, in d_best; 1: as in the paper.
    threshold : theta, in units of the prepared picture; None: the mean of LoG_best, as in the paper.
    top_k : a number, ``"all"``, or ``"auto"`` (follows the density of each micrograph). The paper's: 50.
    mask : leave out what the built-in contamination mask marks.
    """

    template: bool = True
    profile: tuple[float, ...] | None = None
    min_ratio: float | None = None
    max_ratio: float | None = None
    range_penalty: float = 0.25
    maxima: bool = True
    disc_diameters: float = 1.5
    threshold: float | None = None
    top_k: str = "auto"
    mask: bool = True


@dataclass(frozen=True)
class ModelConfig:
    """The detection transformer (`upicker.model`).

    Attributes
    ----------
    backbone : ``"compact"`` (own widths), ``"resnet18"``, ``"resnet34"`` or ``"resnet50"``.
    widths : channels of the compact backbone's stages, at strides 2, 4, 8, 16, 32.
    levels : feature scales given to the transformer, from stride 8 on.
    dim, heads, points, feedforward : transformer width, attention heads, sampling points, hidden width.
    encoder_layers, decoder_layers : their numbers.
    queries : detections per tile, at most.
    """

    backbone: str = "compact"
    widths: tuple[int, ...] = (32, 48, 96, 160, 256)
    levels: int = 3
    dim: int = 128
    heads: int = 8
    points: int = 4
    feedforward: int = 512
    encoder_layers: int = 2
    decoder_layers: int = 3
    queries: int = 200


@dataclass(frozen=True)
class LossConfig:
    """Matching and losses, eq. (2)-(4) of the paper.

    Attributes
    ----------
    class_weight, l1_weight, giou_weight : lambda_c, lambda_l and lambda_GIoU.
    match_class, match_l1, match_giou : the same in the matching cost.
    focal_alpha, focal_gamma : of the focal loss.
    unsure_weight : what places that may hold a particle or not weigh as background in the class loss; 0: nothing is
        taught there; 1: labels are taken for complete.
    """

    class_weight: float = 1.0
    l1_weight: float = 5.0
    giou_weight: float = 2.0
    match_class: float = 2.0
    match_l1: float = 5.0
    match_giou: float = 2.0
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    unsure_weight: float = 0.25


@dataclass(frozen=True)
class DenoiseConfig:
    """Contrastive denoising training.

    Attributes
    ----------
    groups : groups of denoising queries; each holds a positive and a negative query per object.
    label_noise : lambda_l, the share of positive queries whose label is replaced.
    positive_noise, negative_noise : lambda_p < lambda_n, the box noise in half box sides.
    """

    groups: int = 1
    label_noise: float = 0.5
    positive_noise: float = 0.4
    negative_noise: float = 0.8


@dataclass(frozen=True)
class TrainConfig:
    """Both training stages (`upicker.train`).

    Attributes
    ----------
    tile_px : side of a training and picking tile, in working pixels.
    batch : tiles computed together, by each process; a step learns from batch x accumulate x processes.
    accumulate : batches per step, computed one after the other: the step of a large batch in the memory of a small one.
    proposals : K in pretraining, as `ProposeConfig.top_k`. The paper takes 50; in a crowded micrograph that would
        teach hundreds of particles as background, so here K follows each micrograph's density.
    pretrain_steps, finetune_steps : length of the two stages.
    learning_rate, finetune_learning_rate : peak of the one-cycle schedule, from a random start and from given weights.
    rate_batch : tiles a step that the learning rates are meant for; with more or fewer, they change with the square
        root of the number. None: they do not.
    weight_decay, clip_norm : AdamW's decay; the gradient's largest norm.
    warmup : share of the steps that the learning rate rises.
    average : decay of the moving average of the weights that is validated and kept; 0 turns it off.
    validate_every : steps between validations.
    patience : validations without a better F1 before training stops.
    bfloat16 : compute the network in bfloat16 where the processor is fast at it; None decides by the processor.
    seed : of everything random.
    threads : CPU threads; 0 leaves it to torch.
    device : ``"auto"``, ``"cpu"``, ``"cuda"``, ...
    """

    tile_px: int = 288
    batch: int = 2
    accumulate: int = 1
    proposals: str = "auto"
    pretrain_steps: int = 400
    finetune_steps: int = 800
    learning_rate: float = 4e-4
    finetune_learning_rate: float = 1.6e-3
    rate_batch: int | None = 2
    weight_decay: float = 1e-4
    clip_norm: float = 0.5
    warmup: float = 0.1
    average: float = 0.98
    validate_every: int = 100
    patience: int = 8
    bfloat16: bool | None = None
    seed: int = 0
    threads: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class PickConfig:
    """Picking (`upicker.pick`).

    Attributes
    ----------
    overlap_diameters : overlap of neighbouring tiles, in particle diameters.
    batch : tiles computed together.
    views : turned and mirrored versions of each micrograph, up to 8, whose mean is taken; the time grows with them.
        None: 8 of micrographs up to 28 x 28 particle diameters, 4 of larger ones.
    threshold : lowest score; None takes the one stored with the weights.
    nms_iou : of two picks whose squares overlap more than this, the weaker goes; None keeps both.
    edge_diameters : no picks closer than this to the rim, in particle diameters; None: the margin that the labels
        leave, which fine-tuning stores with the weights.
    """

    overlap_diameters: float = 2.0
    batch: int = 4
    views: int | None = None
    threshold: float | None = None
    nms_iou: float | None = 0.5
    edge_diameters: float | None = None


@dataclass(frozen=True)
class Config:
    """All rooms' knobs."""

    image: ImageConfig = field(default_factory=ImageConfig)
    propose: ProposeConfig = field(default_factory=ProposeConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    denoise: DenoiseConfig = field(default_factory=DenoiseConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    pick: PickConfig = field(default_factory=PickConfig)

    def with_changes(self, changes: Mapping[str, object], where: str = "--set") -> Config:
        """Return a config with ``{"room.knob": value}`` applied; values may be strings.

        Raises
        ------
        ConfigError
            For an unknown room or knob (names the nearest), or a value of the wrong kind or out of its range.
        """
        config = self
        for key, value in changes.items():
            room, _, knob = key.partition(".")
            _known(room, [f.name for f in fields(config)], where, key)
            part = getattr(config, room)
            _known(knob, [f.name for f in fields(part)], where, key, prefix=f"{room}.")
            kind = typing.get_type_hints(type(part))[knob]
            changed = replace(part, **{knob: _in_range(_converted(value, kind, where, key), where, key)})
            config = replace(config, **{room: changed})
        return config

    def with_tables(self, tables: Mapping[str, object], where: str) -> Config:
        """Return a config with nested tables ``{"room": {"knob": value}}`` applied."""
        return self.with_changes(flatten(tables, where), where)

    def to_tables(self) -> dict:
        """Return nested plain values, as `with_tables` takes them; None stays, or a default would take its place."""
        return asdict(self)


def flatten(tables: Mapping[str, object], where: str) -> dict[str, object]:
    """Turn nested tables ``{"room": {"knob": value}}`` into ``{"room.knob": value}``."""
    flat: dict[str, object] = {}
    for room, table in tables.items():
        if not isinstance(table, Mapping):
            raise ConfigError(
                where, f"'{room}' stands outside a table", "Write it in the table of its room, e.g. [train]"
            )
        flat.update({f"{room}.{knob}": value for knob, value in table.items()})
    return flat


def read_changes(path: Path) -> dict[str, object]:
    """Read a TOML file of knobs, one table per room, as ``{"room.knob": value}``, checked.

    A table ``[run]`` is passed over: a ``run.toml`` that a command left beside its output can be given back as it is.

    Raises
    ------
    ConfigError
        If it cannot be read, or holds an unknown knob or a value of the wrong kind.
    """
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(path, f"cannot be read as TOML ({error})", "Give a file with tables like [train]") from error
    tables.pop("run", None)
    changes = flatten(tables, str(path))
    Config().with_changes(changes, str(path))
    return changes


PRESETS: dict[str, dict[str, object]] = {
    "compact": {},
    "paper": {
        "model.backbone": "resnet50",
        "model.levels": 4,
        "model.dim": 256,
        "model.feedforward": 2048,
        "model.encoder_layers": 6,
        "model.decoder_layers": 6,
        "model.queries": 900,
        "train.tile_px": 576,
        "train.learning_rate": 1e-4,
        "train.finetune_learning_rate": 1e-4,
    },
}


def preset(name: str) -> Config:
    """Return the config of a preset: ``"compact"`` or ``"paper"``."""
    _known(name, list(PRESETS), "--preset", name)
    return Config().with_changes(PRESETS[name])


def _known(name: str, names: list[str], where: str, key: str, prefix: str = "") -> None:
    if name in names:
        return
    near = difflib.get_close_matches(name, names, 1, 0.0)
    raise ConfigError(
        where, f"there is no '{key}'", f"The nearest is '{prefix}{near[0]}'; there are: {', '.join(names)}"
    )


def _converted(value: object, kind: object, where: str, key: str) -> object:
    """Turn `value` (perhaps a string) into the annotated type `kind`."""
    options = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    try:
        if types.NoneType in options and (value is None or str(value).lower() == "none"):
            return None
        wanted = next(o for o in options if o is not types.NoneType)
        return _CONVERT[wanted](value) if wanted in _CONVERT else _to_tuple(value, typing.get_args(wanted)[0])
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        names = " or ".join(getattr(o, "__name__", str(o)) for o in options)
        raise ConfigError(where, f"'{key}' cannot be {value!r}", f"It takes {names}") from error


def _in_range(value: object, where: str, key: str) -> object:
    """Return `value` if `key` has no range, or the value lies in it; None always does."""
    low, high = _RANGES.get(key, (-math.inf, math.inf))
    if isinstance(value, int | float) and not low <= value <= high:
        raise ConfigError(where, f"'{key}' cannot be {value!r}", f"It takes {low:g} to {high:g}")
    return value


def _to_bool(value: object) -> bool:
    return {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}[str(value).lower()]


def _to_int(value: object) -> int:
    if float(str(value)) != int(float(str(value))):
        raise ValueError(value)
    return int(float(str(value)))


def _to_float(value: object) -> float:
    number = float(str(value))
    if number != number:
        raise ValueError(value)
    return number


def _to_tuple(value: object, kind: type) -> tuple:
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(kind(part) for part in parts)  # type: ignore[union-attr]


# What would not run at all outside; rooms check what only they can know.
_RANGES: dict[str, tuple[float, float]] = {
    **RANGES,
    **TEACHER_RANGES,
    **dict.fromkeys(("model.levels", "model.heads", "model.points", "model.feedforward"), (1, math.inf)),
    **dict.fromkeys(("model.decoder_layers", "model.queries"), (1, math.inf)),
    "model.dim": (32, math.inf),
    "model.encoder_layers": (0, math.inf),
    **dict.fromkeys([f"loss.{f.name}" for f in fields(LossConfig)], (0, math.inf)),
    **dict.fromkeys([f"denoise.{f.name}" for f in fields(DenoiseConfig)], (0, math.inf)),
    "denoise.label_noise": (0, 1),
    "train.tile_px": (32, math.inf),
    **dict.fromkeys(("train.batch", "train.accumulate", "train.rate_batch"), (1, math.inf)),
    **dict.fromkeys(("train.pretrain_steps", "train.finetune_steps"), (1, math.inf)),
    **dict.fromkeys(("train.validate_every", "train.patience"), (1, math.inf)),
    **dict.fromkeys(("train.learning_rate", "train.finetune_learning_rate"), (0, math.inf)),
    **dict.fromkeys(("train.weight_decay", "train.clip_norm", "train.seed"), (0, math.inf)),
    **dict.fromkeys(("train.warmup", "train.average"), (0, 1)),
    "train.threads": (0, 1024),
    "pick.batch": (1, math.inf),
    "pick.views": (1, 8),
    **dict.fromkeys(("pick.overlap_diameters", "pick.edge_diameters"), (0, math.inf)),
    **dict.fromkeys(("pick.threshold", "pick.nms_iou"), (0, 1)),
}
_CONVERT = {bool: _to_bool, int: _to_int, float: _to_float, str: str}
