"""UPicker: finds particles in cryo-EM micrographs, from unlabelled micrographs and a few labels.

The names below are for scripts and notebooks. They are loaded on first use (PEP 562), so that ``import upicker`` and
``upicker --help`` import neither NumPy nor torch.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from upicker.io.coordinates import read as read_particles
    from upicker.io.micrographs import read as read_micrograph
    from upicker.particles import Micrograph, Particles
    from upicker.pick.picker import Picker
    from upicker.scoring import evaluate

__all__ = ["Micrograph", "Particles", "Picker", "evaluate", "read_micrograph", "read_particles"]

__version__ = "0.1.0"

# Threads of OpenMP, with which torch computes, wait for each other by spinning. On a processor that has something else
# to do, too, they spin for one that is not running: training with two threads beside another program took 23 times as
# long as alone. Giving up soon costs nothing alone. It is read when torch is imported, so it has to stand here.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

# Public name -> where it is defined.
_DEFINED_IN = {
    "Micrograph": ("upicker.particles", "Micrograph"),
    "Particles": ("upicker.particles", "Particles"),
    "Picker": ("upicker.pick.picker", "Picker"),
    "evaluate": ("upicker.scoring", "evaluate"),
    "read_micrograph": ("upicker.io.micrographs", "read"),
    "read_particles": ("upicker.io.coordinates", "read"),
}


def __getattr__(name: str) -> object:
    if name not in _DEFINED_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _DEFINED_IN[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value  # The next access does not come here.
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
