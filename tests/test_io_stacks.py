"""Stacks and particles.star, read by independent readers: mrcfile and starfile."""

import warnings
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile

from upicker.errors import InputError, OutputError
from upicker.io.stacks import StackEntry, StackKind, open_stack, read_note, write_particles_star
from upicker.particles import Particles

MICROSCOPE = {"_rlnVoltage": "300.0", "_rlnSphericalAberration": "2.7", "_rlnAmplitudeContrast": "0.1"}


PLAIN = StackKind()


def write_stack(path: Path, images: np.ndarray, pixel_size_A: float | None = None, kind: StackKind = PLAIN) -> None:
    with open_stack(path, images.shape[-1], pixel_size_A, kind) as stack:
        stack.append(images)


def boxes(n: int, side: int = 10) -> np.ndarray:
    return np.random.default_rng(n).normal(3, 2, (n, side, side)).astype(np.float32)


def test_a_stack_is_a_valid_mrc_image_stack_with_its_pixel_size(tmp_path: Path) -> None:
    path, images = tmp_path / "mic.mrcs", boxes(5)
    write_stack(path, images, 1.77)
    assert mrcfile.validate(path)
    with mrcfile.open(path) as file:
        assert file.is_image_stack()
        assert file.header.mode == 2
        assert file.voxel_size.x == pytest.approx(1.77)
        assert file.header.rms == pytest.approx(images.std(), rel=1e-5)
        np.testing.assert_array_equal(file.data, images)


def test_a_stack_in_chunks_is_the_stack_in_one(tmp_path: Path) -> None:
    images = boxes(7)
    write_stack(tmp_path / "one.mrcs", images, 1.5)
    with open_stack(tmp_path / "chunks.mrcs", 10, 1.5) as stack:
        for part in (images[:3], images[3:3], images[3:].astype(">f4"), images[:0]):
            stack.append(part)
        assert stack.count == 7
    one, chunks = (mrcfile.read(tmp_path / name) for name in ("one.mrcs", "chunks.mrcs"))
    np.testing.assert_array_equal(one, chunks)


def test_an_empty_stack_is_refused_and_an_interrupted_one_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"mic\.mrcs.*no particle"):
        write_stack(tmp_path / "mic.mrcs", boxes(0))

    def interrupted() -> None:
        with open_stack(tmp_path / "mic.mrcs", 10) as stack:
            stack.append(boxes(2))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_half_precision_stack_keeps_three_digits(tmp_path: Path) -> None:
    images = boxes(4)
    write_stack(tmp_path / "mic.mrcs", images, 1.5, StackKind(float16=True, note="made for a test"))
    with mrcfile.open(tmp_path / "mic.mrcs") as file:
        assert file.header.mode == 12
        assert file.data.dtype == np.float16
        np.testing.assert_allclose(file.data, images, rtol=1e-3, atol=1e-3)
    assert (tmp_path / "mic.mrcs").stat().st_size == 1024 + images.size * 2
    assert mrcfile.validate(tmp_path / "mic.mrcs")


def test_a_note_comes_back_and_its_absence_is_none(tmp_path: Path) -> None:
    write_stack(tmp_path / "noted.mrcs", boxes(1), 1.5, StackKind(note="3f2a 120 x 130"))
    write_stack(tmp_path / "plain.mrcs", boxes(1))
    (tmp_path / "short.mrcs").write_bytes(b"MAP")
    assert read_note(tmp_path / "noted.mrcs") == ("3f2a 120 x 130", 1)
    assert [read_note(tmp_path / name) for name in ("plain.mrcs", "short.mrcs", "none.mrcs")] == [None] * 3


@pytest.mark.parametrize("float16", [False, True])
@pytest.mark.parametrize("more", [-200, -1, 1])
def test_a_stack_that_is_not_as_long_as_its_header_says_has_no_note(tmp_path: Path, float16: bool, more: int) -> None:
    path = tmp_path / "noted.mrcs"
    write_stack(path, boxes(3), 1.5, StackKind(float16, "3f2a"))
    assert read_note(path) == ("3f2a", 3)
    content = path.read_bytes()
    path.write_bytes(content[:more] if more < 0 else content + bytes(more))
    assert read_note(path) is None


def entry(stem: str, n: int, box_px: int, pixel_size_A: float | None, **known: dict[str, str]) -> StackEntry:
    particles = Particles.of(np.arange(2 * n).reshape(n, 2) + 0.25, 30, np.linspace(0.9, 0.1, n))
    return StackEntry(f"stacks/{stem}.mrcs", f"mics/{stem}.mrc", particles, box_px, pixel_size_A, **known)


def test_particles_star_has_one_optics_group_per_pixel_size_and_box(tmp_path: Path) -> None:
    of = {"optics": MICROSCOPE}
    entries = [
        entry("00123", 3, 64, 1.77, **of),
        entry("with blank", 2, 64, 1.5, **of),
        entry("00125", 1, 64, 1.77, **of),
    ]
    write_particles_star(tmp_path / "particles.star", entries)
    blocks = starfile.read(tmp_path / "particles.star")
    optics, particles = blocks["optics"], blocks["particles"]
    assert list(optics.rlnOpticsGroup) == [1, 2]
    assert list(optics.rlnOpticsGroupName) == ["opticsGroup1", "opticsGroup2"]
    assert list(optics.rlnImagePixelSize) == [1.77, 1.5]
    assert list(optics.rlnImageSize) == [64, 64]
    assert list(optics.rlnImageDimensionality) == [2, 2]
    assert list(optics.rlnVoltage) == [300, 300]
    assert list(particles.rlnOpticsGroup) == [1, 1, 1, 2, 2, 1]
    assert list(particles.rlnImageName[:3]) == [f"00000{i}@stacks/00123.mrcs" for i in (1, 2, 3)]
    assert list(particles.rlnMicrographName[2:4]) == ["mics/00123.mrc", "mics/with blank.mrc"]
    np.testing.assert_allclose(particles.rlnCoordinateX[:3], [0.25, 2.25, 4.25])
    np.testing.assert_allclose(particles.rlnCoordinateY[:3], [1.25, 3.25, 5.25])
    np.testing.assert_allclose(particles.rlnAutopickFigureOfMerit[:3], [0.9, 0.5, 0.1])
    assert particles.rlnCoordinateX.dtype == np.float64


def test_what_is_not_known_is_left_out_and_a_mixture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "particles.star"
    write_particles_star(path, [entry("a", 2, 64, None), entry("b", 1, 32, None)])
    optics = starfile.read(path)["optics"]
    assert not {"rlnImagePixelSize", "rlnVoltage"} & set(optics.columns)
    assert list(optics.rlnImageSize) == [64, 32]
    with pytest.raises(InputError, match=r"mics/a\.mrc.*--pixel-size"):
        write_particles_star(path, [entry("a", 2, 64, None), entry("b", 1, 64, 1.5)])


def test_a_stack_without_a_pixel_size_reads_without_a_warning(tmp_path: Path) -> None:
    write_stack(tmp_path / "mic.mrcs", boxes(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mrcfile.read(tmp_path / "mic.mrcs").shape == (2, 10, 10)


def test_each_particle_carries_its_micrographs_ctf_and_microscope(tmp_path: Path) -> None:
    other = MICROSCOPE | {"_rlnVoltage": "200.0"}
    path = tmp_path / "particles.star"
    entries = [
        entry("a", 2, 64, 1.5, optics=MICROSCOPE, ctf={"_rlnDefocusU": "15000.5", "_rlnDefocusV": "14000.0"}),
        entry("b", 1, 64, 1.5, optics=other, ctf={"_rlnDefocusU": "9000.0", "_rlnDefocusV": "9100.0"}),
    ]
    write_particles_star(path, entries)
    blocks = starfile.read(path)
    assert list(blocks["optics"].rlnVoltage) == [300, 200]
    assert list(blocks["particles"].rlnOpticsGroup) == [1, 1, 2]
    assert list(blocks["particles"].rlnDefocusU) == [15000.5, 15000.5, 9000]
    assert list(blocks["particles"].rlnDefocusV) == [14000, 14000, 9100]
    with pytest.raises(InputError, match=r"mics/c\.mrc.*_rlnDefocusU"):
        write_particles_star(path, [*entries, entry("c", 1, 64, 1.5, optics=other)])


def test_names_of_optics_groups_stay_unique(tmp_path: Path) -> None:
    named = {"_rlnOpticsGroupName": "day2"}
    write_particles_star(
        tmp_path / "p.star", [entry("a", 1, 64, 1.5, optics=named), entry("b", 1, 32, 1.5, optics=named)]
    )
    names = list(starfile.read(tmp_path / "p.star")["optics"].rlnOpticsGroupName)
    assert len(set(names)) == 2
    assert all("day2" in name for name in names)
