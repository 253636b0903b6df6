"""What stores of invented sticks say about them."""

ATTRIBUTES: dict[str, str | float] = {
    "edge": "C-K",
    "energy_shift": -6.6,
    "units": "eV, e·bohr, Å",
    "protocol": "invented for a test",
    "source": "tests",
    "licence": "MIT",
    "citation": "none",
}
