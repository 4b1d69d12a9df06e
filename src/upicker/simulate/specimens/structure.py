"""Atoms -> the electrostatic potential of a particle above that of the ice.

The potential of free atoms is computed from electron scattering factors (Peng, Ren, Dudarev & Whelan 1996, as tabulated
in gemmi). A particle displaces ice, though, so that only the difference to the displaced ice scatters, about half of
the particle's own potential. So the mean potential of ice is subtracted inside the envelope of the molecule, with a
soft edge, because the water around it has no sharp boundary.

Charges and bonds are neglected; they lower the potential of both the molecule and the water.
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
# Scattering factors at the origin, in Angstrom, times this give the integral of the potential in volt times cubic
# Angstrom: h^2 / (2 pi m e).
VOLT_A2 = 47.8776
# Mean potential of vitreous ice of 0.93 g/cm^3 by the same tables: 0.0311 water molecules per cubic Angstrom, of
# 145.6 V A^3 each.
ICE_V = 4.53
# Integral of the potential above that of the ice, per dalton: by the same tables 4.3 to 4.5 V A^3 for protein and
# ribosomes. For protein that is a mean of 3.6 V in its volume.
CONTRAST_VA3_DA = 4.3
VOXEL_A = 2.0
MAX_SIDE = 256  # of a grid whose voxel size is chosen here; ten times the memory of a ribosome's
# Files without B factors have 0. Below the minimum, atoms would be sharper than in micrographs; above the maximum are
# numbers that mean "not resolved".
DEFAULT_B_A2, MIN_B_A2, MAX_B_A2 = 60.0, 20.0, 200.0
_ATOM_A = 1.7  # van der Waals radius of carbon
_EDGE_A = 1.5  # standard deviation of the envelope's soft edge
_MASK_A = 0.8  # about the grid spacing at which the molecular envelope resolves the gaps between atoms
# Displaced volume, from measured densities in water, in cubic Angstrom per dalton: 0.73 and 0.55 ml/g.
_PROTEIN_A3_DA, _NUCLEIC_A3_DA = 1.21, 0.91


@dataclass(frozen=True, eq=False)
class Atoms:
    """A molecule with its centre of mass at the origin.

    Attributes
    ----------
    structure : gemmi.Structure
        One model, without water and alternative conformations; missing hydrogens are added to the atoms of their
        residue, by raising occupancies.
    xyz_A : np.ndarray
        `(n, 3)` float64.
    mass_kDa : float
        Hydrogens included.
    displaced_A3 : float
        Volume of the displaced ice.
    """

    structure: gemmi.Structure
    xyz_A: np.ndarray
    mass_kDa: float
    displaced_A3: float

    @property
    def radius_A(self) -> float:  # noqa: N802
        """Radius of a sphere around the origin that encloses the molecule with its soft edge."""
        return float(np.linalg.norm(self.xyz_A, axis=1).max()) + _ATOM_A + 3 * _EDGE_A

    @property
    def diameter_A(self) -> float:  # noqa: N802
        """The longest extension."""
        return extension(self.xyz_A) + 2 * _ATOM_A


def potential(path: Path, assembly: str | None = None, voxel_size_A: float | None = None) -> Volume:
    """Compute the potential of a structure above that of the ice it displaces.

    Parameters
    ----------
    path : Path
        A PDB or mmCIF file, also gzipped.
    assembly : str, optional
        Name of a biological assembly; by default the atoms of the file.
    voxel_size_A : float, optional
        Of the grid; by default `VOXEL_A`, or larger for a very large particle.

    Returns
    -------
    Volume
        The potential, band-limited to the grid.

    Raises
    ------
    InputError
        If gemmi is missing, or the file cannot be read or has no atoms.
    ConfigError
        If there is no such assembly, or the voxels are too small for a particle of that size.
    """
    atoms = read(path, assembly)
    voxel = voxel_size_A or max(VOXEL_A, 2 * atoms.radius_A / (MAX_SIDE - 4))
    size = 2 * int(np.ceil(atoms.radius_A / voxel)) + 4
    if size > 2 * MAX_SIDE:
        least = np.ceil(100 * atoms.radius_A / (MAX_SIDE - 3)) / 100
        raise ConfigError(
            "voxel size", f"{voxel:g} A gives a grid with a side of {size} voxels", f"Give at least {least:.2f} A"
        )
    density = in_vacuo(atoms, size, voxel) - np.float32(ICE_V) * envelope(atoms, size, voxel)
    return Volume(path.name.split(".")[0], density, voxel, atoms.diameter_A, atoms.radius_A)


def read(path: Path, assembly: str | None = None) -> Atoms:
    """Read a structure, centre it, and complete its hydrogens and B factors.

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
        raise InputError(path, "reading structures requires gemmi, which is not installed", remedy) from error
    try:
        if path.suffix == ".gz":
            gzip.decompress(path.read_bytes())  # gemmi would read the rest of a truncated file
        structure = gemmi.read_structure(str(path))
    except (RuntimeError, ValueError, OSError, EOFError, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(path, f"it cannot be read as a structure ({reason})", "Give a PDB or mmCIF file") from error
    if len(structure) == 0 or structure[0].count_atom_sites() == 0:
        raise InputError(path, "it contains no atoms", "Give a file with coordinates: PDB or mmCIF")
    if assembly is not None:
        names = [one.name for one in structure.assemblies]
        if assembly not in names:
            there = f"There are: {', '.join(names)}" if names else "The file has none: leave out the option"
            raise ConfigError("assembly", f"{path} has no assembly '{assembly}'", there)
        structure.transform_to_assembly(assembly, gemmi.HowToNameCopiedChain.AddNumber)
    while len(structure) > 1:
        del structure[-1]
    structure.remove_alternative_conformations()
    structure.remove_waters()
    if structure[0].count_atom_sites() == 0:
        raise InputError(path, "it contains only water", "Give a file with a molecule")
    mass, displaced = _complete(structure[0])
    xyz = np.array([site.atom.pos.tolist() for site in structure[0].all()])
    if not (displaced > 0 and np.isfinite(xyz).all()):
        raise InputError(path, "its atoms have no occupancies or positions", "Export the structure again")
    weights = np.array([site.atom.element.weight for site in structure[0].all()])
    centre = np.average(xyz, axis=0, weights=weights)
    shift = gemmi.Transform()
    shift.vec.fromlist((-centre).tolist())
    structure[0].transform_pos_and_adp(shift)
    return Atoms(structure, xyz - centre, mass, displaced)


def _complete(model: gemmi.Model) -> tuple[float, float]:
    """Clip B factors and add missing hydrogens, in place; return mass (kDa) and displaced volume (A^3)."""
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
                if atom.element.atomic_number == 0:  # unknown elements and pseudo-atoms
                    atom.element = gemmi.Element("C")
                atom.b_iso = DEFAULT_B_A2 if unknown else min(max(atom.b_iso, MIN_B_A2), MAX_B_A2)
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
    """Return the number of missing hydrogens of a residue, in proportion to its other atoms; 0 if it has some."""
    import gemmi

    known = gemmi.find_tabulated_residue(residue.name)
    if not known.found() or any(atom.is_hydrogen() for atom in residue):
        return 0.0
    chained = (
        known.is_amino_acid() or known.is_nucleic_acid()
    )  # the tables list free molecules, before the loss of water
    count = known.hydrogen_count - 2 * chained
    heavy = known.weight - 1.008 * known.hydrogen_count - 16.0 * chained
    return count * min(mass / heavy, 1.0) if heavy > 0 else 0.0


def in_vacuo(atoms: Atoms, size: int, voxel_size_A: float) -> np.ndarray:
    """Return the potential of the atoms in vacuum, `(size, size, size)` float32, volt; z, y, x, origin at size // 2.

    Atoms are put on the grid with additional blur, so that they are sampled well, and sharpened again in Fourier space
    up to the resolution of the grid (within a sphere, so that all views have the same resolution).
    """
    import gemmi

    calculator = gemmi.DensityCalculatorE()
    _set(calculator.grid, size, size * voxel_size_A)
    calculator.d_min = 2 * voxel_size_A
    calculator.blur = max(0.0, 8 * np.pi**2 * (0.9 * voxel_size_A) ** 2 - MIN_B_A2)
    calculator.cutoff = 1e-6  # the default of 1e-5 loses half a per cent of atoms this wide
    calculator.add_model_density_to_grid(atoms.structure[0])
    spectrum = np.asarray(fft.rfftn(_zyx(calculator.grid)))
    k, half = (f(size, voxel_size_A).astype(np.float32) for f in (np.fft.fftfreq, np.fft.rfftfreq))
    k2 = (k**2)[:, None, None] + (k**2)[None, :, None] + (half**2)[None, None, :]
    inside = k2 < (0.5 / voxel_size_A) ** 2
    spectrum *= np.where(inside, np.exp(np.float32(calculator.blur / 4) * np.where(inside, k2, 0)), 0)
    return np.asarray(fft.irfftn(spectrum, (size,) * 3, overwrite_x=True)) * np.float32(VOLT_A2)


def envelope(atoms: Atoms, size: int, voxel_size_A: float) -> np.ndarray:
    """Return the fraction of the ice that is displaced in each voxel, about 0..1.

    The molecule is where a probe of 1 Angstrom cannot be without touching an atom. Its edge is smoothed, and the result
    is scaled by some per cent to the volume that this mass is known to displace, because the volume inside the envelope
    depends on the spacing of the grid.

    Returns
    -------
    np.ndarray
        `(size, size, size)` float32; axes z, y, x, origin at size // 2.
    """
    import gemmi

    finer = 2 * round((voxel_size_A / _MASK_A - 1) / 2) + 1  # odd, so that voxels keep their centres
    grid = gemmi.Int8Grid()
    _set(grid, size * finer, size * voxel_size_A)
    gemmi.SolventMasker(gemmi.AtomicRadiiSet.VanDerWaals).put_mask_on_int8_grid(grid, atoms.structure[0])
    solvent = np.roll(_zyx(grid), finer // 2, (0, 1, 2)).reshape((size, finer) * 3)
    fraction = 1 - solvent.mean((1, 3, 5), dtype=np.float32)
    fraction *= atoms.displaced_A3 / (fraction.sum(dtype=np.float64) * voxel_size_A**3)
    return ndimage.gaussian_filter(fraction, _EDGE_A / voxel_size_A, mode="constant")


def extension(xyz_A: np.ndarray) -> float:
    """Return the longest extension of `(n, 3)` points, in Angstrom.

    This is the largest extent along their principal axes: the length of a barrel, not its diagonal.
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
    """Return gemmi's x, y, z array as z, y, x, with the origin moved from the first voxel to the centre."""
    return fft.fftshift(grid.array.transpose(2, 1, 0))
