"""The errors and warnings that equispec raises.

EquispecError
├── InputError        something the user gave is wrong: file, option, config, checkpoint   (exit code 2)
│   └── ConfigError   a configuration has an unknown key or a forbidden value              (exit code 2)
└── DomainError       the question lies outside what the model has learned (--strict)       (exit code 3)
EquispecWarning       base of all warnings that equispec gives on purpose
├── DomainWarning     the same as DomainError, as a warning
└── DataWarning       reference data are incomplete, or used in a way that they do not allow for

Every message is one sentence that names what is wrong, where, and what is allowed.
"""


class EquispecError(Exception):
    """Base of all errors that equispec raises on purpose."""

    exit_code = 2


class InputError(EquispecError):
    """Something the user gave cannot be used: a file, an option, a structure, a checkpoint."""


class ConfigError(InputError):
    """A configuration has an unknown key or a value that is not allowed."""


class DomainError(EquispecError):
    """The structure lies outside the domain the model was trained for."""

    exit_code = 3


class EquispecWarning(UserWarning):
    """Base of all warnings that equispec gives on purpose."""


class DomainWarning(EquispecWarning):
    """The structure lies outside the domain the model was trained for; the numbers are an extrapolation."""


class DataWarning(EquispecWarning):
    """Reference data are incomplete, or used in a way that they do not allow for."""
