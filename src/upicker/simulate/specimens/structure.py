"""Atoms -> the electrostatic potential that a particle adds to the ice.

The potential of free atoms comes from electron scattering factors (Peng, Ren, Dudarev & Whelan 1996, as tabulated
in gemmi). A particle takes the place of ice, though: what scatters is the difference to the ice that would be
there, about half of the particle's own potential. So the ice's mean potential is taken away inside the molecule's
envelope, which has a soft edge, as water has no sharp one.

Charges and bonds are left out; they lower the potential of both the molecule and the water.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft, ndimage

from upicker.errors import ConfigError, InputError
from upicker.simulate.specimens.volume import Volume

if TYPE_CHECKING:
    import gemmi

SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif")
# Scattering factors at the origin, in Angstrom, times this give the potential's integral in volt times cubic
# Angstrom: h^2 / (2 pi m e).
VOLT_A2 = 47.8776
# The mean potential of vitreous ice of 0.93 g/cm^3 by the same tables: 0.0311 molecules of water in each cubic
# Angstrom, 145.6 V A^3 each.
ICE_V = 4.53
# What a mass adds to the ice, by the same tables: protein and ribosomes have 4.3 to 4.5 V A^3 for each dalton. For
# protein that is 3.6 V in the volume that it fills.
CONTRAST_VA3_DA = 4.3
VOXEL_A = 2.0
LARGEST_SIDE = 256  # of a grid whose voxels are chosen here; ten times the memory of a ribosome's
# Files without B factors have 0. Below the least, atoms would be sharper than micrographs show; above the largest
# stand numbers that mean "not seen".
USUAL_B_A2, LEAST_B_A2, LARGEST_B_A2 = 60.0, 20.0, 200.0
_ATOM_A = 1.7  # van der Waals' radius of carbon
_EDGE_A = 1.5  # standard deviation of the envelope's soft edge
_MASK_A = 0.8  # the molecular envelope needs about this step to find the gaps between atoms
# What a molecule displaces, from measured densities in water, in cubic Angstrom per dalton: 0.73 and 0.55 ml/g.
_PROTEIN_A3_DA, _NUCLEIC_A3_DA = 1.21, 0.91


@dataclass(frozen=True, eq=False)
class Atoms:
    """A molecule, its centre of mass in the origin.

    Attributes
    ----------
    structure : gemmi.Structure
        One model, without water and alternative conformations; hydrogens that are not in it are laid upon the atoms
        of their residue, by raised occupancies.
    xyz_A : np.ndarray
        `(n, 3)` float64.
    mass_kDa : float
        Hydrogens included.
    displaced_A3 : float
        Volume of the ice whose place it takes.
    """

    structure: gemmi.Structure
    xyz_A: np.ndarray
    mass_kDa: float
    displaced_A3: float

    @property
    def radius_A(self) -> float:  # noqa: N802
        """Of a sphere around the origin that holds the molecule with its soft edge."""
        return float(np.linalg.norm(self.xyz_A, axis=1).max()) + _ATOM_A + 3 * _EDGE_A

    @property
    def diameter_A(self) -> float:  # noqa: N802
        """The longest extension."""
        return extension(self.xyz_A) + 2 * _ATOM_A


def potential(path: Path, assembly: str | None = None, voxel_size_A: float | None = None) -> Volume:
    """Compute a structure's potential above that of the ice it displaces.

    Parameters
    ----------
    path : Path
        A PDB or mmCIF file, perhaps gzipped.
    assembly : str, optional
        Which biological assembly; by default the atoms as they stand in the file.
    voxel_size_A : float, optional
        Of the grid; by default `VOXEL_A`, or what a very large particle needs.

    Returns
    -------
    Volume
        The potential, without frequencies beyond the grid's.

    Raises
    ------
    InputError
        If gemmi is missing, or the file cannot be read or has no atoms.
    ConfigError
        If there is no such assembly, or the voxels are too small for a particle of that size.
    """
    atoms = read(path, assembly)
    voxel = voxel_size_A or max(VOXEL_A, 2 * atoms.radius_A / (LARGEST_SIDE - 4))
    size = 2 * int(np.ceil(atoms.radius_A / voxel)) + 4
    if size > 2 * LARGEST_SIDE:
        least = np.ceil(100 * atoms.radius_A / (LARGEST_SIDE - 3)) / 100
        raise ConfigError(
            "voxel size", f"{voxel:g} A makes a grid of {size} voxels a side", f"Give at least {least:.2f} A"
        )
    density = in_vacuo(atoms, size, voxel) - np.float32(ICE_V) * envelope(atoms, size, voxel)
    return Volume(path.name.split(".")[0], density, voxel, atoms.diameter_A, atoms.radius_A)


def read(path: Path, assembly: str | None = None) -> Atoms:
    """Read a structure, centre it and make up for what it lacks.

    Raises
    ------
    InputError
        If gemmi is missing, or the file cannot be read or has no atoms.
    ConfigError
        If there is no such assembly.
    """
    try:
        import gemmi
    except ImportError as error:
        remedy = "Install it: pip install 'upicker[sim]'; or give a density map, or a built-in specimen"
        raise InputError(path, "structures are read by gemmi, which is not installed", remedy) from error
    try:
        if path.suffix == ".gz":
            gzip.decompress(path.read_bytes())  # gemmi would take what is left of a file that is cut short
        structure = gemmi.read_structure(str(path))
    except (RuntimeError, ValueError, OSError, EOFError, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(path, f"it cannot be read as a structure ({reason})", "Give a PDB or mmCIF file") from error
    if len(structure) == 0 or structure[0].count_atom_sites() == 0:
        raise InputError(path, "there are no atoms in it", "Give a file with coordinates: PDB or mmCIF")
    if assembly is not None:
        names = [one.name for one in structure.assemblies]
        if assembly not in names:
            there = f"There are: {', '.join(names)}" if names else "The file tells none: leave the option out"
            raise ConfigError("assembly", f"{path} has no assembly '{assembly}'", there)
        structure.transform_to_assembly(assembly, gemmi.HowToNameCopiedChain.AddNumber)
    while len(structure) > 1:
        del structure[-1]
    structure.remove_alternative_conformations()
    structure.remove_waters()
    if structure[0].count_atom_sites() == 0:
        raise InputError(path, "there is nothing but water in it", "Give a file with a molecule")
    mass, displaced = _complete(structure[0])
    xyz = np.array([site.atom.pos.tolist() for site in structure[0].all()])
    if not (displaced > 0 and np.isfinite(xyz).all()):
        raise InputError(path, "its atoms have no occupancy, or no places", "Export the structure again")
    weights = np.array([site.atom.element.weight for site in structure[0].all()])
    middle = np.average(xyz, axis=0, weights=weights)
    shift = gemmi.Transform()
    shift.vec.fromlist((-middle).tolist())
    structure[0].transform_pos_and_adp(shift)
    return Atoms(structure, xyz - middle, mass, displaced)


def _complete(model: gemmi.Model) -> tuple[float, float]:
    """Bound the B factors, lay missing hydrogens upon their residues; return mass (kDa) and displaced volume (A^3)."""
    import gemmi

    hydrogen = gemmi.Element("H")
    f_hydrogen = hydrogen.c4322.calculate_sf(0)
    unknown = all(site.atom.b_iso == 0 for site in model.all())
    isotropic = gemmi.SMat33f(0, 0, 0, 0, 0, 0)
    total = displaced = 0.0
    for chain in model:
        for residue in chain:
            mass = strength = 0.0
            for atom in residue:
                if atom.element.atomic_number == 0:  # not named, or pseudo-atoms
                    atom.element = gemmi.Element("C")
                atom.b_iso = USUAL_B_A2 if unknown else min(max(atom.b_iso, LEAST_B_A2), LARGEST_B_A2)
                atom.aniso = isotropic
                mass += atom.occ * atom.element.weight
                strength += atom.occ * atom.element.c4322.calculate_sf(0)
            missing = _missing_hydrogens(residue, mass)
            if missing and strength > 0:
                raised = 1 + missing * f_hydrogen / strength
                for atom in residue:
                    atom.occ *= raised
            mass += missing * hydrogen.weight
            total += mass
            nucleic = gemmi.find_tabulated_residue(residue.name).is_nucleic_acid()
            displaced += mass * (_NUCLEIC_A3_DA if nucleic else _PROTEIN_A3_DA)
    return total / 1000, displaced


def _missing_hydrogens(residue: gemmi.Residue, mass: float) -> float:
    """Return how many hydrogens a residue should have, as far as its other atoms are there; 0 if it has some."""
    import gemmi

    known = gemmi.find_tabulated_residue(residue.name)
    if not known.found() or any(atom.is_hydrogen() for atom in residue):
        return 0.0
    chained = known.is_amino_acid() or known.is_nucleic_acid()  # the tables list them free, before water has left
    count = known.hydrogen_count - 2 * chained
    heavy = known.weight - 1.008 * known.hydrogen_count - 16.0 * chained
    return count * min(mass / heavy, 1.0) if heavy > 0 else 0.0


def in_vacuo(atoms: Atoms, size: int, voxel_size_A: float) -> np.ndarray:
    """Return the atoms' own potential, `(size, size, size)` float32, volt; axes z, y, x, origin at size // 2.

    Atoms are drawn as wide as the grid can carry, and sharpened again by their transform, up to the grid's
    frequency (a ball, so that all views have the same).
    """
    import gemmi

    calculator = gemmi.DensityCalculatorE()
    _set(calculator.grid, size, size * voxel_size_A)
    calculator.d_min = 2 * voxel_size_A
    calculator.blur = max(0.0, 8 * np.pi**2 * (0.9 * voxel_size_A) ** 2 - LEAST_B_A2)
    calculator.cutoff = 1e-6  # the usual 1e-5 loses half a percent of atoms that are drawn so wide
    calculator.add_model_density_to_grid(atoms.structure[0])
    drawn = np.asarray(fft.rfftn(_zyx(calculator.grid)))
    k, half = (f(size, voxel_size_A).astype(np.float32) for f in (np.fft.fftfreq, np.fft.rfftfreq))
    k2 = (k**2)[:, None, None] + (k**2)[None, :, None] + (half**2)[None, None, :]
    inside = k2 < (0.5 / voxel_size_A) ** 2
    drawn *= np.where(inside, np.exp(np.float32(calculator.blur / 4) * np.where(inside, k2, 0)), 0)
    return np.asarray(fft.irfftn(drawn, (size,) * 3, overwrite_x=True)) * np.float32(VOLT_A2)


def envelope(atoms: Atoms, size: int, voxel_size_A: float) -> np.ndarray:
    """Return what share of each voxel's ice is displaced, about 0..1.

    The molecule is where a ball of 1 Angstrom cannot be without touching an atom. Its edge is softened, and the
    whole is scaled, by some percent, to the volume that such a mass is known to displace, because the volume of
    the balls' envelope hangs on the step of the grid.

    Returns
    -------
    np.ndarray
        `(size, size, size)` float32; axes z, y, x, origin at size // 2.
    """
    import gemmi

    finer = 2 * round((voxel_size_A / _MASK_A - 1) / 2) + 1  # odd, so that voxels keep their middles
    grid = gemmi.Int8Grid()
    _set(grid, size * finer, size * voxel_size_A)
    gemmi.SolventMasker(gemmi.AtomicRadiiSet.VanDerWaals).put_mask_on_int8_grid(grid, atoms.structure[0])
    solvent = np.roll(_zyx(grid), finer // 2, (0, 1, 2)).reshape((size, finer) * 3)
    share = 1 - solvent.mean((1, 3, 5), dtype=np.float32)
    share *= atoms.displaced_A3 / (share.sum(dtype=np.float64) * voxel_size_A**3)
    return ndimage.gaussian_filter(share, _EDGE_A / voxel_size_A, mode="constant")


def extension(xyz_A: np.ndarray) -> float:
    """Return how far `(n, 3)` points reach along the axis of their largest extension.

    Their principal axes are tried: the length of a barrel, not the diagonal through it.
    """
    centred = xyz_A - xyz_A.mean(0)
    axes = np.linalg.eigh(centred.T @ centred)[1]
    return float(np.ptp(centred @ axes, axis=0).max())


def _set(grid: gemmi.FloatGrid | gemmi.Int8Grid, size: int, side_A: float) -> None:
    import gemmi

    grid.set_unit_cell(gemmi.UnitCell(side_A, side_A, side_A, 90, 90, 90))
    grid.spacegroup = gemmi.SpaceGroup("P 1")
    grid.set_size(size, size, size)


def _zyx(grid: gemmi.FloatGrid | gemmi.Int8Grid) -> np.ndarray:
    """Turn gemmi's x, y, z into z, y, x, and move the origin from the first voxel to the middle."""
    return fft.fftshift(grid.array.transpose(2, 1, 0))
