"""Core-electron excitation spectra and tensorial molecular properties from equivariant message-passing networks."""

__version__ = "0.1.0"
