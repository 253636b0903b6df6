"""What the readers of .npz files share."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from equispec.errors import InputError


def load_npz(path: str | Path, names: Mapping[str, Sequence[str]], what: str) -> dict[str, np.ndarray]:
    """Arrays of an .npz file; `names`: our name -> the names that the array may have in the file.

    Raises InputError for a missing or damaged file, and, naming the arrays that are there, for one that lacks an array.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; {what} is needed")
    try:
        with np.load(path, allow_pickle=False) as file:
            known = set(file.files)
            chosen = {name: next((n for n in aliases if n in known), None) for name, aliases in names.items()}
            if missing := [name for name, found in chosen.items() if found is None]:
                wanted = " or ".join(names[missing[0]])
                raise InputError(f"{path}: not {what}: it has no {wanted}, but {', '.join(sorted(known)) or 'nothing'}")
            return {name: file[found] for name, found in chosen.items() if found is not None}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a readable .npz file ({error})") from None


def npz_names(path: str | Path) -> set[str]:
    """Names of the arrays of an .npz file; none for a file of another kind."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return set(file.files)
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile):
        return set()


def check_shape(path: str | Path, arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> None:
    """Raise InputError unless the array has the shape."""
    if arrays[name].shape != shape:
        raise InputError(f"{path}: {name} has the shape {arrays[name].shape}; {shape} is needed")
