"""Core excitations of one atom of a molecule from first principles: transition-potential DFT with PySCF.

The excited atom keeps its 1s shell; every other heavy atom carries a pseudopotential in place of its own, so the only
1s orbital left is the lowest one: the half hole can neither hop nor delocalise. The converged density is then put
into a large basis, the Kohn-Sham matrix is made there once, and its empty orbitals are the final states. Settings:
`protocol.py`; what was measured: docs/labelling.md.
"""

import itertools
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from equispec.data.sample import SiteSticks
from equispec.errors import InputError
from equispec.reference.effective_core import effective_core_matrix
from equispec.reference.iglo3 import iglo3
from equispec.reference.protocol import ELEMENTS, SITE_BASIS, Level, Shells, find_level, settings_hash, site_shells
from equispec.spectra import EDGES
from equispec.units import BOHR, HARTREE

HEADROOM = 15.4  # eV; final states are kept up to this far above the end of the edge's grid
LEAST_POPULATION = 0.99  # of the 1s orbital on the excited atom
LEAST_GAP = 0.5  # eV
LEVEL_SHIFT = 0.3  # hartree, of the second attempt to converge
POINTS_AT_ONCE = 4096
FITTING_AT_ONCE = 64  # functions of the density fitting, where the integrals with all others are made
MEMORY = 2000  # MB that PySCF may plan with


class SiteFailed(Exception):
    """A calculation that must not become data; the message is the reason."""


def label_site(
    z: Int[np.ndarray, "atoms"],
    pos: Float[np.ndarray, "atoms 3"],
    atom: int,
    edge: str = "C-K",
    level: str = "fast",
    equivalent: tuple[int, ...] = (),
) -> SiteSticks:
    """The sticks of one absorbing atom of a neutral closed-shell molecule.

    `pos` [atoms, 3] Å; `atom` is the index of the absorber; `equivalent` is passed on. Energies eV on the raw scale of
    the method (the edge's shift is not applied), dipoles <1s|r|f> e·bohr. Uses one thread. Raises SiteFailed, with the
    reason, where the calculation does not converge or fails its checks, and InputError for a structure or an edge that
    the protocol does not cover and where PySCF is not installed.
    """
    check_molecule(z, atom, edge)
    settings = find_level(level)
    lib = _pyscf_lib()
    with lib.with_omp_threads(1):
        hole = _HalfHole(z, np.asarray(pos, np.float64), atom, settings)
        hole.converge()
        return hole.transitions(EDGES[edge].grid.stop - EDGES[edge].shift + HEADROOM, equivalent)


def check_molecule(z: Int[np.ndarray, "atoms"], atom: int, edge: str, where: str = "the molecule") -> None:
    """Raise InputError, in a sentence that begins with `where`, unless the protocol covers this molecule and site."""
    if edge not in EDGES:
        raise InputError(f"unknown edge {edge!r}; known edges: {', '.join(EDGES)}")
    if unknown := sorted(set(z.tolist()) - set(ELEMENTS)):
        raise InputError(f"{where}: atomic numbers {unknown}: the protocol covers {', '.join(map(str, ELEMENTS))}")
    if not 0 <= atom < len(z) or z[atom] != EDGES[edge].z:
        raise InputError(f"{where}: atom {atom} is not one of its {EDGES[edge].element} atoms")
    if int(z.sum()) % 2:
        raise InputError(f"{where}: an odd number of electrons; the protocol is for closed shells")


def core_hole_provenance(edge: str = "C-K", level: str = "fast") -> dict[str, str | float]:
    """What a store of these labels says about them; InputError where PySCF is missing."""
    settings = find_level(level)
    _pyscf_lib()
    element = EDGES[edge].element
    return {
        "edge": edge,
        "energy_shift": EDGES[edge].shift,
        "units": "positions Å; energies, ionization potential, gap, total energy eV; dipoles e·bohr",
        "protocol": (
            f"Transition potential (half core hole, one site at a time), restricted {settings.functional}; on the "
            f"excited {element} {SITE_BASIS}, on other heavy atoms {settings.basis}, "
            f"on H {settings.hydrogen_basis}; density fitting of J ({settings.fitting_basis}); final states from one "
            f"diagonalisation in an augmented basis; transition dipoles <1s|r|f>; level {level}"
        ),
        "level": level,
        "program": f"PySCF {version('pyscf')}",
        "settings_sha256": settings_hash(edge, level),
        "source": "own calculation with equispec",
        "licence": "MIT",
        "citation": "Q. Sun et al., J. Chem. Phys. 153, 024109 (2020) (PySCF); equispec",
    }


def _pyscf_lib() -> Any:
    try:
        from pyscf import lib
    except ImportError:
        raise InputError(
            "labels from first principles need PySCF; install it with: pip install 'equispec[qm]'"
        ) from None
    return lib


class _HalfHole:
    """One molecule with half a 1s electron missing at one atom: in a small basis and a large one.

    The first functions of the large basis are those of the small one, in its order.
    """

    def __init__(self, z: np.ndarray, pos: np.ndarray, atom: int, settings: Level) -> None:
        from pyscf import dft

        self.atom, self.settings = atom, settings
        self.centre = pos[atom] / BOHR
        self.mol = _molecule(z, pos, atom, settings, augmented=False)
        self.large = _small_first(_molecule(z, pos, atom, settings, augmented=True), self.mol)
        self.inner = slice(self.mol.nao)  # the functions of the small basis among those of the large one
        self.core = self.large.intor("int1e_kin") + self.large.intor("int1e_nuc") + effective_core_matrix(self.large)
        self.overlap = self.large.intor("int1e_ovlp")
        of_site, of_heavy, of_hydrogen = settings.grid
        self.grid: Any = dft.gen_grid.Grids(self.mol)
        self.grid.atom_grid = {
            self.mol.atom_symbol(i): of_site if i == atom else of_hydrogen if n == 1 else of_heavy
            for i, n in enumerate(z.tolist())
        }
        self.grid.build()
        self.field = _MeanField(self.mol, self.grid, settings)
        self.occupied = self.mol.nelectron // 2

    def converge(self) -> None:
        """Orbitals of the half-hole state in the small basis."""
        from pyscf import dft

        inner = self.inner, self.inner
        scf: Any = dft.RKS(self.mol, xc=self.settings.functional)
        scf.grids = self.grid
        scf.chkfile = None  # nothing is kept on disk
        scf._chkfile.close()
        scf.conv_tol = self.settings.convergence
        core, overlap = self.core[inner].copy(), self.overlap[inner].copy()
        scf.get_hcore = lambda *_: core
        scf.get_ovlp = lambda *_: overlap
        scf.get_veff = lambda mol, dm, *_, **__: self.field(dm)  # without scf inside: no cycle keeps the arrays
        scf.get_occ = self._occupations
        scf.kernel()
        if not scf.converged:
            scf.level_shift, scf.max_cycle = LEVEL_SHIFT, 100
            scf.kernel(scf.make_rdm1())
        if not scf.converged:
            raise SiteFailed("the self-consistent field did not converge")
        self.core_orbital, self.density, self.energy = scf.mo_coeff[:, 0], scf.make_rdm1(), scf.e_tot

    def _occupations(self, mo_energy: np.ndarray | None = None, mo_coeff: np.ndarray | None = None) -> np.ndarray:
        occupation = np.zeros(self.mol.nao)
        occupation[: self.occupied] = 2.0
        occupation[0] = 1.5
        return occupation

    def transitions(self, ceiling: float, equivalent: tuple[int, ...]) -> SiteSticks:
        """Diagonalise once in the large basis, check, and keep the final states up to `ceiling` eV."""
        energy, orbital = self._large_orbitals()
        with self.large.with_common_orig(self.centre):
            position = self.large.intor("int1e_r")
        dipole = np.einsum("xp,pf->fx", position @ orbital[:, 0], orbital[:, self.occupied :])
        sticks = HARTREE * (energy[self.occupied :] - energy[0])
        population, gap = self._core_population(), HARTREE * (energy[self.occupied] - energy[self.occupied - 1])
        if not (np.isfinite(sticks).all() and np.isfinite(dipole).all()):
            raise SiteFailed("energies or dipoles are not finite")
        if population < LEAST_POPULATION:
            raise SiteFailed(f"the core orbital is not on the atom: population {population:.3f}")
        if gap < LEAST_GAP:
            raise SiteFailed(f"the gap is {gap:.2f} eV, less than {LEAST_GAP} eV")
        kept = sticks <= ceiling
        return SiteSticks(
            atom=self.atom,
            energy=sticks[kept],
            dipole=dipole[kept].astype(np.float32),
            ionization_potential=float(-HARTREE * energy[0]),
            population_1s=population,
            gap=float(gap),
            total_energy=float(HARTREE * self.energy),
            equivalent=equivalent,
        )

    def _large_orbitals(self) -> tuple[np.ndarray, np.ndarray]:
        """Energies (hartree) and coefficients in the large basis for the converged density."""
        fock = self.core + self._coulomb() + self._exchange_correlation()
        value, vector = np.linalg.eigh(self.overlap)
        kept = value > self.settings.smallest_overlap
        orthonormal = vector[:, kept] / np.sqrt(value[kept])
        energy, orbital = np.linalg.eigh(orthonormal.T @ fock @ orthonormal)
        return energy, orthonormal @ orbital

    def _coulomb(self) -> np.ndarray:
        """The repulsion of the fitted density; among functions of the small basis its integrals are there already."""
        from pyscf.df.incore import aux_e2
        from pyscf.lib import unpack_tril

        fitting, fit = self.field.fitting, self.field.fit(self.density)
        added = (self.mol.nbas, self.large.nbas, 0, self.large.nbas)  # rows of the lower triangle, in shells
        rest = sum(
            aux_e2(self.large, fitting, aosym="s2ij", shls_slice=(*added, *shells)) @ fit[functions]
            for shells, functions in _blocks(fitting)
        )
        return unpack_tril(np.concatenate([self.field.coulomb(fit), rest]))

    def _exchange_correlation(self) -> np.ndarray:
        """Values of the small basis are there already; its block is made with the others, not to be made twice."""
        from pyscf.dft import numint

        potential = self.field.potential(self.density)[1]
        matrix = np.zeros((self.large.nao, self.large.nao))
        added = self.mol.nbas, self.large.nbas
        for first in range(0, potential.shape[1], POINTS_AT_ONCE):
            block = slice(first, first + POINTS_AT_ONCE)
            outer = numint.eval_ao(self.large, self.grid.coords[block], deriv=1, shls_slice=added).transpose(0, 2, 1)
            value = np.concatenate([self.field.value[:, :, block], outer], axis=1)
            matrix += value[0] @ _weighted(value, potential[:, block]).T
        return matrix + matrix.T

    def _core_population(self) -> float:
        """Mulliken population of the core orbital on the excited atom."""
        overlap = self.overlap[self.inner, self.inner]
        first, last = self.mol.aoslice_by_atom()[self.atom, 2:]
        return float(self.core_orbital[first:last] @ (overlap @ self.core_orbital)[first:last])


class _MeanField:
    """Coulomb (fitted) and exchange-correlation potential of a density; everything that does not change is kept."""

    def __init__(self, mol: Any, grid: Any, settings: Level) -> None:
        from pyscf import df
        from pyscf.dft import numint
        from scipy.linalg import cho_factor

        self.fitting: Any = df.addons.make_auxmol(mol, settings.fitting_basis)
        self.integrals = df.incore.aux_e2(mol, self.fitting, aosym="s2ij")  # [pairs, fitting]
        self.metric = cho_factor(self.fitting.intor("int2c2e"))
        self.value = numint.eval_ao(mol, grid.coords, deriv=1).transpose(0, 2, 1)  # [4, basis, points]
        self.weight, self.functional, self.numint = grid.weights, settings.functional, numint.NumInt()

    def __call__(self, density: np.ndarray) -> Any:
        """The potential matrix in hartree, tagged with the energies as PySCF's iteration wants them."""
        from pyscf import lib

        coulomb = lib.unpack_tril(self.coulomb(self.fit(density)))
        energy, potential = self.potential(density)
        half = self.value[0] @ _weighted(self.value, potential).T
        total = coulomb + half + half.T
        return lib.tag_array(total, ecoul=0.5 * np.vdot(density, coulomb), exc=energy, vj=coulomb, vk=None)

    def fit(self, density: np.ndarray) -> np.ndarray:
        """Coefficients of the density in the fitting basis."""
        from pyscf import lib
        from scipy.linalg import cho_solve

        return cho_solve(self.metric, lib.pack_tril(2 * density - np.diag(np.diag(density))) @ self.integrals)

    def coulomb(self, fit: np.ndarray) -> np.ndarray:
        """The matrix of the repulsion by a fitted density, its lower triangle packed."""
        return self.integrals @ fit

    def potential(self, density: np.ndarray) -> tuple[float, np.ndarray]:
        """Exchange-correlation energy, and its derivatives [4, points] by density and gradient, weights included.

        The first row is halved: half a matrix is made of it and added to its transpose.
        """
        product = density @ self.value[0]
        rho = np.einsum("xig,ig->xg", self.value, product)
        rho[1:] *= 2
        energy, slope = self.numint.eval_xc_eff(self.functional, rho, deriv=1, xctype="GGA")[:2]
        slope = slope * self.weight
        slope[0] *= 0.5
        return float(np.sum(energy * rho[0] * self.weight)), slope


def _blocks(fitting: Any) -> Iterator[tuple[tuple[int, int], slice]]:
    """Consecutive shells (first, end) of a fitting basis, about FITTING_AT_ONCE functions each, and their functions."""
    offset = fitting.ao_loc
    bounds = np.unique(np.searchsorted(offset, [*range(0, offset[-1], FITTING_AT_ONCE), offset[-1]]))
    for first, end in itertools.pairwise(bounds.tolist()):
        yield (first, end), slice(offset[first], offset[end])


def _weighted(value: np.ndarray, potential: np.ndarray) -> np.ndarray:
    """Σ_x potential_x(point) value_x(function, point), [basis, points]."""
    total = value[0] * potential[0]
    for x in (1, 2, 3):
        total += value[x] * potential[x]
    return total


def _molecule(z: np.ndarray, pos: np.ndarray, atom: int, settings: Level, augmented: bool) -> Any:
    """The PySCF molecule: all electrons on the excited atom and hydrogen, helium-core potentials on the rest."""
    from ase.data import chemical_symbols
    from pyscf import gto

    names = [f"{chemical_symbols[n]}{i}" for i, n in enumerate(z.tolist())]
    basis, cores = {}, {}
    for i, (name, n) in enumerate(zip(names, z.tolist(), strict=True)):
        symbol = chemical_symbols[n]
        if i == atom:
            functions, shells = iglo3(n), site_shells(settings, n)
        elif n == 1:
            functions, shells = gto.basis.load(settings.hydrogen_basis, symbol), settings.hydrogen_shells
        else:
            functions, shells = gto.basis.load(settings.basis, symbol), settings.heavy_shells
            cores[name] = "ccecp"
        basis[name] = functions + (_single(shells) if augmented else [])
    atoms = [(name, tuple(point)) for name, point in zip(names, pos.tolist(), strict=True)]
    return gto.M(atom=atoms, basis=basis, ecp=cores, unit="Angstrom", verbose=0, max_memory=MEMORY)


def _single(shells: Shells) -> list[list[Any]]:
    return [[momentum, [exponent, 1.0]] for momentum, exponents in shells for exponent in exponents]


def _small_first(large: Any, mol: Any) -> Any:
    """The molecule `large` with the shells that `mol` has, too, before all others, in the order of `mol`."""
    left: dict[Any, list[int]] = {}
    for shell in range(large.nbas):
        left.setdefault(_content(large, shell), []).append(shell)
    found = [left[_content(mol, shell)].pop(0) for shell in range(mol.nbas)]
    large._bas = large._bas[found + sorted(shell for shells in left.values() for shell in shells)]
    return large


def _content(mol: Any, shell: int) -> tuple[Any, ...]:
    """What tells a shell from others: atom, angular momentum, exponents, coefficients."""
    coefficients = np.round(mol.bas_ctr_coeff(shell), 10).tobytes()
    return mol.bas_atom(shell), mol.bas_angular(shell), mol.bas_exp(shell).tobytes(), coefficients
