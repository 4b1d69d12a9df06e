"""The weights file: a round trip, and what is refused."""

import json
import pickle
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from upicker import __version__
from upicker.config import Config
from upicker.errors import ConfigError, OutputError, UPickerError, WeightsError
from upicker.model import weights
from upicker.model.backbone import FrozenBatchNorm2d
from upicker.model.header import FORMAT, Header
from upicker.units import Length

TINY = {
    "model.widths": "8,8,16,16,16", "model.dim": 32, "model.heads": 4, "model.feedforward": 32,
    "model.encoder_layers": 1, "model.decoder_layers": 1, "model.query_density": 0.6,
    "train.tile_px": 64, "image.working_diameter_px": 16, "pick.nms_iou": None, "propose.range_penalty": "inf",
}  # fmt: skip
CONFIG = Config().with_changes(TINY)


def header(config: Config = CONFIG) -> Header:
    return Header(config.to_tables(), "108px", "finetune", 0.37, 0.81, 0.8, 0.82, steps=123)


def fresh(config: Config = CONFIG, seed: int = 0) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return weights.build(config)


@pytest.fixture
def saved(tmp_path) -> Path:
    path = tmp_path / "model.safetensors"
    weights.save(path, fresh(), header())
    return path


def with_header(path: Path, change) -> Path:
    """The same file with its header changed: `change` gets the header's dict and returns any plain value or text."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = change(json.loads(metadata["upicker"]))
    text = header if isinstance(header, str) else json.dumps(header)
    other = path.with_name("changed.safetensors")
    save_file(state, other, {"upicker": text})
    return other


def test_what_is_saved_comes_back_bit_by_bit(saved):
    model, known, config = weights.load(saved)
    expected = fresh().state_dict()
    found = model.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert config == CONFIG
    assert asdict(known) == json.loads(json.dumps(asdict(header())))
    assert (known.length, known.version) == (Length(108.0, "px"), __version__)


def test_device_and_threads_are_not_those_of_the_machine_that_trained(tmp_path):
    trained = CONFIG.with_changes({"train.device": "cuda:3", "train.threads": 7, "train.batch": 5})
    weights.save(tmp_path / "x.safetensors", fresh(), replace(header(), config=trained.to_tables()))
    assert weights.load(tmp_path / "x.safetensors")[2] == CONFIG.with_changes({"train.batch": 5})


def test_a_loaded_detector_answers_as_the_saved_one(saved):
    model, _, _ = weights.load(saved)
    picture = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, other = fresh().eval()(picture), model.eval()(picture)
    assert torch.equal(one.pred_logits, other.pred_logits)
    assert torch.equal(one.pred_boxes, other.pred_boxes)


def test_buffers_travel_too(tmp_path):
    module = FrozenBatchNorm2d(4)
    module.running_mean.fill_(3.0)
    weights.save(tmp_path / "x.safetensors", module, header())
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("running_mean"), torch.full((4,), 3.0))


def test_saving_the_same_twice_gives_the_same_bytes(saved, tmp_path):
    weights.save(tmp_path / "again.safetensors", fresh(), header())
    assert (tmp_path / "again.safetensors").read_bytes() == saved.read_bytes()


def test_the_header_alone_can_be_read(saved):
    assert weights.read_header(saved) == replace(header(), config=json.loads(json.dumps(header().config)))


def test_a_failed_save_leaves_the_old_file_and_nothing_else(saved):
    before = saved.read_bytes()
    broken = fresh()
    broken.register_parameter("odd", torch.nn.Parameter(torch.zeros(2, dtype=torch.complex128).to("meta")))
    with pytest.raises(Exception):  # noqa: B017 (whatever the library raises)
        weights.save(saved, broken, header())
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_a_file_cannot_be_saved_below_a_file(saved):
    with pytest.raises(OutputError, match=r"model\.safetensors"):
        weights.save(saved / "deeper.safetensors", fresh(), header())


def test_another_architecture_is_refused(saved):
    for change in ({"model.dim": 64}, {"model.decoder_layers": 2}, {"model.encoder_layers": 0}):
        with pytest.raises(WeightsError, match="another architecture") as caught:
            weights.load_into(fresh(CONFIG.with_changes(change)), saved)
        assert caught.value.where == str(saved)


def refused(path: Path) -> WeightsError:
    """Reading must end in an error of the family that names the file."""
    with pytest.raises(UPickerError) as caught:
        weights.load(path)
    assert isinstance(caught.value, WeightsError)
    assert caught.value.where == str(path)
    assert caught.value.remedy
    return caught.value


def test_a_missing_file_is_named(tmp_path):
    assert "no such file" in refused(tmp_path / "none.safetensors").found
    assert "no such file" in refused(tmp_path).found


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 2000, -1])
def test_a_truncated_file_is_named(saved, keep):
    saved.write_bytes(saved.read_bytes()[:keep])
    assert "not a whole safetensors file" in refused(saved).found


@pytest.mark.parametrize(
    "content", [b"x,y\n1,2\n", b"\xff" * 64, b"PK\x03\x04" + bytes(100), (10**15).to_bytes(8, "little") + b"{}"]
)
def test_something_else_is_named(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert "not a whole safetensors file" in refused(path).found


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("writer", ["pickle", "torch"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_pickle_is_refused_and_does_not_run(tmp_path, writer, suffix):
    path, sprung = tmp_path / f"model{suffix}", tmp_path / "sprung"
    if writer == "pickle":
        path.write_bytes(pickle.dumps(Trap(sprung)))
    else:
        torch.save({"conv1.weight": Trap(sprung)}, path)
    refused(path)
    assert not sprung.exists()


def test_other_safetensors_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(3)}, path)
    assert "not of UPicker" in refused(path).found
    save_file({"a": torch.zeros(3)}, path, {"format": "pt"})
    assert "not of UPicker" in refused(path).found


def knobs(room: str, **changes: object):
    """A change of knobs in the header."""
    return lambda header: header | {"config": header["config"] | {room: header["config"][room] | changes}}


def field(name: str, value: object):
    """A change of a field of the header."""
    return lambda header: header | {name: value}


def nested(depth: int, opening: str = "[", closing: str = "]") -> str:
    return opening * depth + closing * depth


def deep_in(name: str):
    """A header in which something is nested deeply; `json.dumps` could not write it."""
    return lambda header: json.dumps(header | {name: "@"}).replace('"@"', nested(900))


HOSTILE = {
    "not json": lambda header: "{not json",
    "empty": lambda header: "",
    "list": lambda header: [1, 2],
    "number": lambda header: 7,
    "null": lambda header: None,
    "empty table": lambda header: {},
    "nan": lambda header: "NaN",
    "nested lists": lambda header: nested(100_000),
    "nested tables": lambda header: nested(50_000, '{"a":', "0}"),
    "nested config": deep_in("config"),
    "nested threshold": deep_in("threshold"),
    "nested knob": lambda header: json.dumps(knobs("image", equalize="@")(header)).replace('"@"', nested(900)),
    "nested format": deep_in("format"),
    "two megabytes": lambda header: header | {"stage": "x" * 2**21},
    "unknown field": field("colour", "red"),
    "missing field": lambda header: {k: v for k, v in header.items() if k != "stage"},
    "missing config": lambda header: {k: v for k, v in header.items() if k != "config"},
    "config a number": field("config", 5),
    "config a list": field("config", [["model", {}]]),
    "config null": field("config", None),
    "empty config": field("config", {}),
    "room a number": field("config", {"train": 5}),
    "room null": lambda header: header | {"config": header["config"] | {"model": None}},
    "unknown room": lambda header: header | {"config": header["config"] | {"colours": {"red": 1}}},
    "unknown knob": knobs("train", bacth=2),
    "surrogate knob": knobs("train", **{"\ud800\x1b[31m": 2}),
    "no working scale": lambda header: header | {"config": header["config"] | {"image": {"mask": True}}},
    "diameter not a length": field("diameter", "wide"),
    # None is one: of particles of any size.
    "diameter missing": lambda header: {name: value for name, value in header.items() if name != "diameter"},
    "diameter a number": field("diameter", 108),
    "diameter infinite": field("diameter", "1e999px"),
    "diameter negative": field("diameter", "-5px"),
    "diameter of nines": field("diameter", "9" * 5000 + "px"),
    "threshold text": field("threshold", "high"),
    "threshold nan": field("threshold", float("nan")),
    "threshold true": field("threshold", True),
    "threshold above one": field("threshold", 1.5),
    "threshold negative": field("threshold", -0.1),
    "threshold huge": field("threshold", 10**400),
    "f1 a list": field("f1", [0.5]),
    "calibrations a number": field("calibrations", 0.5),
    "calibrations of no number of views": field("calibrations", {"few": [1.0, 0.0]}),
    "calibrations text": field("calibrations", {"4": "no"}),
    "calibrations of three": field("calibrations", {"4": [1.0, 0.0, 0.0]}),
    "calibrations falling": field("calibrations", {"4": [-1.0, 0.0]}),
    "calibrations nan": field("calibrations", {"4": [float("nan"), 0.0]}),
    "calibrations beyond measure": field("calibrations", {"4": [1.0, 1e300]}),
    "thresholds a number": field("thresholds", 0.5),
    "thresholds of no number of views": field("thresholds", {"few": 0.5}),
    "thresholds of no view": field("thresholds", {"0": 0.5}),
    "thresholds of too many views": field("thresholds", {"9" * 5000: 0.5}),
    "thresholds text": field("thresholds", {"4": "0.5"}),
    "thresholds above one": field("thresholds", {"4": 1.5}),
    "thresholds nan": field("thresholds", {"4": float("nan")}),
    "precision infinite": field("precision", float("inf")),
    "recall a table": field("recall", {}),
    "steps text": field("steps", "many"),
    "steps negative": field("steps", -1),
    "steps null": field("steps", None),
    "version a number": field("version", 3),
    "fingerprint a list": field("fingerprint", []),
    "format true": field("format", True),
    "format huge": field("format", 10**400),
    "tile huge": knobs("train", tile_px=10**9),
    "tile nan": knobs("train", tile_px=float("nan")),
    "tile not a number": knobs("train", tile_px={"px": 64}),
    "scale huge": knobs("image", working_diameter_px=1e9),
    "scale 0": knobs("image", working_diameter_px=0),
    "scale nan": knobs("image", working_diameter_px=float("nan")),
    "views huge": knobs("pick", views=10**9),
}
HOSTILE |= {
    f"{name} {value!r:.20}": knobs("model", **{name: value})
    for name in ("levels", "dim", "heads", "points", "feedforward", "encoder_layers", "decoder_layers")
    for value in (1_000_000, 10**400, -1, float("inf"), float("nan"), "wide", None, [1], 1.5)
}
HOSTILE |= {
    f"query_density {value!r:.20}": knobs("model", query_density=value)
    for value in (1_000_000, 10**400, -1, float("inf"), float("nan"), "wide", None, [1])
}
HOSTILE |= {
    f"widths {value!r:.20}": knobs("model", widths=value)
    for value in ([8], [8] * 10**5, [10**9] * 5, [-8] * 5, [[8]] * 5, "8", None, 8, {}, [8, 8, 8, 8, 12])
}
HOSTILE |= {
    "a backbone that is none": knobs("model", backbone="resnet101"),
    "a backbone of another file": knobs("model", backbone=["resnet50"]),
    "dim between heads": knobs("model", dim=96, heads=5),
    "as many layers as allowed": knobs("model", encoder_layers=64, decoder_layers=64),
    "more levels than tensors": knobs("model", levels=8),
    "one layer less": knobs("model", encoder_layers=0),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_header_is_refused_before_any_module_is_made(saved, monkeypatch, change):
    def never(*args, **kwargs):
        raise AssertionError("a module was made")

    other = with_header(saved, change)
    monkeypatch.setattr(torch.nn.Module, "__init__", never)
    error = refused(other)
    assert len(str(error)) < 1000
    assert all(letter.isprintable() for letter in str(error))


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 4096},
        {"widths": [4096] * 5},
        {"feedforward": 65536},
        {"heads": 2},
        {"points": 64},
        {"backbone": "resnet50"},
    ],
)
def test_shapes_are_compared_before_a_network_takes_memory(saved, monkeypatch, change):
    def never(*args):
        raise AssertionError("a network was built")

    monkeypatch.setattr(weights, "build", never)
    assert "another architecture" in refused(with_header(saved, knobs("model", **change))).found


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused_by_the_name_of_their_tensor(saved, tmp_path, wrong):
    broken = fresh()
    with torch.no_grad():
        broken.class_embed.bias[0] = wrong
    weights.save(tmp_path / "broken.safetensors", broken, header())
    assert refused(tmp_path / "broken.safetensors").found == "'class_embed.bias' holds numbers that are not finite"


@pytest.mark.parametrize("kind", [torch.int32, torch.bool, torch.complex64, torch.float8_e4m3fn])
def test_tensors_of_other_kinds_are_refused(saved, kind):
    with safe_open(saved, "pt") as file:
        metadata, state = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(state | {"class_embed.bias": torch.zeros(1).to(kind)}, saved, metadata)
    assert "'class_embed.bias' holds no floating-point numbers" in refused(saved).found


def test_tensors_that_do_not_fit_the_header_are_refused(saved):
    with safe_open(saved, "pt") as file:
        metadata = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    name = "class_embed.weight"
    for wrong in (
        {k: v for k, v in state.items() if k != name},
        state | {name: torch.zeros(1, 7)},
        state | {"more": torch.zeros(1)},
    ):
        save_file(wrong, saved, metadata)
        assert "another architecture" in refused(saved).found


@pytest.mark.parametrize(
    "change",
    [{"backbone": "resnet101"}, {"widths": "8,8,8"}, {"widths": "8,8,8,8,12"}, {"dim": 80}, {"heads": 5}],
)
def test_a_network_that_cannot_be_built_is_refused_by_its_knob(change):
    with pytest.raises(ConfigError) as caught:
        weights.build(CONFIG.with_changes({f"model.{knob}": value for knob, value in change.items()}))
    (knob,) = change
    assert f"model.{knob}" in str(caught.value)
    assert "It takes" in caught.value.remedy


@pytest.mark.parametrize(
    ("found", "words", "remedy"),
    [
        (0, "these are weights of format 0; this version reads format 2", "Train again"),
        (1, "these are weights of format 1; this version reads format 2", "Train again"),
        (3, "these are weights of format 3; this version reads format 2", "Update UPicker"),
        ("one", "these are weights of format one; this version reads format 2", "Train again"),
        (None, "these are weights without a format number", "Train again"),
    ],
)
@pytest.mark.parametrize("reader", [weights.load, weights.read_header])
def test_weights_of_another_format_are_refused_by_name(saved, found, words, remedy, reader):
    """Even if all names and shapes fit: their numbers would mean something else."""
    other = with_header(saved, lambda header: header | {"format": found})
    with pytest.raises(WeightsError) as caught:
        reader(other)
    assert caught.value.where == str(other)
    assert words in caught.value.found
    assert remedy in caught.value.remedy


def test_weights_from_before_there_were_formats_are_refused(saved):
    other = with_header(saved, lambda header: {name: value for name, value in header.items() if name != "format"})
    assert "without a format number, of an early development version" in refused(other).found


def test_the_format_is_in_the_header(saved):
    with safe_open(saved, "pt") as file:
        assert json.loads(file.metadata()["upicker"])["format"] == FORMAT == 2
    assert weights.read_header(saved).format == 2


def test_raising_the_format_makes_older_files_unreadable(saved, monkeypatch):
    monkeypatch.setattr("upicker.model.header.FORMAT", 3)
    assert "weights of format 2; this version reads format 3" in refused(saved).found


@pytest.mark.parametrize("changes", [{}, {"model.backbone": "resnet18", "model.levels": 4}])
def test_shapes_without_memory_are_those_of_the_network(changes):
    config = Config().with_changes(changes)
    built = {name: tuple(tensor.shape) for name, tensor in weights.build(config).state_dict().items()}
    assert weights._shapes_of(config.model) == built


def test_reading_weights_does_not_import_the_compiler(tmp_path):
    """It takes a second, in each process."""
    program = (
        "import sys; from pathlib import Path; from upicker.config import Config; from upicker.model import weights;"
        "from upicker.model.weights import Header; path = Path(sys.argv[1]);"
        "weights.save(path, weights.build(Config()), Header(Config().to_tables(), '9px', 'pretrain', *[None] * 4, 1));"
        "weights._shapes_of.cache_clear(); weights.load(path); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "w.safetensors"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
