"""The models that are shipped: general weights, each under a name that means these weights for ever.

They lie in the room ``model`` as ``NAME.safetensors``. A successor gets a new name, and the older ones stay.
"""

from __future__ import annotations

from pathlib import Path

from upicker.errors import WeightsError

# What is used where nothing else is asked for.
DEFAULT = "general-1"
# Named instead of weights, to start a training at random.
NONE = "none"
_FOLDER = Path(__file__).parents[1] / "model"


def names() -> list[str]:
    """Return the names of all shipped models."""
    return sorted(path.stem for path in _FOLDER.glob("*.safetensors"))


def path_of(name: str) -> Path:
    """Return the file of a shipped model.

    Raises
    ------
    WeightsError
        If there is none of this name.
    """
    path = _FOLDER / f"{name}.safetensors"
    if not path.is_file():
        raise WeightsError(name, "no model of this name is shipped", f"Give one of {', '.join(names())}, or a file")
    return path


def located(model: Path | str | None) -> Path:
    """Return the file of a model: of the default one for None, of a shipped one for its name, or the path itself.

    A name is that of the shipped model even if there is a file of that name; ``./NAME`` is the file.
    """
    if model is None:
        return path_of(DEFAULT)
    # Path("./NAME") forgets the dot, so that only text can say it.
    return path_of(str(model)) if str(model) in names() else Path(model)
