"""As an external job of RELION: its layout, its lists, its signs; and RELION itself, where it is installed."""

import signal
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile
from command_line import TOY, stopped, upicker

from upicker.io import coordinates
from upicker.run import find, record
from upicker.run import pick as run_pick
from upicker.run.batch import each
from upicker.run.relion import coordinates_file
from upicker.simulate.scene import Scene, make

LIST = """# version {version}

data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMicrographPixelSize #3
_rlnVoltage #4
_rlnSphericalAberration #5
_rlnAmplitudeContrast #6
opticsGroup1 1 {size} 300.0 2.7 0.1

# version {version}

data_micrographs

loop_
_rlnMicrographName #1
_rlnOpticsGroup #2
"""
SCENE = Scene(shape=(330, 410), pixel_size_A=4.0, specimens=("globule",), particles=14, seed=5)


@cache
def simulated(number: int) -> np.ndarray:
    """The pixels of a micrograph, simulated once for all tests."""
    return make(SCENE, number).micrograph.pixels


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with two micrographs of a motion correction and one that was imported."""
    monkeypatch.chdir(tmp_path)
    names = ["MotionCorr/job002/Movies/mic_a.mrc", "MotionCorr/job002/Movies/00123.mrc", "Raw/mic_c.mrc"]
    for i, name in enumerate(names):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        with mrcfile.new(name) as file:
            file.set_data(simulated(i))
    write_list(names)
    return tmp_path


def write_list(names: list[str], version: int = 30001) -> None:
    Path("CtfFind/job003").mkdir(parents=True, exist_ok=True)
    head = LIST.format(version=version, size=SCENE.pixel_size_A)
    Path("CtfFind/job003/micrographs_ctf.star").write_text(head + "".join(f"{name} 1\n" for name in names))


JOB = ("relion-job", "--in_mics", "CtfFind/job003/micrographs_ctf.star", "--o", "External/job012/", "--j", "1")


def test_coordinates_lie_where_relion_looks_for_them() -> None:
    job = Path("External/job012")
    for name, file in {
        "MotionCorr/job002/Movies/a/mic.v2.mrc": "Movies/a/mic.v2_autopick.star",
        "Micrographs/mic.mrc": "Micrographs/mic_autopick.star",
        "/data/job7/mic.mrc": "data/job7/mic_autopick.star",
        "../elsewhere/mic.tif": "elsewhere/mic_autopick.star",
    }.items():
        assert coordinates_file(job, name) == job / file


def test_a_job_writes_what_relion_reads(capsys, project):
    code, out, err = upicker(capsys, *JOB, "--diameter", "260A")
    assert (code, err) == (0, "")
    assert "3 of 3" in out
    job = Path("External/job012")
    listed = starfile.read(job / "autopick.star", parse_as_string=["rlnMicrographName"])
    assert listed.rlnMicrographName.tolist() == [
        "MotionCorr/job002/Movies/00123.mrc",
        "MotionCorr/job002/Movies/mic_a.mrc",
        "Raw/mic_c.mrc",
    ]
    assert listed.rlnMicrographCoordinates[0] == "External/job012/Movies/00123_autopick.star"
    for file in listed.rlnMicrographCoordinates:
        xy = coordinates.read(Path(file)).xy
        assert len(xy) > 5
        np.testing.assert_array_equal(xy, np.rint(xy))
    assert (job / "coords_suffix_autopick.star").read_text() == "CtfFind/job003/micrographs_ctf.star\n"
    nodes = starfile.read(job / "RELION_OUTPUT_NODES.star")
    assert nodes.rlnPipeLineNodeType.tolist() == [2, 2]
    assert nodes.rlnPipeLineNodeName[0] == "External/job012/autopick.star"
    assert nodes.rlnPipeLineNodeTypeLabel[0] == "MicrographsCoords.star.relion.autopick"
    assert (job / "RELION_JOB_EXIT_SUCCESS").exists()
    assert "data_output_nodes" in (job / "RELION_OUTPUT_NODES.star").read_text()
    assert "data_coordinate_files" in (job / "autopick.star").read_text()


def test_a_job_that_is_continued_keeps_what_is_done_and_the_labels_of_relion_5(capsys, project):
    assert upicker(capsys, *JOB, "--diameter", "260A")[0] == 0
    job = Path("External/job012")
    kept, gone = job / "Raw/mic_c_autopick.star", job / "Movies/00123_autopick.star"
    kept.write_text(before := kept.read_text() + "# by hand\n")
    gone.unlink()
    write_list(["MotionCorr/job002/Movies/mic_a.mrc", "MotionCorr/job002/Movies/00123.mrc", "Raw/mic_c.mrc"], 50001)
    code, out, _ = upicker(capsys, *JOB, "--diameter", "260A")
    assert code == 0
    assert "2 of 3 micrographs already have outputs" in out
    assert "1 of 1" in out
    assert gone.exists()
    assert kept.read_text() == before
    assert len(starfile.read(job / "autopick.star")) == 3
    labels = starfile.read(job / "RELION_OUTPUT_NODES.star").rlnPipeLineNodeTypeLabel
    assert labels[0] == "MicrographCoordsGroup.star.relion.autopick"
    assert (
        "3 of 3 micrographs already have outputs"
        in upicker(capsys, *JOB, "--diameter", "260A", "--only_do_unfinished")[1]
    )
    assert kept.read_text() == before
    assert "3 of 3" in upicker(capsys, *JOB, "--diameter", "260A", "--redo")[1]
    assert kept.read_text() == before.removesuffix("# by hand\n")


def test_a_continued_job_with_other_settings_warns_that_old_coordinates_are_kept(capsys, project):
    job = Path("External/job012")
    assert upicker(capsys, *JOB, "--diameter", "260A")[0] == 0
    before = contents(job)
    code, _, err = upicker(capsys, *JOB, "--diameter", "260A")
    assert (code, err) == (0, "")
    code, _, err = upicker(capsys, *JOB, "--diameter", "200A")
    assert code == 0
    assert "another diameter are kept; --redo picks all again" in err
    assert contents(job) == before
    code, out, err = upicker(capsys, *JOB, "--diameter", "200A", "--redo")
    assert code == 0
    assert "working scale: particles look" in out
    assert "kept" not in err
    assert contents(job) != before


def test_failures_leave_their_sign(capsys, project):
    job = Path("External/job012")
    assert upicker(capsys, *JOB, "--model", "none")[0] == 2  # the filter has to know the diameter
    assert (job / "RELION_JOB_EXIT_FAILURE").exists()
    for path in Path("MotionCorr/job002/Movies").iterdir():
        path.write_bytes(b"nothing")
    code, _, err = upicker(capsys, *JOB, "--diameter", "260A")
    assert code == 3
    assert "2 of 3 micrographs failed" in err
    assert (job / "RELION_JOB_EXIT_SUCCESS").exists()
    assert not (job / "RELION_JOB_EXIT_FAILURE").exists()
    assert len(starfile.read(job / "autopick.star", always_dict=True)["coordinate_files"]) == 1


def test_a_job_that_relion_aborts_stops_and_says_so(capsys, project):
    job = Path("External/job012")
    job.mkdir(parents=True)
    (job / "RELION_JOB_ABORT_NOW").touch()
    code, _, err = upicker(capsys, *JOB, "--diameter", "260A")
    assert code == 1
    assert "continue the job" in err
    assert (job / "RELION_JOB_EXIT_ABORTED").exists()
    assert not (job / "RELION_JOB_ABORT_NOW").exists()
    assert len(list(job.rglob("*_autopick.star"))) == 2  # one micrograph, and the list for RELION 3.1


@pytest.fixture
def large(project: Path) -> list[str]:
    """A project of twelve micrographs."""
    names = [f"MotionCorr/job002/Movies/copy{number:02d}.mrc" for number in range(12)]
    for number, name in enumerate(names):
        with mrcfile.new(name) as file:
            file.set_data(simulated(number))
    write_list(names)
    return names


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files of a job but for its record, without the job's name."""
    job = folder.as_posix().encode()
    files = [file for file in folder.rglob("*") if file.is_file() and file.suffix != ".toml" and "/." not in str(file)]
    return {file.relative_to(folder).as_posix(): file.read_bytes().replace(job, b"JOB") for file in files}


def job_in(folder: str, *more: object) -> tuple[object, ...]:
    return (*JOB[:3], "--o", f"{folder}/", *more)


def test_continued_after_a_kill_it_is_the_uninterrupted_job(capsys, large):
    whole, killed = Path("External/job020"), Path("External/job021")
    assert upicker(capsys, *job_in(f"{whole}", "--diameter", "260A"))[0] == 0
    assert len(contents(whole)) == len(large) + 4  # the lists, and the exit mark

    first = killed / "Movies/copy00_autopick.star"
    code, _ = stopped([str(word) for word in job_in(f"{killed}", "--diameter", "260A")], signal.SIGKILL, first.exists)
    assert code == -signal.SIGKILL
    done = {file: file.stat().st_mtime_ns for file in killed.glob("Movies/copy*.star")}
    assert 0 < len(done) < len(large)
    assert not list(killed.glob("RELION_JOB_EXIT_*"))

    code, out, err = upicker(capsys, *job_in(f"{killed}", "--diameter", "260A"))
    assert code == 0, err
    assert f"{len(done)} of {len(large)} micrographs already have outputs" in out
    assert contents(killed) == contents(whole)
    assert {file: file.stat().st_mtime_ns for file in done} == done


def test_several_processes_write_what_one_writes(capsys, large):
    one, two = Path("External/job020"), Path("External/job021")
    assert upicker(capsys, *job_in(f"{one}", "--diameter", "260A"))[0] == 0
    assert upicker(capsys, *job_in(f"{two}", "--diameter", "260A", "--j", 2))[0] == 0
    assert contents(one) == contents(two)
    runs = [record.read(folder) for folder in (one, two)]
    assert runs[0].command == "relion-job"
    assert runs[0].micrographs == runs[1].micrographs
    assert [entry.name for entry in runs[0].micrographs] == [Path(name).stem for name in large]


def test_weights_pick_in_several_processes_too(capsys, large, monkeypatch):
    settings = [word for key, value in TOY.items() for word in ("--set", f"{key}={value}")]
    options = ("--diameter", "260A", "--pixel-size", "4A", "-o", "m.safetensors")
    code, _, err = upicker(capsys, "pretrain", *large[:2], *options, *settings)
    assert code == 0, err
    monkeypatch.setattr(run_pick, "cores", lambda: 2)
    write_list(large[: 2 * run_pick.MIN_FILES])
    counts, folders = [], (Path("External/job020"), Path("External/job021"))
    monkeypatch.setattr(find, "each", lambda paths, work, jobs: counts.append(jobs) or each(paths, work, jobs))
    for threads, folder in enumerate(folders, 1):
        more = ("--model", "m.safetensors", "--threshold", 0, "--j", threads)
        assert upicker(capsys, *job_in(f"{folder}", *more))[0] == 0
    assert counts == [1, 2]
    assert contents(folders[0]) == contents(folders[1])
    assert sum(len(coordinates.read(file)) for file in folders[0].glob("Movies/*.star")) > 2 * run_pick.MIN_FILES
    run = tomllib.loads((folders[1] / "run.toml").read_text(encoding="utf-8"))
    assert (run["run"]["model"], run["run"]["threshold"], run["train"]["threads"]) == ("m.safetensors", 0.0, 1)


def test_an_abort_lists_what_several_processes_finished(capsys, large):
    job = Path("External/job020")
    job.mkdir(parents=True)
    (job / "RELION_JOB_ABORT_NOW").touch()
    assert upicker(capsys, *job_in(f"{job}", "--diameter", "260A", "--j", 2))[0] == 1
    assert (job / "RELION_JOB_EXIT_ABORTED").exists()
    done = sorted(file.as_posix() for file in job.glob("Movies/*_autopick.star"))
    assert 0 < len(done) < len(large)
    listed = starfile.read(job / "autopick.star", always_dict=True)["coordinate_files"]
    assert listed.rlnMicrographCoordinates.tolist() == done


def test_extraction_carries_optics_and_ctf_of_the_list(capsys, project):
    assert upicker(capsys, *JOB, "--diameter", "260A")[0] == 0
    path = Path("CtfFind/job003/micrographs_ctf.star")
    text = path.read_text().replace("_rlnOpticsGroup #2\n# v", "").removesuffix("\n")
    head, _, rows = text.rpartition("_rlnOpticsGroup #2\n")
    rows = "".join(f"{row} {15000 + 100 * i}.5 14000.25\n" for i, row in enumerate(rows.splitlines()))
    path.write_text(f"{head}_rlnOpticsGroup #2\n_rlnDefocusU #3\n_rlnDefocusV #4\n{rows}")
    args = ("External/job012/Movies", "--micrographs", path, "--box", "48px", "--cs", "2.7mm", "--voltage", "200kV")
    code, _, _ = upicker(capsys, "extract", *args, "-o", "Extract/particles.star")
    assert code == 0
    tables = starfile.read("Extract/particles.star", parse_as_string=["rlnMicrographName"])
    optics, particles = tables["optics"], tables["particles"]
    assert optics.rlnOpticsGroupName.tolist() == ["opticsGroup1"]
    assert optics.rlnVoltage.tolist() == [300.0]  # the list's
    assert optics.rlnSphericalAberration.tolist() == [2.7]
    assert optics.rlnMicrographPixelSize.tolist() == [4.0]
    defocus = dict(zip(particles.rlnMicrographName, particles.rlnDefocusU))
    assert defocus == {
        "MotionCorr/job002/Movies/mic_a.mrc": 15000.5,
        "MotionCorr/job002/Movies/00123.mrc": 15100.5,
    }
    assert set(particles.rlnDefocusV) == {14000.25}


@pytest.mark.parametrize("more", [(), ("--scale", "24")])
def test_relion_cuts_the_particles_that_we_cut(capsys, project, relion, more):
    assert upicker(capsys, *JOB, "--diameter", "260A")[0] == 0
    command = [
        *(relion, "--i", "CtfFind/job003/micrographs_ctf.star", "--coord_suffix", "_autopick.star"),
        *("--coord_dir", "External/job012/", "--part_dir", "Extract/job013/", "--part_star", "Extract/job013/p.star"),
        *("--extract", "--extract_size", "48", "--norm", "--bg_radius", "9" if more else "18", "--invert_contrast"),
    ]
    subprocess.run([*command, *more], check=True, capture_output=True)
    for folder in ("Movies", "Raw"):
        picks = Path("External/job012") / folder
        mics = "MotionCorr/job002/Movies" if folder == "Movies" else "Raw"
        options = ("--box", "48px", "--pad", "--pixel-size", "4A", *(("--scale", "24px") if more else ()))
        code, _, err = upicker(capsys, "extract", picks, "--micrographs", mics, *options, "-o", f"{folder}/ours.star")
        assert code == 0, err
        for path in sorted(Path(folder, "Particles").glob("*.mrcs")):
            theirs = mrcfile.read(Path("Extract/job013", folder, path.name))
            np.testing.assert_allclose(mrcfile.read(path), theirs, atol=2e-4)


def test_particles_of_a_selection_are_labels_as_they_are_and_as_a_folder(capsys, project):
    """The steps of docs/relion.md, with refined origins."""
    particles = Path("Select/job020/particles.star")
    particles.parent.mkdir(parents=True)
    columns = ("rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY", "rlnOriginXAngst", "rlnOriginYAngst")
    names = ("MotionCorr/job002/Movies/mic_a.mrc", "Raw/mic_c.mrc")
    xy = np.random.default_rng(3).integers(70, 250, (2, 8, 2))
    rows = "".join(f"{name} {x} {y} 8 -4\n" for name, of in zip(names, xy) for x, y in of)
    particles.write_text("data_particles\nloop_\n" + "".join(f"_{one}\n" for one in columns) + rows)
    convert = ("convert", particles, "--to", "csv", "-o", "labels", "--micrographs", LISTED)
    assert upicker(capsys, *convert)[0] == 0
    np.testing.assert_allclose(coordinates.read("labels/mic_a.csv").xy, xy[0] - (2, -1))
    settings = [word for key, value in TOY.items() for word in ("--set", f"{key}={value}")]
    found = []
    for labels in (particles, "labels"):
        output = Path(labels).stem + ".safetensors"
        args = ("finetune", LISTED, "--labels", labels, "-o", output, "--diameter", "260A", *settings)
        code, _, err = upicker(capsys, *args)
        assert code == 0, err
        found.append(Path(output).read_bytes())
    assert found[0] == found[1]


@pytest.fixture
def sessions(project: Path) -> list[str]:
    """Two sessions with files of the same name, in one list."""
    names = ["M/Dataset1/001.mrc", "M/Dataset2/001.mrc"]
    for name, source in zip(names, ("MotionCorr/job002/Movies/mic_a.mrc", "Raw/mic_c.mrc")):
        Path(name).parent.mkdir(parents=True)
        Path(source).rename(name)
    write_list(names)
    return names


LISTED = "CtfFind/job003/micrographs_ctf.star"


def test_one_name_in_two_folders(capsys, sessions):
    code, _, err = upicker(capsys, *JOB, "--diameter", "260A")
    assert (code, err) == (0, "")
    files = [Path(f"External/job012/M/Dataset{i}/001_autopick.star") for i in (1, 2)]
    xy = [coordinates.read(file).xy for file in files]
    assert {file: entry.particles for file, entry in zip(files, record.read(Path("External/job012")).micrographs)} == {
        file: len(one) for file, one in zip(files, xy)
    }
    assert not np.array_equal(*(one[:5] for one in xy))
    for given in ("External/job012", "External/job012/autopick.star"):
        for form, output in (("relion", "AutoPick/j"), ("particles", "P/particles.star"), ("cs", "p.cs")):
            code, _, err = upicker(capsys, "convert", given, "--to", form, "-o", output, "--micrographs", LISTED)
            assert (code, "without" in err) == (0, False)
        for again in ("AutoPick/j", "P/particles.star", "p.cs"):
            code, _, _ = upicker(capsys, "extract", again, "--micrographs", LISTED, "--box", "48px", "-o", "E/p.star")
            assert code == 0
            rows = starfile.read("E/p.star", always_dict=True)["particles"]
            assert {image.split("@")[1] for image in rows.rlnImageName} == {
                f"E/Particles/Dataset{i}/001.mrcs" for i in (1, 2)
            }
            for name, wanted in zip(sessions, xy):
                ours = rows[rows.rlnMicrographName == name][["rlnCoordinateX", "rlnCoordinateY"]].to_numpy()
                inside = np.all((wanted >= 24) & (wanted <= np.array([410, 330]) - 24), axis=1)
                np.testing.assert_allclose(ours, wanted[inside], atol=0.01)
    # Where only the name tells files apart, nothing is guessed.
    code, _, err = upicker(capsys, "convert", "External/job012", "--to", "csv", "-o", "c", "--micrographs", LISTED)
    assert (code, "would share it" in err) == (1, True)
    code, _, err = upicker(capsys, "propose", LISTED, "-o", "c", "--diameter", "260A")
    assert (code, "same name as" in err) == (1, True)


def test_relion_extracts_from_two_folders_with_one_name(capsys, sessions, relion):
    assert upicker(capsys, *JOB, "--diameter", "260A")[0] == 0
    command = [
        *(relion, "--i", LISTED, "--coord_suffix", "_autopick.star", "--coord_dir", "External/job012/"),
        *("--part_dir", "Extract/job013/", "--part_star", "Extract/job013/p.star", "--extract", "--extract_size", "48"),
        *("--norm", "--bg_radius", "18", "--invert_contrast"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    args = ("External/job012", "--micrographs", LISTED, "--box", "48px", "--pad", "-o", "E/p.star")
    assert upicker(capsys, "extract", *args)[0] == 0
    for i in (1, 2):
        theirs = mrcfile.read(f"Extract/job013/M/Dataset{i}/001.mrcs")
        np.testing.assert_allclose(mrcfile.read(f"E/Particles/Dataset{i}/001.mrcs"), theirs, atol=2e-4)


def test_relion_reads_the_particles_that_we_wrote(capsys, project, relion):
    """Its own program stacks them anew: it finds every image, in the list's order, with the list's optics."""
    assert upicker(capsys, *JOB, "--diameter", "260A")[0] == 0
    options = ("--micrographs", "CtfFind/job003/micrographs_ctf.star", "--box", "48px")
    code, _, err = upicker(capsys, "extract", "External/job012/Movies", *options, "-o", "Extract/particles.star")
    assert code == 0, err
    program = Path(relion).with_name("relion_stack_create")
    subprocess.run([program, "--i", "Extract/particles.star", "--o", "again"], check=True, capture_output=True)
    ours, theirs = (starfile.read(name) for name in ("Extract/particles.star", "again.star"))
    assert len(ours["particles"]) > 10
    images = []
    for name in ours["particles"].rlnImageName:
        number, file = name.split("@")
        images.append(mrcfile.read(file)[int(number) - 1])
    np.testing.assert_array_equal(mrcfile.read("again.mrcs"), images)
    assert theirs["particles"].rlnCoordinateX.tolist() == pytest.approx(ours["particles"].rlnCoordinateX.tolist())
    for column in ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast", "rlnImagePixelSize", "rlnImageSize"):
        assert theirs["optics"][column].tolist() == pytest.approx(ours["optics"][column].tolist())
