"""The knobs of learning from what is not labelled, the room ``teacher`` of `upicker.config.Config`.

They have a file of their own because `upicker.config` is long; nobody but that file looks here for them.
"""

from __future__ import annotations

from dataclasses import dataclass

INFINITE = float("inf")


@dataclass(frozen=True)
class TeacherConfig:
    """The teacher: the averaged weights, whose picks say where unlabelled particles are (`upicker.train.teacher`).

    Attributes
    ----------
    proposals : with partial labels, strong proposals are unsure places until the teacher is trusted.
    start_steps : with partial labels, steps after which the teacher's picks take the proposals' place.
    every_steps : with partial labels, steps between two looks of the teacher at the micrographs.
    doubt : with partial labels, its picks are unsure down to the score where precision x recall is still so much of
        its best.
    adopt : with partial labels, its picks become labels where precision is estimated so high; None: never.
    rounds : rounds of self-training after pretraining; its picks take the proposals' place at the start of each.
    round_steps : length of a round.
    held : share of the micrographs that self-training sets its thresholds on, and does not learn from.
    """

    proposals: bool = True
    start_steps: int = 200
    every_steps: int = 100
    doubt: float = 0.75
    adopt: float | None = None
    rounds: int = 0
    round_steps: int = 200
    held: float = 0.2


# What would not run at all outside.
RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("teacher.start_steps", "teacher.rounds"), (0, INFINITE)),
    **dict.fromkeys(("teacher.every_steps", "teacher.round_steps"), (1, INFINITE)),
    **dict.fromkeys(("teacher.doubt", "teacher.adopt"), (0, 1)),
    "teacher.held": (0, 0.5),
}
