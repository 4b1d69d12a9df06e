"""The knobs of the room ``train``."""

from __future__ import annotations

from dataclasses import dataclass

from upicker.config.checking import Room
from upicker.config.knob import Pattern, knob
from upicker.config.propose import COUNT


@dataclass(frozen=True)
class TrainConfig(Room):
    """Both training stages, and the device that training and picking use."""

    tile_px: int = knob(288, "Side of a tile in training, in working pixels.", low=32, high=4096)
    batch: int = knob(2, "Tiles computed together, per process; a step uses batch x accumulate x processes.", low=1)
    accumulate: int = knob(1, "Batches per step, one after the other: large steps in little memory.", low=1)
    proposals: str = knob(
        "auto", "Proposals per micrograph in pretraining (K); auto: as propose.top_k. The paper's: 50.", choices=COUNT
    )
    pretrain_steps: int = knob(400, "Steps of pretraining.", low=1)
    finetune_steps: int = knob(800, "Steps of fine-tuning, at most; it may stop earlier (patience).", low=1)
    pretrain_epochs: float | None = knob(
        None,
        "Length of pretraining in epochs, each of as many tiles as cover all micrographs once. The paper's: 50.",
        above=0,
        none="pretrain_steps",
    )
    finetune_epochs: float | None = knob(
        None,
        "Length of fine-tuning in such epochs, of the labelled micrographs, at most.",
        above=0,
        none="finetune_steps",
    )
    steps_per_label: float | None = knob(
        2.0,
        "Partial labels, starting from a general model: at most so many steps for each label, and at least 100.",
        low=0,
        none="as many as for complete labels",
    )
    learning_rate: float = knob(4e-4, "Peak of the one-cycle learning rate, from a random start.", low=0)
    finetune_learning_rate: float = knob(1.6e-3, "Peak of the one-cycle learning rate, from given weights.", low=0)
    rate_batch: int | None = knob(
        2,
        "Tiles per step that the learning rates are meant for; they scale with the square root of the actual number.",
        low=1,
        none="the learning rates do not scale",
    )
    weight_decay: float = knob(1e-4, "Weight decay of AdamW.", low=0)
    clip_norm: float = knob(0.5, "Largest norm of the gradient; larger ones are clipped.", low=0)
    warmup: float = knob(0.1, "Fraction of the steps in which the learning rate rises.", low=0, high=1)
    average: float = knob(
        0.98, "Decay of the moving average of the weights that is validated and stored; 0 turns it off.", low=0, high=1
    )
    validate_every: int = knob(100, "Steps between validations.", low=1)
    patience: int | None = knob(
        None,
        "Validations without a better F1 after which training stops.",
        low=1,
        none="half of the training's, and at least 4",
    )
    bfloat16: bool | None = knob(None, "Compute the network in bfloat16.", none="where the processor is fast at it")
    seed: int = knob(0, "Seed of all random numbers.", low=0)
    threads: int = knob(0, "CPU threads; 0 leaves the number to PyTorch.", low=0, high=1024)
    device: str = knob(
        "auto",
        "Device of PyTorch; auto takes a GPU if there is one.",
        choices=("auto", "cpu", "cuda", Pattern(r"cuda:\d+", "cuda:N"), "mps"),
    )
