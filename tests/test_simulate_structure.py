"""Potentials from atoms: another implementation, the tables' sums, the ice that is displaced."""

import builtins
import gzip

import numpy as np
import pytest

from upicker.errors import ConfigError, InputError
from upicker.simulate.specimens import structure
from upicker.simulate.specimens.specimen import Source, load

gemmi = pytest.importorskip("gemmi")

NAMES = [("N", "N"), ("CA", "C"), ("C", "C"), ("O", "O"), ("CB", "C")]


def pdb(path, copies=40, b_A2=40.0, spread_A=(5.0, 8.0, 11.0), extra=""):
    """Alanines at random positions, without hydrogens, as a PDB file."""
    rng = np.random.default_rng(3)
    lines, serial = [], 0
    for residue in range(copies):
        for name, element in NAMES:
            serial += 1
            x, y, z = rng.normal(size=3) * spread_A + (100, -50, 20)
            lines.append(
                f"ATOM  {serial:5d}  {name:<3s} ALA A{residue + 1:4d}    {x:8.3f}{y:8.3f}{z:8.3f}"
                f"  1.00{b_A2:6.2f}          {element:>2s}"
            )
    path.write_text("\n".join([*lines, extra, "END"]) + "\n")
    return path


def integral(values, voxel_A):
    return values.sum(dtype=np.float64) * voxel_A**3


def test_the_potential_of_atoms_is_another_programs(tmp_path):
    torch = pytest.importorskip("torch")
    other = pytest.importorskip("torch_calculate_electrostatic_potential")
    atoms = structure.read(pdb(tmp_path / "a.pdb", copies=12, b_A2=90, spread_A=(4, 6, 8)))
    size, voxel = 56, 1.0
    found = structure.in_vacuo(atoms, size, voxel)
    sites = [site.atom for site in atoms.structure[0].all()]
    a, b = other.get_peng_scattering_parameters(torch.tensor([atom.element.atomic_number for atom in sites]))
    low, high = [(-size // 2) * voxel] * 3, [(size // 2 - 1) * voxel] * 3
    expected = other.calculate_scattering_potential_3d(
        torch.tensor(atoms.xyz_A[:, ::-1].copy(), dtype=torch.float32),
        torch.full((len(sites),), 90.0),
        a,
        b,
        other.GridConfig((size,) * 3, (voxel,) * 3, low, high),
        atom_occupancies=torch.tensor([atom.occ for atom in sites]),
        per_voxel_averaging=False,
    ).numpy()
    assert np.abs(found - expected).max() < 0.02 * expected.max()
    assert found.sum() == pytest.approx(expected.sum(), rel=0.01)


def test_hydrogens_that_are_missing_are_made_up_for(tmp_path):
    atoms = structure.read(pdb(tmp_path / "a.pdb"))
    # Alanine in a chain is C3 H5 N O.
    f = {name: gemmi.Element(name).c4322.calculate_sf(0) for name in "CHNO"}
    expected = 40 * (3 * f["C"] + 5 * f["H"] + f["N"] + f["O"]) * structure.VOLT_A2
    assert atoms.mass_kDa == pytest.approx(40 * 71.08e-3, rel=1e-3)
    for voxel in (1.3, 2.0, 3.1):
        size = 2 * int(atoms.radius_A / voxel) + 6
        assert integral(structure.in_vacuo(atoms, size, voxel), voxel) == pytest.approx(expected, rel=1e-3)


def test_the_ice_is_what_the_tables_say_of_water():
    f = {name: gemmi.Element(name).c4322.calculate_sf(0) for name in "HO"}
    molecules_A3 = 0.93 * 6.02214e23 / 18.015 * 1e-24
    assert (2 * f["H"] + f["O"]) * structure.VOLT_A2 * molecules_A3 == pytest.approx(structure.ICE_V, abs=0.01)


def test_what_is_displaced_is_taken_away(tmp_path):
    path = pdb(tmp_path / "a.pdb")
    atoms = structure.read(path)
    net = structure.potential(path)
    size, voxel = len(net.density_V), net.voxel_size_A
    alone, share = structure.in_vacuo(atoms, size, voxel), structure.envelope(atoms, size, voxel)
    assert integral(share, voxel) == pytest.approx(1.21e3 * atoms.mass_kDa, rel=1e-3)
    difference = integral(alone, voxel) - integral(net.density_V, voxel)
    assert difference == pytest.approx(structure.ICE_V * atoms.displaced_A3, rel=1e-3)
    # Sharp edges would be seen in the image: neighbours differ by less than a third of the ice.
    assert max(np.abs(np.diff(share, axis=axis)).max() for axis in range(3)) < 0.4
    middle = np.array([np.average(np.arange(size), weights=share.sum(other)) for other in ((1, 2), (0, 2), (0, 1))])
    np.testing.assert_allclose(middle, size // 2, atol=0.6)


def test_axes_and_hands_are_kept(tmp_path):
    """A heavy atom far out along +x and +y, a lighter one along +z: where they are in the images."""
    heavy = "HETATM  901 PT    PT B 900     130.000 -30.000  20.000  1.00 20.00          PT"
    light = "HETATM  902 AG    AG B 901     100.000 -50.000  60.000  1.00 20.00          AG"
    path = pdb(tmp_path / "a.pdb", copies=1, extra=heavy + "\n" + light)
    atoms = structure.read(path)
    net = structure.potential(path)
    for rotation in (np.eye(3), np.array([[0.0, 0, 1], [0.6, 0.8, 0], [-0.8, 0.6, 0]])):
        image = net.projection(rotation, 101, 1.5)
        x, y, _ = rotation @ atoms.xyz_A[-2]
        assert abs(rotation @ atoms.xyz_A[-2])[:2].max() > 10
        row, column = np.unravel_index(image.argmax(), image.shape)
        assert abs(column - 50 - x / 1.5) < 1.1
        assert abs(row - 50 - y / 1.5) < 1.1


def test_a_larger_b_factor_blurs_within_bounds(tmp_path):
    def sharpness(b_A2):
        return float(structure.potential(pdb(tmp_path / "b.pdb", b_A2=b_A2)).density_V.std())

    assert sharpness(25.0) > 1.1 * sharpness(60.0) > 1.2 * sharpness(180.0)
    assert sharpness(0.0) == pytest.approx(sharpness(60.0))  # not given
    assert sharpness(500.0) == pytest.approx(sharpness(200.0))


def test_a_biological_assembly_is_made_on_request(tmp_path):
    remark = "\n".join(
        [
            "REMARK 350 BIOMOLECULE: 1",
            "REMARK 350 APPLY THE FOLLOWING TO CHAINS: A",
            "REMARK 350   BIOMT1   1  1.000000  0.000000  0.000000        0.00000",
            "REMARK 350   BIOMT2   1  0.000000  1.000000  0.000000        0.00000",
            "REMARK 350   BIOMT3   1  0.000000  0.000000  1.000000        0.00000",
            "REMARK 350   BIOMT1   2 -1.000000  0.000000  0.000000      340.00000",
            "REMARK 350   BIOMT2   2  0.000000 -1.000000  0.000000     -100.00000",
            "REMARK 350   BIOMT3   2  0.000000  0.000000  1.000000        0.00000",
        ]
    )
    path = pdb(tmp_path / "a.pdb")
    path.write_text(remark + "\n" + path.read_text())
    one, two = structure.read(path), structure.read(path, "1")
    assert two.mass_kDa == pytest.approx(2 * one.mass_kDa)
    assert two.diameter_A > one.diameter_A + 60
    with pytest.raises(ConfigError, match=r"no assembly '7'.*There are: 1"):
        structure.read(path, "7")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.pdb", b"", "no atoms"),
        ("remarks.pdb", b"REMARK   2 nothing\nEND\n", "no atoms"),
        ("noise.pdb", bytes(range(256)) * 20, "no atoms|cannot be read"),
        ("noise.cif", bytes(range(256)) * 20, "cannot be read"),
        ("nothing.cif", b"data_x\n_cell.length_a 10\n", "no atoms"),
        ("cut.pdb.gz", gzip.compress(b"ATOM" * 9999, mtime=0)[:60], "no atoms|cannot be read"),
        ("no.pdb.gz", b"not gzip at all", "no atoms|cannot be read"),
        (
            "water.pdb",
            b"HETATM    1  O   HOH A   1       1.000   1.000   1.000  1.00 20.00           O\nEND\n",
            "water",
        ),
    ],
)
def test_files_without_a_molecule_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        load(tmp_path / name, Source(cache=tmp_path))


def test_voxels_too_small_for_the_particle_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"at least 0\.\d\d A"):
        structure.potential(pdb(tmp_path / "a.pdb"), voxel_size_A=0.01)


def test_without_gemmi_the_error_names_the_extra(tmp_path, monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "gemmi":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    path = pdb(tmp_path / "a.pdb")
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(InputError, match=r"pip install 'upicker\[sim\]'"):
        structure.potential(path)


def test_the_proteasome_has_its_mass_size_and_contrast(shared, tmp_path):
    path = shared / "structures" / "3j9i.pdb.gz"
    if not path.is_file():
        pytest.skip("the proteasome's structure is not here")
    atoms = structure.read(path)
    specimen = load(path, Source(cache=tmp_path))
    assert atoms.mass_kDa == pytest.approx(653, rel=0.02)
    assert specimen.diameter_A == pytest.approx(155, abs=8)
    total_VA3 = specimen.projection(np.eye(3), 99, 3.0).sum() * 9
    assert total_VA3 / atoms.mass_kDa / 1e3 == pytest.approx(structure.CONTRAST_VA3_DA, rel=0.02)
    assert total_VA3 / atoms.displaced_A3 == pytest.approx(3.58, abs=0.05)
