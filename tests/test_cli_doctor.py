"""``upicker doctor``: what is as it should be, and what was broken on purpose."""

import json
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest
from command_line import ROOT, upicker

from upicker.particles import Particles
from upicker.pick import network, shipped
from upicker.pick.picker import Picker
from upicker.run import doctor, installation, machine


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, tuple[str, str]], list[str]]:
    """Run the doctor without the self-test: exit code, what -> state and text, and what is broken."""
    code, out, _ = upicker(capsys, "doctor", "--json", *(words or ("--no-self-test",)))
    found = json.loads(out)
    assert found["exit_code"] == code
    return (
        code,
        {one["what"]: (one["state"], f"{one['found']}. {one['remedy']}") for one in found["checks"]},
        found["broken"],
    )


def test_all_is_well_here(capsys):
    code, found, broken = told(capsys, "-v")
    assert (code, broken) == (0, [])
    assert {state for state, _ in found.values()} <= {doctor.OK, doctor.MISSING, doctor.WARNING}
    for what in (
        "UPicker",
        "Python",
        "system",
        "torch",
        "numpy",
        "opencv-python-headless",
        "general model",
        "self-test",
    ):
        assert found[what][0] == doctor.OK, what
    assert "simulated particles on " in found["self-test"][1]
    for what in (
        "processor",
        "cores",
        "memory",
        "GPU",
        "temporary files",
        "locale",
        "SLURM",
        "RELION",
        "browser",
        "gemmi",
    ):
        assert what in found


def copied_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shipped, "_FOLDER", folder)
    return Path(shutil.copy(ROOT / "src/upicker/model" / f"{shipped.DEFAULT}.safetensors", folder))


def test_a_changed_number_of_the_general_model_is_told(capsys, tmp_path, monkeypatch):
    path = copied_model(tmp_path, monkeypatch)
    assert told(capsys)[1]["general model"][0] == doctor.OK
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    code, found, broken = told(capsys)
    assert (code, broken) == (1, ["general model"])
    assert str(path) in found["general model"][1]
    assert "SHA-256" in found["general model"][1]
    assert "Install UPicker again" in found["general model"][1]


@pytest.mark.parametrize("kept", [0, 1000, 200_000, None])
def test_a_general_model_that_is_cut_off_or_missing_is_told(kept, capsys, tmp_path, monkeypatch):
    path = copied_model(tmp_path, monkeypatch)
    if kept is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:kept])
    code, found, broken = told(capsys)
    assert (code, broken) == (1, ["general model"])
    assert "Install UPicker again" in found["general model"][1]


def test_a_package_that_is_missing_is_told(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    code, found, broken = told(capsys)
    assert (code, broken) == (1, ["tifffile"])
    assert found["tifffile"][1].startswith("not installed. pip install 'tifffile>=")


def test_a_package_that_cannot_be_imported_is_told(capsys, tmp_path, monkeypatch):
    (tmp_path / "mrcfile.py").write_text('raise OSError("libfoo.so.1: cannot open shared object file")\n')
    monkeypatch.delitem(sys.modules, "mrcfile", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    code, found, broken = told(capsys)
    assert (code, broken) == (1, ["mrcfile"])
    assert "libfoo.so.1" in found["mrcfile"][1]


def test_a_package_that_is_too_old_is_told(capsys, monkeypatch):
    known = installation._version
    old = {"rich": "1.0", "gemmi": "0.1"}
    monkeypatch.setattr(installation, "_version", lambda name: old.get(name) or known(name))
    code, found, broken = told(capsys)
    assert (code, broken) == (1, ["rich"])
    assert "1.0, but UPicker needs >=" in found["rich"][1]
    assert found["gemmi"][0] == doctor.WARNING


def test_an_optional_part_that_is_missing_breaks_nothing(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gemmi", None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    code, found, _ = told(capsys)
    assert code == 0
    assert found["gemmi"][0] == doctor.MISSING
    assert "pip install 'upicker[sim]'" in found["gemmi"][1]
    assert found["RELION"][0] == found["SLURM"][0] == doctor.MISSING


def test_every_extra_for_users_is_looked_at():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(installation.EXTRAS) == set(extras) - {"dev", "docs"}


def test_a_temporary_folder_that_cannot_be_written_is_told(capsys, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file" / "inside"))
    code, found, broken = told(capsys)
    assert (code, broken) == (1, ["temporary files"])
    assert "Set TMPDIR" in found["temporary files"][1]
    assert str(tmp_path / "file" / "inside") in found["temporary files"][1]


def test_nothing_is_left_in_the_temporary_folder(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert told(capsys, "-q")[0] == 0
    assert not [*tmp_path.iterdir()]


def test_a_tmpdir_that_is_passed_over_is_told(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", "/no/such/folder")
    code, found, _ = told(capsys)
    assert code == 0
    state, text = found["temporary files"]
    assert state == doctor.WARNING
    assert "/no/such/folder" in text


def test_little_room_and_little_memory_are_warned_of(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "LITTLE_BYTES", 2**70)
    monkeypatch.setattr(machine, "memory_bytes", lambda: 2**30)
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")
    code, found, _ = told(capsys)
    assert code == 0
    assert [found[what][0] for what in ("temporary files", "memory", "cores")] == [doctor.WARNING] * 3
    assert "1.0 GiB may be used" in found["memory"][1]
    assert "OMP_NUM_THREADS is 4096" in found["cores"][1]


def test_gpus_are_named_and_one_that_torch_cannot_use_is_warned_of(capsys, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    seen = network.Computing("CUDA 13.0", ("A100, 40 GiB",), False)
    monkeypatch.setattr(network, "computing", lambda: seen)
    state, text = told(capsys)[1]["GPU"]
    assert state == doctor.OK
    assert all(word in text for word in ("A100, 40 GiB", "CUDA 13.0", "CUDA_VISIBLE_DEVICES is '1'"))
    seen = network.Computing("CPU", (), False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    state, text = told(capsys)[1]["GPU"]
    assert state == doctor.WARNING
    assert "a build of PyTorch for CUDA" in text
    # Hidden on purpose.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert told(capsys)[1]["GPU"][0] == doctor.MISSING


def test_a_network_that_computes_wrongly_is_told_by_the_self_test(capsys, monkeypatch):
    monkeypatch.setattr(Picker, "pick", lambda *_: Particles.of([[40.0, 50.0]], 48.0, 0.9))
    code, found, broken = told(capsys, "-v")
    assert (code, broken) == (1, ["self-test"])
    assert "F1 0.0" in found["self-test"][1]


def test_a_check_that_fails_unforeseen_leaves_the_others(capsys, monkeypatch):
    def failing() -> None:
        raise KeyError("flags")

    monkeypatch.setattr(machine, "cores", failing)
    code, found, broken = told(capsys)
    assert (code, broken) == (1, ["processor"])
    assert "KeyError: 'flags'" in found["processor"][1]
    assert found["general model"][0] == doctor.OK


def test_a_locale_that_is_not_utf8_is_warned_of(capsys, monkeypatch):
    monkeypatch.setattr("locale.getpreferredencoding", lambda *_: "ANSI_X3.4-1968")
    state, text = told(capsys)[1]["locale"]
    assert state == doctor.WARNING
    assert "PYTHONUTF8=1" in text


def test_quiet_prints_what_is_not_ok_and_the_log_has_what_is_printed(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gemmi", None)
    monkeypatch.setattr(machine, "memory_bytes", lambda: 2**30)
    log = tmp_path / "doctor.log"
    code, out, err = upicker(capsys, "doctor", "--no-self-test", "-q", "--log-file", log)
    assert code == 0
    assert "missing  gemmi: not installed" in out
    assert "warning  memory: " in err
    assert "ok " not in out + err
    lines = log.read_text(encoding="utf-8").splitlines()
    for line in (*out.splitlines(), *err.splitlines()):
        assert any(one.endswith(line) for one in lines), line
    code, out, _ = upicker(capsys, "doctor", "--no-self-test", "-v")
    assert "ok       torch: " in out
