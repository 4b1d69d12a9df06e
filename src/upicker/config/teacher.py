"""The knobs of the room ``teacher``."""

from __future__ import annotations

from dataclasses import dataclass

from upicker.config.checking import Room
from upicker.config.knob import knob


@dataclass(frozen=True)
class TeacherConfig(Room):
    """The teacher (averaged weights), whose picks stand in for missing labels: --partial and --self-train."""

    proposals: bool = knob(
        True, "Partial labels: treat strong proposals as unsure positions until the teacher takes over."
    )
    start_steps: int = knob(200, "Partial labels: steps after which the teacher's picks replace the proposals.", low=0)
    every_steps: int = knob(100, "Partial labels: steps between two rounds of picking by the teacher.", low=1)
    doubt: float = knob(
        0.75,
        "Partial labels: picks are unsure from the score where precision x recall reaches this fraction of its best.",
        low=0,
        high=1,
    )
    adopt: float | None = knob(
        None,
        "Partial labels: picks become labels where the estimated precision reaches this.",
        low=0,
        high=1,
        none="never",
    )
    rounds: int = knob(0, "Rounds of self-training after pretraining, on the teacher's picks (--self-train).", low=0)
    round_steps: int = knob(200, "Steps of a round of self-training.", low=1)
    held: float = knob(
        0.2, "Fraction of the micrographs that self-training holds back to choose its thresholds.", low=0, high=0.5
    )
