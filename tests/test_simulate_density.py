"""Density maps: any unit, voxel size, box and order of axes give the particle that was drawn."""

import gzip

import mrcfile
import numpy as np
import pytest

from upicker.errors import InputError
from upicker.simulate.specimens import density
from upicker.simulate.specimens.blobs import Blobs
from upicker.simulate.specimens.specimen import Source, load

RNG = np.random.default_rng(5)
BLOBS = Blobs("drawn", 120.0, RNG.uniform(-1, 1, (150, 3)) * (18, 30, 52) + (0, 6, 0), 5.0, RNG.lognormal(9, 0.4, 150))
VOXEL_A = 4.0
TURN = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])


def drawn(box=(52, 47, 40)):
    """`(z, y, x)`, not cubic, the particle beside its middle."""
    volume = BLOBS.volume(64, VOXEL_A)
    first = [32 - n // 2 + s for n, s in zip(box, (3, -2, 1), strict=True)]
    return volume[tuple(slice(f, f + n) for f, n in zip(first, box, strict=True))]


def write(path, values, voxel_A=VOXEL_A, axes=(1, 2, 3)):
    with mrcfile.new(path, overwrite=True, compression="gzip" if path.suffix == ".gz" else None) as file:
        file.set_data(np.zeros(values.shape, np.float32))
        file.data[...] = values
        file.set_volume()
        file.header.mapc, file.header.mapr, file.header.maps = axes
        file.voxel_size = voxel_A
    return path


def centred():
    """The blobs with their centre of mass in the origin."""
    middle = np.average(BLOBS.centres_A, axis=0, weights=BLOBS.weight_VA3)
    return Blobs("centred", 120.0, BLOBS.centres_A - middle, BLOBS.sigma_A, BLOBS.weight_VA3)


def likeness(specimen, rotation=TURN):
    images = [s.projection(rotation, 71, 3.0) for s in (specimen, centred())]
    return np.corrcoef(images[0].ravel(), images[1].ravel())[0, 1]


@pytest.mark.parametrize("scale", [(1.0, 0.0), (1e-3, 0.0), (250.0, -70.0)])
def test_units_do_not_matter_and_the_particle_is_that_drawn(tmp_path, scale):
    found = density.potential(write(tmp_path / "a.mrc", drawn() * scale[0] + scale[1]))
    assert likeness(found) > 0.995
    reference = density.potential(write(tmp_path / "b.mrc", drawn()))
    np.testing.assert_allclose(found.density_V, reference.density_V, atol=2e-3 * reference.density_V.max())
    assert found.diameter_A == pytest.approx(120, abs=10)
    assert found.radius_A <= len(found.density_V) * found.voxel_size_A / 2


def test_noise_around_the_particle_is_left_out(tmp_path):
    clean = drawn((60, 60, 56))
    noise = RNG.normal(0, 0.02 * clean.max(), clean.shape)
    found = density.potential(write(tmp_path / "a.mrc.gz", clean + noise))
    assert likeness(found) > 0.97
    assert not found.projection(np.eye(3), 101, 4.0)[:12].any()


def test_a_mass_sets_the_sum(tmp_path):
    path = write(tmp_path / "a.map", drawn())
    found = load(path, Source(mass_kDa=321.0, cache=tmp_path))
    assert found.projection(TURN, 81, 3.0).sum() * 9 == pytest.approx(321e3 * density.CONTRAST_VA3_DA, rel=5e-3)


def test_the_order_of_axes_is_heeded(tmp_path):
    # Stored with x slowest and z fastest.
    reordered = write(tmp_path / "a.mrc", drawn().transpose(2, 1, 0), axes=(3, 2, 1))
    assert likeness(density.potential(reordered)) > 0.995
    mirrored = write(tmp_path / "b.mrc", drawn()[::-1])
    assert likeness(density.potential(mirrored)) < 0.95


def test_the_voxel_size_given_counts(tmp_path):
    found = density.potential(write(tmp_path / "a.mrc", drawn(), voxel_A=1.0), voxel_size_A=VOXEL_A)
    assert likeness(found) > 0.995


def test_fine_maps_are_made_coarser_where_the_grid_would_be_large(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mrc", drawn())
    fine = density.potential(path)
    monkeypatch.setattr(density, "MAX_SIDE", 26)
    coarse = density.potential(path)
    assert len(coarse.density_V) == 26
    images = [s.projection(TURN, 40, 6.0) for s in (fine, coarse)]
    assert np.corrcoef(images[0].ravel(), images[1].ravel())[0, 1] > 0.999
    assert images[0].sum() == pytest.approx(images[1].sum(), rel=5e-3)


def test_a_map_without_its_voxel_size_says_what_to_give(tmp_path):
    with pytest.raises(InputError, match=r"has no voxel size.*voxel_size_A"):
        density.potential(write(tmp_path / "a.mrc", drawn(), voxel_A=0.0))


def test_uneven_voxels_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"4 x 4 x 5 A.*Resample"):
        density.potential(write(tmp_path / "a.mrc", drawn(), voxel_A=(4.0, 4.0, 5.0)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((12, 12, 12)), "no particle stands out"),
        (np.full((12, 12, 12), 3.0), "no particle stands out"),
        (np.full((12, 12, 12), np.nan), "not finite"),
        (np.ones((1, 40, 40)), "not a volume"),
    ],
)
def test_maps_without_a_particle_are_refused(tmp_path, values, message):
    with pytest.raises(InputError, match=message):
        density.potential(write(tmp_path / "a.mrc", values))


def test_damaged_files_are_refused(tmp_path):
    whole = write(tmp_path / "a.mrc", drawn()).read_bytes()
    for name, content in {
        "cut.mrc": whole[: len(whole) // 2],
        "head.mrc": whole[:500],
        "empty.mrc": b"",
        "noise.map": bytes(range(256)) * 100,
        "cut.mrc.gz": gzip.compress(whole)[:3000],
        "no.mrc.gz": b"no gzip",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=r"cannot be read|damaged|does not begin"):
            density.potential(tmp_path / name)


@pytest.mark.parametrize(("name", "smallest", "largest"), [("4v7r", 250, 300), ("3j9i", 140, 165), ("3h84", 70, 95)])
def test_real_maps_have_their_sizes(shared, name, smallest, largest):
    path = shared / "structures" / f"{name}.mrc.gz"
    if not path.is_file():
        pytest.skip("the maps are not here")
    assert smallest < density.potential(path).diameter_A < largest
