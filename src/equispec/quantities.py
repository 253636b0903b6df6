"""The table of physical quantities: name -> unit, scope, shape and behaviour under rotation and inversion.

It drives shape checks, the equivariance test of every output, column headers and the `units` block of a model folder.
Adding a property to equispec starts with a row here.
"""

from dataclasses import dataclass
from typing import Literal

Scope = Literal["atom", "system", "site"]  # a site is an absorbing atom: a subset of the atoms, in their order


@dataclass(frozen=True)
class Quantity:
    """One physical quantity.

    `shape` lists the axes after the scope axis; the last `rank` of them are Cartesian and rotate.
    `parity` is the sign picked up under inversion of the structure (polar vector: -1, dyad of two polar vectors: +1).
    """

    name: str
    unit: str
    scope: Scope
    shape: tuple[str, ...]
    rank: int
    parity: Literal[1, -1]
    description: str


QUANTITIES: dict[str, Quantity] = {
    q.name: q
    for q in (
        Quantity("energy", "eV", "system", (), 0, 1, "potential energy"),
        Quantity("forces", "eV/Å", "atom", ("3",), 1, -1, "negative gradient of the energy"),
        Quantity("stress", "eV/Å³", "system", ("3", "3"), 2, 1, "derivative of the energy by strain, per volume"),
        Quantity("dipole", "e·Å", "system", ("3",), 1, -1, "electric dipole moment"),
        Quantity("charges", "e", "atom", (), 0, 1, "partial charges"),
        Quantity("polarizability", "Å³", "system", ("3", "3"), 2, 1, "static dipole polarizability"),
        Quantity("dipole_magnitude", "e·Å", "system", (), 0, 1, "length of the electric dipole moment"),
        Quantity("isotropic_polarizability", "Å³", "system", (), 0, 1, "a third of the trace of the polarizability"),
        Quantity("spatial_extent", "Å²", "system", (), 0, 1, "electronic spatial extent <R²> about the centre of mass"),
        Quantity("homo", "eV", "system", (), 0, 1, "energy of the highest occupied orbital"),
        Quantity("lumo", "eV", "system", (), 0, 1, "energy of the lowest empty orbital"),
        Quantity("gap", "eV", "system", (), 0, 1, "energy of the lowest empty less the highest occupied orbital"),
        Quantity("zero_point_energy", "eV", "system", (), 0, 1, "zero-point vibrational energy"),
        Quantity("internal_energy_0K", "eV", "system", (), 0, 1, "internal energy at 0 K, zero-point energy included"),
        Quantity("internal_energy", "eV", "system", (), 0, 1, "internal energy at 298.15 K"),
        Quantity("enthalpy", "eV", "system", (), 0, 1, "enthalpy at 298.15 K"),
        Quantity("gibbs_energy", "eV", "system", (), 0, 1, "free energy (Gibbs) at 298.15 K"),
        Quantity("heat_capacity", "eV/K", "system", (), 0, 1, "heat capacity at constant volume and 298.15 K"),
        Quantity("adsorption_energy", "eV", "system", (), 0, 1, "energy of adsorption, of the relaxed structure"),
        Quantity("absorption", "1/eV", "site", ("energy",), 0, 1, "absorption for the given direction, S(E; n)"),
        Quantity("absorption_tensor", "1/eV", "site", ("energy", "3", "3"), 2, 1, "T(E), with S(E; n) = nᵀ T(E) n"),
    )
}
