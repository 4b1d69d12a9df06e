"""Both stages end to end, on drawn discs with a network of toy size: what they write, skip and refuse."""

import csv
import pkgutil
import shutil
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from upicker.config import Config
from upicker.errors import ConfigError, InputError, OutputError, UPickerError, UPickerWarning, warn
from upicker.io import coordinates, micrographs
from upicker.io.lock import Held, lock
from upicker.io.micrographs import Reading
from upicker.io.processes import Identity
from upicker.model import weights
from upicker.particles import Particles
from upicker.pick.picker import Picker
from upicker.train import labels, reading, stages
from upicker.train.job import Job
from upicker.train.log import CsvLog, Silent, totals
from upicker.train.stages import finetune, pretrain
from upicker.train.store import Store
from upicker.units import Length, parse_length

CONFIG = Config().with_changes(
    {
        "model.widths": "8,8,16,16,16", "model.dim": 32, "model.heads": 4, "model.feedforward": 32,
        "model.encoder_layers": 1, "model.decoder_layers": 1, "model.query_density": 1,
        "image.working_diameter_px": 16, "train.tile_px": 64, "train.batch": 1, "train.validate_every": 2,
        "train.pretrain_steps": 4, "train.finetune_steps": 4, "train.device": "cpu", "train.bfloat16": False,
    }
)  # fmt: skip
DIAMETER = Length(20.0, "px")
SHAPE = (160, 210)


def centres(seed: int) -> np.ndarray:
    grid = np.stack(np.meshgrid(np.arange(12, SHAPE[1] - 6, 41.0), np.arange(20, SHAPE[0] - 15, 40.0)), -1)
    return grid.reshape(-1, 2) + np.random.default_rng(seed).uniform(-6, 6, (grid.size // 2, 2))


def write_micrograph(path: Path, seed: int, voxel: float = 1.5) -> Path:
    """Dark discs on grey ice with noise."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    pixels = 50 + np.random.default_rng(seed).standard_normal(SHAPE)
    for cx, cy in centres(seed):
        pixels -= 3.0 * ((x - cx) ** 2 + (y - cy) ** 2 < 10**2)
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path) as file:
        file.set_data(pixels.astype(np.float32))
        file.voxel_size = voxel
    return path


@pytest.fixture
def curves() -> None:
    """Requested by tests of the training curves."""


@pytest.fixture(autouse=True)
def no_curves(request, monkeypatch):
    """Others do not wait for matplotlib."""
    if "curves" not in request.fixturenames:
        monkeypatch.setattr("upicker.train.stage._draw", lambda _, path: path.write_bytes(b""))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Six micrographs with labels."""
    folder = tmp_path_factory.mktemp("data")
    for seed in range(6):
        write_micrograph(folder / "mics" / f"m{seed}.mrc", seed)
        coordinates.write(folder / "labels" / f"m{seed}.csv", Particles.of(centres(seed), 20.0), "csv")
    return folder


def mics(data: Path, n: int = 6) -> list[Path]:
    return [data / "mics" / f"m{i}.mrc" for i in range(n)]


@pytest.fixture(scope="module")
def pretrained(data, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pretrained") / "pre.safetensors"
    pretrain(mics(data, 2), DIAMETER, Job(path, CONFIG))
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.with_suffix(".log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


class Told(Silent):
    """Records the calls of a progress display; may interrupt."""

    def __init__(self, stop_at: int = -1) -> None:
        self.stages: list[tuple[str, int, int]] = []
        self.rows: list[dict] = []
        self.validations: list[dict] = []
        self.finished, self.stop_at = 0, stop_at

    def start(self, total: int, stage: str, done: int) -> None:
        self.stages.append((stage, total, done))

    def step(self, row: dict) -> None:
        self.rows.append(row)
        if row.get("step") == self.stop_at:
            raise KeyboardInterrupt

    def validated(self, row: dict) -> None:
        self.validations.append(row)

    def finish(self) -> None:
        self.finished += 1


def test_pretraining_writes_weights_log_and_curves_and_no_checkpoint(data, tmp_path, curves):
    told, output = Told(), tmp_path / "deep" / "pre.safetensors"
    result = pretrain(mics(data, 3), DIAMETER, Job(output, CONFIG, progress=told))
    assert names(output.parent) == {"pre.safetensors", "pre.log.csv", "pre.png"}
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert [row["step"] for row in rows_of(output)] == ["1", "2", "3", "4"]
    assert {row["stage"] for row in rows_of(output)} == {"pretrain"}
    assert told.stages == [("micrographs", 3, 0), ("proposals", 3, 0), ("pretrain", 4, 0)]
    assert told.finished == 3
    assert len([row for row in told.rows if "step" in row]) == 4
    assert [row["step"] for row in told.validations] == [2, 4]
    assert (result.path, result.steps, result.trained_on, result.skipped) == (output, 4, 3, [])
    assert result.seconds > 0
    header = weights.read_header(output)
    assert (header.stage, header.length) == ("pretrain", DIAMETER)
    assert (header.f1, header.threshold) == (result.f1, result.threshold)


def test_weights_of_either_stage_pick(data, pretrained, tmp_path):
    output = tmp_path / "m.safetensors"
    finetune(mics(data, 2), data / "labels", Job(output, CONFIG), initial=pretrained, validation=0.4)
    for path in (pretrained, output):
        picks = Picker(path, {"pick.threshold": 0}).pick(micrographs.read(mics(data)[3]))
        assert np.isfinite(picks.xy).all()
        assert picks.inside(SHAPE).all()


def test_pretraining_learns_the_sizes_that_proposals_carry(data, tmp_path, monkeypatch):
    proposed = Particles.of(centres(0)[:3], [15.0, 20.0, 26.0])

    def enough(stage, samples, validation, job, result):
        [sample], [held] = samples, validation
        np.testing.assert_allclose(sample.side, proposed.diameter_px * held.prepared.frame.scale)
        np.testing.assert_array_equal(held.labels.diameter_px, proposed.diameter_px)
        raise InputError("here", "enough")

    monkeypatch.setattr(reading, "propose", lambda *_: proposed)
    monkeypatch.setattr(stages, "run_stage", enough)
    with pytest.raises(InputError, match="enough"):
        pretrain(mics(data, 1), DIAMETER, Job(tmp_path / "pre.safetensors", CONFIG))


@pytest.mark.parametrize(
    ("changes", "count"),
    [({"propose.top_k": "3"}, 3), ({"train.proposals": "2"}, 2), ({"propose.top_k": "3", "train.proposals": "4"}, 4)],
)
def test_the_number_of_proposals_that_is_set_reaches_pretraining(data, tmp_path, monkeypatch, changes, count):
    def enough(stage, samples, validation, job, result):
        assert [len(one.labels) for one in validation] == [count]
        raise InputError("here", "enough")

    monkeypatch.setattr(stages, "run_stage", enough)
    with pytest.raises(InputError, match="enough"):
        pretrain(mics(data, 1), DIAMETER, Job(tmp_path / "pre.safetensors", CONFIG.with_changes(changes)))


def test_the_config_travels_with_the_weights(pretrained):
    stored = weights.load(pretrained)[2]
    assert stored.propose.profile is not None  # what was learned from the micrographs
    anywhere = CONFIG.with_changes({"train.device": "auto"})  # the device was the machine's
    assert stored == replace(anywhere, propose=stored.propose)


def test_training_twice_gives_the_same_weights(data, pretrained, tmp_path):
    again = tmp_path / "pre.safetensors"
    pretrain(mics(data, 2), DIAMETER, Job(again, CONFIG))
    assert again.read_bytes() == pretrained.read_bytes()
    strip = [[{k: v for k, v in row.items() if k != "seconds"} for row in rows_of(p)] for p in (again, pretrained)]
    assert strip[0] == strip[1]


def test_a_killed_stage_resumes_as_if_nothing_had_been(data, pretrained, tmp_path):
    output = tmp_path / "pre.safetensors"
    with pytest.raises(KeyboardInterrupt):
        pretrain(mics(data, 2), DIAMETER, Job(output, CONFIG, progress=Told(stop_at=3)))
    assert "pre.checkpoint" in names(tmp_path)
    assert len(rows_of(output)) == 3
    told = Told()
    pretrain(mics(data, 2), DIAMETER, Job(output, CONFIG, resume=True, progress=told))
    assert told.stages[-1] == ("pretrain", 4, 3)
    assert output.read_bytes() == pretrained.read_bytes()
    assert names(tmp_path) == {"pre.safetensors", "pre.log.csv", "pre.png"}


def test_interrupted_in_its_first_step_a_stage_raises_nothing_else(data, tmp_path, monkeypatch, curves):
    def interrupted(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr("upicker.model.criterion.SetCriterion.__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrain(mics(data, 1), DIAMETER, Job(tmp_path / "pre.safetensors", CONFIG))


def test_resuming_another_training_is_refused_and_harms_nothing(data, tmp_path):
    output = tmp_path / "pre.safetensors"
    with pytest.raises(KeyboardInterrupt):
        pretrain(mics(data, 2), DIAMETER, Job(output, CONFIG, progress=Told(stop_at=3)))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    other = CONFIG.with_changes({"augment.noise": 0.3})
    for paths, diameter, config in (
        (mics(data, 2), DIAMETER, other),
        (mics(data, 3), DIAMETER, CONFIG),
        (mics(data, 2), Length(21.0, "px"), CONFIG),
    ):
        with pytest.raises(InputError, match=r"pre\.checkpoint.*another training"):
            pretrain(paths, diameter, Job(output, config, resume=True))
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_a_bad_micrograph_is_skipped_and_reported(data, tmp_path):
    bad = tmp_path / "mics" / "bad.mrc"
    bad.parent.mkdir()
    bad.write_bytes(b"not a micrograph")
    flat = tmp_path / "mics" / "flat.mrc"
    with mrcfile.new(flat) as file:
        file.set_data(np.full(SHAPE, 3.0, np.float32))
    output = tmp_path / "pre.safetensors"
    result = pretrain([bad, *mics(data, 2), flat], DIAMETER, Job(output, CONFIG))
    assert [path for path, _ in result.skipped] == [bad, flat]
    assert all(path.name in reason for path, reason in result.skipped)
    assert result.trained_on == 2
    # It stops nothing, and changes nothing.
    alone = tmp_path / "alone.safetensors"
    pretrain(mics(data, 2), DIAMETER, Job(alone, CONFIG))
    assert alone.read_bytes() == output.read_bytes()


def test_warnings_of_micrographs_are_gathered_not_printed(data, tmp_path, monkeypatch):
    read = Reading.read

    def noticing(self, path):
        warn(UPickerWarning(path, "it is a movie"))
        return read(self, path)

    monkeypatch.setattr(Reading, "read", noticing)
    result = pretrain(mics(data, 2), DIAMETER, Job(tmp_path / "m.safetensors", CONFIG))
    assert [one.where for one in result.warnings] == [str(path) for path in mics(data, 2)]


def test_only_bad_micrographs_are_an_error_that_quotes_the_first(tmp_path):
    for name in ("a.mrc", "b.mrc"):
        (tmp_path / name).write_bytes(b"nothing")
    output = tmp_path / "pre.safetensors"
    with pytest.raises(InputError, match=r"2 micrographs.*no micrograph can be used.*a\.mrc"):
        pretrain([tmp_path / "a.mrc", tmp_path / "b.mrc"], DIAMETER, Job(output, CONFIG))
    assert names(tmp_path) == {"a.mrc", "b.mrc"}


def test_a_diameter_in_angstrom_needs_a_pixel_size_and_takes_the_headers(data, tmp_path):
    result = pretrain(mics(data, 1), Length(30.0, "A"), Job(tmp_path / "a.safetensors", CONFIG))
    assert result.trained_on == 1
    pretrain(
        mics(data, 1), Length(40.0, "A"), Job(tmp_path / "b.safetensors", CONFIG, reading=Reading(pixel_size_A=2.0))
    )
    a, b = (weights.load(tmp_path / f"{n}.safetensors")[0].state_dict() for n in "ab")
    assert all(torch.equal(a[name], b[name]) for name in a)  # 30 A at 1.5 A and 40 A at 2 A are the same 20 px
    unknown = write_micrograph(tmp_path / "x.mrc", 0, voxel=0.0)
    with pytest.raises(InputError, match="pixel size"):
        pretrain([unknown], Length(30.0, "A"), Job(tmp_path / "c.safetensors", CONFIG))


def test_finetuning_trains_on_labels_and_reports_unused_files(data, tmp_path):
    labels = tmp_path / "labels"
    for stem in ("m0", "m1_bad", "ghost"):
        coordinates.write(labels / f"{stem}.csv", Particles.of(centres(0), 20.0), "csv")
    told, output = Told(), tmp_path / "m.safetensors"
    result = finetune(mics(data, 4), labels, Job(output, CONFIG, progress=told), validation=0.4)
    assert any("names differ by '_bad'" in str(one) for one in result.warnings)
    assert set(result.unused) == {mics(data)[2], mics(data)[3], labels / "ghost.csv"}
    assert result.trained_on == 2
    assert told.stages == [("labels", 2, 0), ("finetune", 4, 0)]
    header = weights.read_header(output)
    assert (header.stage, header.length) == ("finetune", DIAMETER)  # the median of the labels' own
    assert header.f1 == result.f1 is not None
    assert names(tmp_path) == {"labels", "m.safetensors", "m.log.csv", "m.png"}


def test_copies_made_before_training_are_trained_on(data, tmp_path):
    config = CONFIG.with_changes({"augment.offline": 2, "augment.rotate_deg": 180, "augment.mosaic": 0.5})
    for folder in ("a", "b"):
        job = Job(tmp_path / f"{folder}.safetensors", config)
        result = finetune(mics(data, 2), data / "labels", job, validation=0.0)
        assert result.trained_on == 2
    a, b = (weights.load(tmp_path / f"{n}.safetensors")[0].state_dict() for n in "ab")
    assert all(torch.equal(a[name], b[name]) for name in a)
    finetune(mics(data, 2), data / "labels", Job(tmp_path / "c.safetensors", CONFIG), validation=0.0)
    plain = weights.load(tmp_path / "c.safetensors")[0].state_dict()
    assert not all(torch.equal(a[name], plain[name]) for name in a)


@pytest.mark.parametrize(
    ("n", "validation", "learned", "validated"),
    [(6, 0.34, 4, True), (2, 0.4, 2, True), (2, 0.1, 2, True), (6, 0.0, 6, False), (1, 0.4, 1, True)],
)
def test_validation_by_fraction(data, tmp_path, monkeypatch, n, validation, learned, validated):
    monkeypatch.setattr(labels, "FEW", 5)
    output = tmp_path / "m.safetensors"
    result = finetune(mics(data, n), data / "labels", Job(output, CONFIG), validation=validation)
    assert result.trained_on == learned
    assert (result.f1 is not None) == validated
    assert any(row["f1"] for row in rows_of(output)) == validated
    assert len(result.unused) == 6 - n  # labels of the micrographs that were not given


def test_validation_by_folder(data, tmp_path):
    held = tmp_path / "held"
    coordinates.write(held / "m5.csv", Particles.of(centres(5), 20.0), "csv")
    output = tmp_path / "m.safetensors"
    result = finetune(mics(data), data / "labels", Job(output, CONFIG), validation=held)
    assert (result.trained_on, result.unused) == (5, [])
    assert result.f1 is not None


def test_picks_where_complete_labels_have_no_particle_count_in_validation(data, tmp_path, monkeypatch):
    held = tmp_path / "held"
    coordinates.write(held / "m4.csv", Particles.of(centres(4), 20.0), "csv")
    coordinates.write(held / "m5.csv", Particles.of([]), "csv")

    def found(network, prepared, config, numbers, region=None):  # of either micrograph, which have as many
        return [Particles.of(centres(4), 20.0, np.full(len(centres(4)), 0.9)) for _ in numbers]

    monkeypatch.setattr("upicker.train.validation.detect_in_views", found)
    for partial, precision in ((False, 0.5), (True, 1.0)):
        job = Job(tmp_path / "m.safetensors", CONFIG)
        result = finetune(mics(data), data / "labels", job, diameter=DIAMETER, validation=held, partial=partial)
        assert (result.precision, result.recall, result.estimated) == (precision, 1.0, partial)


def test_what_cannot_be_validated_is_said(data, tmp_path):
    labels = tmp_path / "labels"
    coordinates.write(labels / "m0.csv", Particles.of(centres(0)[:1], 20.0), "csv")
    job = Job(tmp_path / "m.safetensors", CONFIG)
    for validation, said in ((0.2, True), (0.0, False)):
        result = finetune(mics(data, 1), labels, job, diameter=DIAMETER, validation=validation)
        assert result.f1 is None
        assert [one.where for one in result.warnings] == ["--validation"] * said


def test_a_bad_label_file_is_skipped_and_reported(data, tmp_path):
    labels = tmp_path / "labels"
    for seed in range(2):
        coordinates.write(labels / f"m{seed}.csv", Particles.of(centres(seed), 20.0), "csv")
    (labels / "m2.csv").write_text("x,y\n12,oops\n")
    for diameter in (DIAMETER, None):
        result = finetune(
            mics(data, 3), labels, Job(tmp_path / "m.safetensors", CONFIG), diameter=diameter, validation=0.0
        )
        assert [path for path, _ in result.skipped] == [mics(data)[2]]
        assert "m2.csv" in result.skipped[0][1]
        assert result.trained_on == 2


def test_labels_without_micrographs_are_an_error(data, tmp_path):
    labels = tmp_path / "labels"
    coordinates.write(labels / "ghost.csv", Particles.of(centres(0), 20.0), "csv")
    with pytest.raises(InputError, match="ghost"):
        finetune(mics(data, 2), labels, Job(tmp_path / "m.safetensors", CONFIG))
    assert names(tmp_path) == {"labels"}


def test_labels_without_a_particle_are_an_error(data, tmp_path):
    labels = tmp_path / "labels"
    coordinates.write(labels / "m0.csv", Particles.of([]), "csv")
    with pytest.raises(InputError, match="no particles to train on"):
        finetune(mics(data, 1), labels, Job(tmp_path / "m.safetensors", CONFIG), diameter=DIAMETER)
    with pytest.raises(InputError, match="no diameter"):
        finetune(mics(data, 1), labels, Job(tmp_path / "m.safetensors", CONFIG))


def test_finetuning_starts_from_the_weights_given(data, pretrained, tmp_path):
    """At a learning rate of 0 they come back; architecture, scale and diameter are theirs."""
    still = Config().with_changes(
        {"train.finetune_learning_rate": 0, "train.finetune_steps": 1, "train.batch": 1, "train.device": "cpu"}
        | {"train.bfloat16": False, "train.weight_decay": 0}
    )
    output = tmp_path / "m.safetensors"
    finetune(mics(data, 1), data / "labels", Job(output, still), initial=pretrained, validation=0.0)
    (before, _, first), (after, header, second) = weights.load(pretrained), weights.load(output)
    before, after = before.state_dict(), after.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (second.model, second.image, second.train.tile_px) == (first.model, first.image, first.train.tile_px)
    assert (header.length, header.stage) == (DIAMETER, "finetune")


@pytest.mark.parametrize(
    ("knob", "value", "theirs"),
    [
        ("model.dim", 64, 32),
        ("model.widths", "8,8,16,16,24", r"\(8, 8, 16, 16, 16\)"),
        ("image.working_diameter_px", 20, 16.0),
    ],
)
def test_what_the_weights_fix_is_refused_by_name(data, pretrained, tmp_path, knob, value, theirs):
    job = Job(tmp_path / "m.safetensors", CONFIG.with_changes({knob: value}))
    with pytest.raises(ConfigError, match=rf"{knob} is {theirs}: fixed by the weights"):
        finetune(mics(data, 1), data / "labels", job, initial=pretrained)
    assert not job.output.exists()


def test_imagenet_weights_are_where_a_random_backbone_starts(data, tmp_path):
    config = CONFIG.with_changes({"model.backbone": "resnet18", "train.finetune_steps": 1, "train.learning_rate": 0})
    backbone = tmp_path / "resnet18.pth"
    state = weights.build(config).backbone.state_dict()
    torch.save({name: torch.full_like(tensor, 0.01) for name, tensor in state.items()}, backbone)
    job = Job(tmp_path / "m.safetensors", config, backbone_weights=str(backbone))
    finetune(mics(data, 1), data / "labels", job, validation=0.0)
    trained, _, _ = weights.load(job.output)
    assert all(bool((tensor == 0.01).all()) for tensor in trained.backbone.state_dict().values())


def test_imagenet_weights_fit_neither_the_compact_backbone_nor_given_weights(data, pretrained, tmp_path):
    job = Job(tmp_path / "m.safetensors", CONFIG, backbone_weights="resnet50.pth")
    with pytest.raises(ConfigError, match="compact"):
        pretrain(mics(data, 1), DIAMETER, job)
    with pytest.raises(ConfigError, match=r"pre\.safetensors has a backbone of its own"):
        finetune(mics(data, 1), data / "labels", job, initial=pretrained)


def test_an_output_that_cannot_be_written_is_an_error_before_the_first_step(data, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.safetensors").mkdir()
    for output in (tmp_path / "file" / "m.safetensors", tmp_path / "folder.safetensors"):
        told = Told()
        with pytest.raises(OutputError, match=output.stem):
            pretrain(mics(data, 1), DIAMETER, Job(output, CONFIG, progress=told))
        assert not [row for row in told.rows if "step" in row]


@pytest.mark.parametrize(
    ("name", "longest"), [("x" * 250, ".checkpoint"), ("x" * 300 + ".safetensors", ".safetensors")]
)
def test_a_name_that_is_too_long_is_an_error_before_anything_is_read(data, tmp_path, name, longest):
    """Of any of the files that a training writes."""
    told = Told()
    for train in (
        lambda job: pretrain(mics(data, 1), DIAMETER, job),
        lambda job: finetune(mics(data, 1), data / "labels", job),
    ):
        with pytest.raises(OutputError, match=rf"{longest}: cannot be written \(File name too long\).*shorter name"):
            train(Job(tmp_path / name, CONFIG, progress=told))
    assert (told.stages, names(tmp_path)) == ([], set())


def test_a_full_disk_is_an_error_before_anything_is_read_and_at_any_step(data, tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    told, job = Told(), Job(tmp_path / "deep" / "m.safetensors", CONFIG)
    with monkeypatch.context() as patch:
        patch.setattr("upicker.train.start.tempfile.TemporaryFile", lambda **_: full())
        with pytest.raises(OutputError, match=r"m\.safetensors: cannot be written \(No space left on device\)"):
            pretrain(mics(data, 1), DIAMETER, replace(job, progress=told))
    assert (told.stages, names(tmp_path)) == ([], set())
    for place in ("csv.DictWriter.writeheader", "csv.DictWriter.writerow"):
        with monkeypatch.context() as patch:
            patch.setattr(place, full)
            with pytest.raises(OutputError, match=r"m\.log\.csv: .*cannot be written \(No space left"):
                pretrain(mics(data, 1), DIAMETER, job)


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_full_disk_of_temporary_files_ends_the_training_instead_of_its_micrographs(
    data, tmp_path, monkeypatch, stage
):
    room = Store._make_room

    def full_after_one(store: Store, size: int) -> None:
        if store._used > 0:
            raise OSError(28, "No space left on device")
        room(store, size)

    monkeypatch.setattr(Store, "_make_room", full_after_one)
    job = Job(tmp_path / "m.safetensors", CONFIG)
    with pytest.raises(OutputError, match=r"No space left on device.*TMPDIR"):
        pretrain(mics(data), DIAMETER, job) if stage == "pretrain" else finetune(mics(data), data / "labels", job)
    assert names(tmp_path) == set()


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "mps"])
def test_a_device_that_is_not_there_is_an_error_before_anything_is_read(
    data, pretrained, tmp_path, monkeypatch, device
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    told = Told()
    job = Job(tmp_path / "m.safetensors", CONFIG.with_changes({"train.device": device}), progress=told)
    with pytest.raises(ConfigError, match=rf"train\.device: '{device}' is not there.*auto or cpu"):
        pretrain(mics(data, 1), DIAMETER, job)
    assert told.stages == []
    with pytest.raises(ConfigError, match="is not there"):
        Picker(pretrained, {"train.device": device})


def test_a_second_training_to_the_same_output_is_refused_and_harms_nothing(data, tmp_path):
    output, refused = tmp_path / "m.safetensors", []

    class Meanwhile(Told):
        def step(self, row: dict) -> None:
            super().step(row)
            if row.get("step") == 2:
                before = {path: path.read_bytes() for path in tmp_path.iterdir()}
                for job in (Job(output, CONFIG), Job(output, CONFIG, resume=True)):
                    with pytest.raises(
                        Held, match=r"the training of m\.safetensors \(process \d+ on this machine, since"
                    ):
                        finetune(mics(data, 1), data / "labels", job)
                    refused.append(job)
                assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}

    result = pretrain(mics(data, 1), DIAMETER, Job(output, CONFIG, progress=Meanwhile()))
    assert (len(refused), result.steps) == (2, 4)
    assert names(tmp_path) == {"m.safetensors", "m.log.csv", "m.png"}
    finetune(mics(data, 1), data / "labels", Job(output, CONFIG))


def test_a_training_that_was_killed_elsewhere_is_taken_over_by_force(data, tmp_path, monkeypatch):
    output = tmp_path / "m.safetensors"
    elsewhere = replace(Identity.mine(), host="node7", machine="another", boot="another", namespace="another")
    with monkeypatch.context() as patch:
        patch.setattr(Identity, "mine", classmethod(lambda _: elsewhere))
        held = lock(tmp_path / "m.lock", "the training of m.safetensors")
        held.close_in_child()  # as a kill does: the file stays
    with pytest.raises(Held, match="on node7"):
        pretrain(mics(data, 1), DIAMETER, Job(output, CONFIG))
    assert pretrain(mics(data, 1), DIAMETER, Job(output, CONFIG, force=True)).steps == 4
    assert names(tmp_path) == {"m.safetensors", "m.log.csv", "m.png"}


def test_a_training_whose_output_was_taken_writes_nothing_more(data, tmp_path):
    output = tmp_path / "m.safetensors"
    taken = []

    class Meanwhile(Told):
        def step(self, row: dict) -> None:
            super().step(row)
            if row.get("step") == 2:
                taken.append(lock(tmp_path / "m.lock", "another training", force=True))
                taken.append({path.name: path.read_bytes() for path in tmp_path.glob("m.[sc]*")})

    with pytest.raises(Held, match=r"another training .* has taken it over"):
        pretrain(mics(data, 1), DIAMETER, Job(output, CONFIG, progress=Meanwhile()))
    assert {path.name: path.read_bytes() for path in tmp_path.glob("m.[sc]*")} == taken[1]
    taken[0].release()


@pytest.mark.parametrize("last", ["loop.run", "_draw", "threshold._metrics", "threshold.choose_again", "mark_complete"])
def test_a_training_whose_output_is_taken_at_its_end_writes_nothing_more(data, tmp_path, monkeypatch, last):
    """After each of these steps another training takes the output."""
    name = f"upicker.train.{'' if last == 'threshold._metrics' else 'stage.'}{last}"
    step, taken = pkgutil.resolve_name(name), []

    def taken_after(*args: object) -> object:
        try:
            return step(*args)
        finally:
            if not taken:
                taken.append(lock(tmp_path / "m.lock", "another training", force=True))
                taken.append({path.name: path.read_bytes() for path in tmp_path.glob("m.[scp]*")})

    monkeypatch.setattr(name, taken_after)
    job = Job(tmp_path / "m.safetensors", CONFIG)
    with pytest.raises(Held, match="has taken it over"):
        finetune(mics(data, 1), data / "labels", job)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("m.[scp]*")} == taken[1]
    assert ("m.png" in taken[1]) == (last != "loop.run")
    taken[0].release()


def test_outputs_that_differ_after_a_dot_share_no_file(tmp_path):
    jobs = [Job(tmp_path / name, CONFIG) for name in ("m_0.31", "m_0.32", "m.safetensors", "m.a.safetensors")]
    assert len({path for job in jobs for path in (job.output, job.checkpoint, job.log, job.curves)}) == 16
    assert jobs[2].checkpoint == tmp_path / "m.checkpoint"
    assert Job(tmp_path / "m.checkpoint", CONFIG).checkpoint != tmp_path / "m.checkpoint"


@pytest.mark.parametrize("torn", ["3,finet", "\x00\x00\x00", "x,finetune,1,1", ""])
def test_a_log_that_a_power_failure_has_torn_is_continued(tmp_path, torn):
    whole = CsvLog(tmp_path / "m.log.csv")
    for step in (1, 2):
        whole.write({"step": step, "stage": "finetune", "seconds": 0.5 * step})
    whole.close()
    with whole.path.open("a") as file:
        file.write(torn)
    assert totals(whole.path) == (2, 1.0)
    CsvLog(whole.path, 2).close()
    assert len(whole.path.read_text().splitlines()) == 3


def test_every_error_of_the_stages_belongs_to_the_family(data, tmp_path):
    for paths, diameter in (([], DIAMETER), (mics(data, 1), Length(1e-3, "px")), (mics(data, 1), Length(9999, "px"))):
        with pytest.raises(UPickerError):
            pretrain(paths, diameter, Job(tmp_path / "m.safetensors", CONFIG))
        with pytest.raises(UPickerError):
            finetune(paths, data / "labels", Job(tmp_path / "m.safetensors", CONFIG), diameter=diameter)


def test_a_complete_training_is_not_repeated_by_resume(data, tmp_path):
    output = tmp_path / "pre.safetensors"
    first = pretrain(mics(data, 2), DIAMETER, Job(output, CONFIG))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    told = Told()
    result = pretrain(mics(data, 2), DIAMETER, Job(output, CONFIG, resume=True, progress=told))
    assert result.was_complete
    assert [stage for stage, _, _ in told.stages] == ["micrographs", "proposals"]
    assert (result.f1, result.threshold, result.trained_on) == (first.f1, first.threshold, 2)
    assert (result.steps, result.seconds) == (4, pytest.approx(first.seconds, rel=1e-4))
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}
    told = Told()
    assert not pretrain(mics(data, 2), DIAMETER, Job(output, CONFIG, progress=told)).was_complete
    assert told.stages[-1] == ("pretrain", 4, 0)


CHANGES = {
    "config": "config", "micrographs": "micrographs", "pixels": "micrographs", "pixel size": "micrographs",
    "labels": "labels", "fewer labels": "labels", "partial labels": "labels", "validation labels": "validation",
    "initial weights": "initial weights", "diameter": "diameter", "no initial weights": "initial weights",
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_another_training_is_not_continued_by_resume_nor_taken_for_complete(data, pretrained, tmp_path, change):
    labels = tmp_path / "labels"
    shutil.copytree(data / "labels", labels)
    pictures = [Path(shutil.copy(path, tmp_path)) for path in mics(data, 3)]
    held = tmp_path / "held"
    held.mkdir()
    (labels / "m1.csv").rename(held / "m1.csv")
    output = tmp_path / "m.safetensors"

    def trained(paths=pictures[:2], start=pretrained, diameter="30A", partial=False, **told):
        job, length = Job(output, **{"config": CONFIG, **told}), parse_length(diameter)
        return finetune(paths, labels, job, initial=start, diameter=length, validation=held, partial=partial)

    trained()
    complete = output.read_bytes()
    assert trained(resume=True).was_complete
    with pytest.raises(KeyboardInterrupt):
        trained(progress=Told(stop_at=3))
    before = {path: path.read_bytes() for path in tmp_path.glob("m.*")}
    other: dict = {}
    if change == "config":
        other = {"config": CONFIG.with_changes({"train.weight_decay": 0.01})}
    elif change == "micrographs":
        other = {"paths": pictures}
    elif change == "pixels":  # what a gain reference does
        with mrcfile.open(pictures[0], "r+") as file:
            file.data[:, : SHAPE[1] // 2] *= 1.2
    elif change == "pixel size":
        other = {"reading": Reading(pixel_size_A=1.6)}
    elif change in ("labels", "validation labels"):  # as many, one of them moved
        file, seed = (labels / "m0.csv", 0) if change == "labels" else (held / "m1.csv", 1)
        moved = centres(seed)
        moved[0] += 0.25
        coordinates.write(file, Particles.of(moved, 20.0), "csv")
    elif change == "fewer labels":
        coordinates.write(labels / "m0.csv", Particles.of(centres(0)[1:], 20.0), "csv")
    elif change == "partial labels":
        other = {"partial": True}
    elif change == "diameter":
        other = {"diameter": "31A"}
    else:
        other = {"start": None if change.startswith("no") else output.with_name("other.safetensors")}
        pretrain(
            pictures[:2], DIAMETER, Job(output.with_name("other.safetensors"), CONFIG.with_changes({"train.seed": 5}))
        )
    with pytest.raises(
        InputError, match=rf"m\.checkpoint: .*different: .*{CHANGES[change]}.*Repeat the command unchanged"
    ):
        trained(resume=True, **other)
    assert before == {path: path.read_bytes() for path in tmp_path.glob("m.*")}
    output.with_suffix(".checkpoint").unlink()
    output.write_bytes(complete)
    assert not trained(resume=True, **other).was_complete


def test_a_checkpoint_is_continued_on_another_processor(data, pretrained, tmp_path, monkeypatch):
    """Whose last bit of what is computed from micrographs, such as a template and proposals, may differ."""
    output = tmp_path / "pre.safetensors"
    with pytest.raises(KeyboardInterrupt):
        pretrain(mics(data, 2), DIAMETER, Job(output, CONFIG, progress=Told(stop_at=3)))
    real = reading.prepare

    def other(*args):
        prepared = real(*args)
        return replace(prepared, pixels=np.nextafter(prepared.pixels, np.float32(9)))

    monkeypatch.setattr(reading, "prepare", other)
    told = Told()
    pretrain(mics(data, 2), DIAMETER, Job(output, CONFIG, resume=True, progress=told))
    assert told.stages[-1] == ("pretrain", 4, 3)


def test_a_checkpoint_without_its_best_weights_is_not_continued(data, tmp_path):
    """Later weights might not be better, and the training would end without a result."""
    output = tmp_path / "m.safetensors"
    with pytest.raises(KeyboardInterrupt):
        finetune(mics(data, 2), data / "labels", Job(output, CONFIG, progress=Told(stop_at=3)), validation=0.4)
    output.unlink()
    with pytest.raises(InputError, match=r"m\.safetensors: the best weights so far are missing beside m\.checkpoint"):
        finetune(mics(data, 2), data / "labels", Job(output, CONFIG, resume=True), validation=0.4)


def test_another_fraction_held_back_is_another_training(data, tmp_path):
    output = tmp_path / "m.safetensors"
    with pytest.raises(KeyboardInterrupt):
        finetune(mics(data, 2), data / "labels", Job(output, CONFIG, progress=Told(stop_at=3)), validation=0.4)
    with pytest.raises(InputError, match="different: held back"):
        finetune(mics(data, 2), data / "labels", Job(output, CONFIG, resume=True), validation=0.45)
