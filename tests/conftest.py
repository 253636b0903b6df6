"""Shared fixtures. jaxtyping annotations in equispec are checked by beartype throughout the test run."""

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from jaxtyping import install_import_hook

install_import_hook("equispec", "beartype.beartype")

import pytest
import torch

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the checkout; the test is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the reference data folder {SHARED.name}/ beside the checkout")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small tensors gain nothing from threads, and parallel test workers would fight for the cores."""
    torch.set_num_threads(1)


@pytest.fixture
def room() -> Callable[[int], AbstractContextManager[None]]:
    """`with room(n)`: no file grows beyond n bytes. Such a limit does what a full disk does."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
