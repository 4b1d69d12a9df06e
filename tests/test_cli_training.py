"""Training and picking through the command line, with a network of toy size."""

import signal
import tomllib
from pathlib import Path

import numpy as np
import pytest
from command_line import CENTRES, DIAMETER, TOY, micrograph, stopped, upicker

from upicker.cli.app import run
from upicker.config import preset as preset_config
from upicker.errors import InputError
from upicker.io import coordinates
from upicker.particles import Particles
from upicker.pick.picker import Picker
from upicker.run import pick as run_pick
from upicker.run import record
from upicker.train import stages, start
from upicker.units import Length

SETTINGS = [word for key, value in TOY.items() for word in ("--set", f"{key}={value}")]

OTHER = ("--set", "model.dim=64")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A folder with micrographs, labels, and weights of both stages."""
    folder = tmp_path_factory.mktemp("project")
    for seed in range(3):
        micrograph(folder / "mics" / f"m{seed}.mrc", seed)
        coordinates.write(folder / "labels" / f"m{seed}.csv", Particles.of(CENTRES, DIAMETER), "csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(["pretrain", "mics", "-o", "pre.safetensors", "--diameter", "24px", *SETTINGS]) == 0
        finetune = ["finetune", "mics", "--labels", "labels", "--init", "pre.safetensors", "-o", "m.safetensors"]
        assert run([*finetune, *SETTINGS]) == 0
    return folder


@pytest.fixture(autouse=True)
def inside(project, monkeypatch):
    monkeypatch.chdir(project)


def test_training_leaves_weights_log_and_curves(project):
    names = {path.name for path in project.iterdir()}
    for stem in ("pre", "m"):
        assert {f"{stem}.safetensors", f"{stem}.log.csv", f"{stem}.png"} <= names
    assert not any(name.endswith("checkpoint") or name.startswith(".") for name in names)


def test_the_summary_tells_what_training_came_to(capsys):
    coordinates.write(Path("held/m2.csv"), Particles.of(CENTRES, DIAMETER), "csv")
    args = ("finetune", "mics", "--labels", "labels", "-o", "held/m.safetensors", *SETTINGS)
    code, out, err = upicker(capsys, *args, "--validation", "held")
    assert code == 0
    assert "fine-tuned: 4 steps on 2 of 3 micrographs" in out
    assert "against validation labels: F1" in out
    assert "stored with the weights" in out
    assert "step 4 of 4: F1" in err
    code, out, err = upicker(capsys, *args, "--validation", 0)
    assert code == 0
    assert "on 3 of 3 micrographs" in out
    assert "not validated: no threshold is stored with the weights, and picking will use 0.3" in err
    code, _, err = upicker(capsys, "pick", "mics", "--model", "held/m.safetensors", "-o", "held/picks")
    assert code == 0
    assert "held/m.safetensors: no threshold is stored with these weights" in err
    assert "0.3 is used. Give --threshold." in err
    _, _, err = upicker(capsys, "pick", "mics", "--model", "held/m.safetensors", "-o", "held/picks", "--threshold", 0.3)
    assert "no threshold" not in err


def test_pick_takes_diameter_and_threshold_from_the_weights(capsys):
    code, out, _ = upicker(capsys, "pick", "mics", "--model", "m.safetensors", "-o", "picks", "--threshold", 0)
    assert code == 0
    assert "in 3 of 3 micrographs" in out
    found = record.read(Path("picks"))
    assert found.model == Path("m.safetensors")
    assert found.diameter == Length(24, "px")
    assert found.threshold == 0
    assert found.knobs["model.dim"] == 32
    csv, star = (coordinates.read(Path("picks") / name) for name in ("m0.csv", "m0_autopick.star"))
    assert len(csv) == len(star) == found.micrographs[0].particles > 0
    assert csv.score_kind == star.score_kind == found.micrographs[0].score == "probability"
    assert upicker(capsys, "pick", "mics", "--model", "m.safetensors", "-o", "strict", "--threshold", 1)[0] == 0
    assert len(coordinates.read(Path("strict/m0.csv"))) == 0


def test_several_processes_pick_the_same(capsys):
    for jobs in (1, 2):
        args = ("--model", "m.safetensors", "-o", f"by{jobs}", "--threshold", 0, "--jobs", jobs)
        assert upicker(capsys, "pick", "mics", *args)[0] == 0
    for number in range(3):
        one, other = (coordinates.read(Path(f"by{jobs}") / f"m{number}.csv") for jobs in (1, 2))
        assert len(one) == len(other) > 0
        np.testing.assert_allclose(one.xy, other.xy, atol=0.02)
    records = [tomllib.loads(Path(f"by{jobs}/run.toml").read_text()) for jobs in (1, 2)]
    assert records[0]["train"] == records[1]["train"]


def test_by_default_as_many_processes_pick_as_have_work_and_memory(monkeypatch):
    picker = Picker(Path("m.safetensors"))
    monkeypatch.setattr(run_pick, "cores", lambda: 6)
    monkeypatch.setattr(run_pick, "memory_bytes", lambda: 9 * 2**30)
    assert [run_pick.processes(files, picker) for files in (1, 7, 8, 16, 5000)] == [1, 1, 2, 4, 4]


def test_a_bad_micrograph_among_good_ones_is_skipped_in_training(capsys):
    Path("more").mkdir()
    Path("more/bad.mrc").write_bytes(b"")
    args = ("mics", "more/bad.mrc", "-o", "more/pre.safetensors", "--diameter", "24px", *SETTINGS)
    code, out, err = upicker(capsys, "pretrain", *args)
    assert code == 3
    assert "on 3 of 4 micrographs" in out
    assert "Skipped more/bad.mrc: the file is empty" in err


@pytest.mark.parametrize("preset", [None, "compact", "paper"])
def test_fine_tuning_takes_the_rate_of_the_preset_that_the_weights_were_trained_with(monkeypatch, preset):
    """And a preset that is named is not mistaken for the default."""
    asked = []

    def noted(paths, labels, job, initial, *rest):
        asked.append(start.config_for(preset_config("paper"), job.config, job.given))
        raise InputError("here", "enough")

    monkeypatch.setattr(stages, "finetune", noted)
    words = ["finetune", "mics", "--labels", "labels", "-o", "x.safetensors", "--init", "paper.safetensors"]
    code = run([*words, *(("--preset", preset) if preset else ())])
    if preset == "compact":
        assert (code, asked) == (2, [])
    else:
        assert [one.train.finetune_learning_rate for one in asked] == [1e-4]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("pick", "mics", "--model", "no.safetensors", "-o", "x"), 1, "no.safetensors"),
        (("pick", "mics", "--model", "labels/m0.csv", "-o", "x"), 1, "labels/m0.csv"),
        (("pick", "mics", "--model", "m.safetensors", "-o", "x", *OTHER), 2, "fixed by the weights"),
        (("pick", "mics", "--model", "m.safetensors", "-o", "x", "--format", "doc"), 2, "unknown format 'doc'"),
        (("pick", "mics", "--model", "m.safetensors", "-o", "mics/m0.mrc"), 1, "mics/m0.mrc: cannot be written"),
        (("pretrain", "mics", "-o", "x.safetensors", "--diameter", "900px"), 1, "no micrograph can be used"),
        (("pretrain", "mics", "-o", "mics", "--diameter", "24px", *SETTINGS), 1, "mics"),
        (("pretrain", "mics", "-o", "x.safetensors", "--diameter", "24px", "--preset", "tiny"), 2, "'tiny'"),
        (("finetune", "mics", "--labels", "nowhere", "-o", "x.safetensors"), 1, "nowhere"),
        (("finetune", "mics", "--labels", "mics", "-o", "x.safetensors"), 1, "for the 3 micrographs"),
        (("finetune", "mics", "--labels", "labels", "-o", "x.safetensors", "--validation", "2"), 2, "--validation"),
        (
            ("finetune", "mics", "--labels", "labels", "-o", "x.safetensors", "--validation", "no"),
            1,
            "no: no such folder",
        ),
        (
            ("finetune", "mics", "--labels", "labels", "-o", "x.safetensors", "--init", "m.safetensors", *OTHER),
            2,
            "model.dim is 32: fixed by the weights",
        ),
        (
            (
                *("finetune", "mics", "--labels", "labels", "-o", "x.safetensors"),
                *("--init", "m.safetensors", "--preset", "compact"),
            ),
            2,
            "fixed by the weights",
        ),
    ],
)
def test_bad_input_gives_one_message_and_its_exit_code(capsys, arguments, code, message):
    found, _, err = upicker(capsys, *arguments)
    assert found == code, err
    assert message in err
    assert not Path("x.safetensors").exists()


def test_labels_may_be_one_file_of_many_micrographs(capsys, tmp_path):
    def weights(labels, *more) -> bytes:
        output = tmp_path / f"{Path(labels).stem}.safetensors"
        code, _, err = upicker(capsys, "finetune", "mics", "--labels", labels, "-o", output, *SETTINGS, *more)
        assert code == 0, err
        return output.read_bytes()

    assert (
        upicker(capsys, "convert", "labels", "--to", "csv", "-o", tmp_path / "all.csv", "--micrographs", "mics")[0] == 0
    )
    arguments = ("convert", "labels", "--to", "particles", "-o", tmp_path / "all.star", "--micrographs", "mics")
    assert upicker(capsys, *arguments)[0] == 0
    expected = weights("labels")
    assert weights(tmp_path / "all.csv") == expected
    assert weights(tmp_path / "all.star", "--diameter", f"{DIAMETER}px") == expected
    held = ("--validation", tmp_path / "one.csv")
    (tmp_path / "one.csv").write_text(f"micrograph,x,y,diameter\nm0,{CENTRES[0][0]},{CENTRES[0][1]},{DIAMETER}\n")
    assert weights(tmp_path / "all.csv", *held) != expected


def test_labels_outside_and_twice_are_told_and_left_out(capsys, tmp_path):
    for name in ("m0", "m1"):
        xy = [*CENTRES, CENTRES[0], (-2.0, 90.0)]
        coordinates.write(tmp_path / "labels" / f"{name}.csv", Particles.of(xy, DIAMETER), "csv")
    args = ("finetune", "mics", "--labels", tmp_path / "labels", "-o", tmp_path / "m.safetensors", *SETTINGS)
    code, _, err = upicker(capsys, *args)
    assert code == 0
    assert "2 micrographs, e.g. " in err
    assert "some of its positions stand twice. Each counts once." in err
    assert "some of its labels lie outside the micrograph. They are left out." in err


def test_labels_without_micrographs_and_the_reverse_are_named(capsys):
    micrograph(Path("extra/unlabelled.mrc"), 9)
    coordinates.write(Path("fewer/m0.csv"), Particles.of(CENTRES, DIAMETER), "csv")
    coordinates.write(Path("fewer/gone.csv"), Particles.of(CENTRES, DIAMETER), "csv")
    args = ("finetune", "mics/m0.mrc", "extra", "--labels", "fewer", "-o", "fewer/m.safetensors")
    code, _, err = upicker(capsys, *args, *SETTINGS)
    assert code == 0
    assert "unlabelled.mrc" in err
    assert "gone.csv" in err


def test_a_stopped_training_leaves_whole_files_and_goes_on_where_it_was():
    folder = Path("stopped")
    args = ["pretrain", "mics", "-o", f"{folder}/m.safetensors", "--diameter", "24px", *SETTINGS, "--resume"]
    args += ["--set", "train.pretrain_steps=9000", "--set", "train.patience=9999"]
    steps = 0
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        found, err = stopped(args, number, lambda enough=steps + 5: steps_logged(folder) >= enough)
        assert found == code, err
        assert "Traceback" not in err
        assert {path.name for path in folder.iterdir()} >= {"m.checkpoint", "m.log.csv", "m.safetensors"}
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]
        assert steps_logged(folder) >= steps + 5
        steps = steps_logged(folder)
    log = [int(line.split(",")[0]) for line in (folder / "m.log.csv").read_text().splitlines()[1:]]
    assert log == sorted(set(log))


def steps_logged(folder: Path) -> int:
    log = folder / "m.log.csv"
    lines = log.read_text().splitlines()[1:] if log.exists() else []
    return int(lines[-1].split(",")[0]) if lines else 0
