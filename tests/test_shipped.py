"""The models that are shipped, by name."""

from pathlib import Path

import pytest
from safetensors import safe_open

from upicker.errors import WeightsError
from upicker.model import weights
from upicker.pick import shipped
from upicker.pick.picker import Picker

MiB = 2**20


@pytest.mark.parametrize("name", shipped.names())
def test_a_shipped_model_is_what_its_name_says(name):
    path = shipped.path_of(name)
    header = weights.read_header(path)
    assert header.general["name"] == name == path.stem
    assert header.general["sha256"] == weights.digest(weights.read_tensors(path))
    assert header.general["commit"]
    # For particles of any size, with a threshold for each usual number of views.
    assert header.diameter is None
    assert set(header.by_views) >= {1, 2, 4, 8}
    assert path.stat().st_size <= 12 * MiB
    with safe_open(path, "pt") as file:
        assert {file.get_slice(key).get_dtype() for key in file.keys()} == {"F16"}  # noqa: SIM118


def test_the_default_is_shipped_and_named():
    assert shipped.DEFAULT in shipped.names()
    assert shipped.located(None) == shipped.located(shipped.DEFAULT) == shipped.path_of(shipped.DEFAULT)
    assert Picker().path == Picker(shipped.DEFAULT).path == shipped.path_of(shipped.DEFAULT)


def test_a_name_is_the_shipped_model_whatever_lies_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(shipped.DEFAULT).write_bytes(b"")
    assert shipped.located(shipped.DEFAULT) == shipped.path_of(shipped.DEFAULT)
    assert shipped.located(f"./{shipped.DEFAULT}") == Path(shipped.DEFAULT)
    assert shipped.located("model.safetensors") == Path("model.safetensors")


def test_an_unknown_name_is_refused():
    with pytest.raises(WeightsError, match=f"Give one of .*{shipped.DEFAULT}"):
        shipped.path_of("general-0")
