"""What is installed, what it can run on, and what is missing: the recipe behind `equispec doctor`."""

import importlib.metadata
import os
import platform
from dataclasses import dataclass

import torch

from equispec import __version__
from equispec.predict import shipped_models

CORE = ("torch", "numpy", "ase", "vesin", "h5py", "safetensors", "pydantic", "matplotlib", "typer")
# distribution -> what it is for, and the extra that brings it
EXTRAS = {
    "rdkit": ("structures from SMILES, scaffold splits", "chem"),
    "lightning": ("training", "train"),
    "tensorboard": ("watching a training run", "train"),
    "pyscf": ("core-level labels from first principles", "qm"),
    "tblite": ("GFN2-xTB labels and relaxed structures", "qm"),
    "distributed": ("labelling on many cores and machines", "cluster"),
}


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, what was found, and whether that is as it should be."""

    name: str
    found: str
    ok: bool


def diagnose() -> list[Finding]:
    """Versions, torch build, devices, shipped models, and the optional packages with how to get them."""
    findings = [
        Finding("equispec", __version__, True),
        Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}", True),
    ]
    findings += [_distribution(name, "pip install --force-reinstall equispec") for name in CORE]
    findings += [_devices(), Finding("threads", f"{torch.get_num_threads()} of {os.cpu_count()} cores", True)]
    models = ", ".join(shipped_models())
    findings.append(Finding("shipped models", models or "none: reinstall equispec", bool(models)))
    for name, (purpose, extra) in EXTRAS.items():
        findings.append(_distribution(name, f"pip install 'equispec[{extra}]'", f" (needed for {purpose})"))
    return findings


def _distribution(name: str, remedy: str, purpose: str = "") -> Finding:
    try:
        return Finding(name, importlib.metadata.version(name), True)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, f"missing{purpose}; get it with: {remedy}", False)


def _devices() -> Finding:
    names = ["cpu"]
    if torch.cuda.is_available():
        names += [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    build = torch.version.cuda or torch.version.hip or "CPU only"
    return Finding("devices", f"{', '.join(names)} (torch build: {build})", True)
