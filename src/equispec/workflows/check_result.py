"""What a check of a model says, and the movements that checks of spectra and of properties share."""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

EXACT = 1e-10  # of the largest value: what is equal by construction differs by rounding only
SMOOTH = 1e-8  # of the largest value; a jump or a kink shows far above, curvature below
STEP = 1e-5  # Å, about the cutoff
SHIFT = (7.3, -11.2, 23.7)  # Å, somewhere else

Verdict = Literal["pass", "fail", "info"]


@dataclass(frozen=True)
class CheckResult:
    """One check: what was measured and what is allowed, in numbers and in words.

    `measured` must be at most `limit`, or at least with `at_least`; `limit` is None where nothing is promised and the
    verdict is "info". `text` is a sentence for people.
    """

    name: str
    measured: float
    limit: float | None
    verdict: Verdict
    text: str
    at_least: bool = False

    @property
    def row(self) -> tuple[str, str, str, str, str]:
        """Name, verdict, measured value, limit and sentence, for a table."""
        limit = "" if self.limit is None else f"{'≥' if self.at_least else '≤'} {self.limit:.0e}"
        return self.name, self.verdict, f"{self.measured:.1e}", limit, self.text


def judged(name: str, measured: float, limit: float, text: str, at_least: bool = False) -> CheckResult:
    """A promise, kept or broken; a measure that is not a number breaks it."""
    measured = _finite(measured, -1 if at_least else 1)
    if measured >= limit if at_least else measured <= limit:
        return CheckResult(name, measured, limit, "pass", text, at_least)
    return CheckResult(name, measured, limit, "fail", f"{text[:-1]}: the model breaks this rule.", at_least)


def differing(name: str, differences: Mapping[str, float], sentence: str, limit: float = EXACT) -> CheckResult:
    """A promise about several properties, whose `differences` are in units of their largest values.

    `sentence` ends where the measured figure follows. Named is the property that differs most, or all that break it.
    """
    worst = max(differences, key=lambda key: differences[key])
    broken = [key for key, difference in differences.items() if not difference <= limit]
    named = ", ".join(broken or [worst])
    text = f"{sentence} {short(differences[worst])} of the largest value ({named})."
    return judged(name, differences[worst], limit, text)


def told(name: str, measured: float, text: str) -> CheckResult:
    """A measure of what is not promised."""
    return CheckResult(name, _finite(measured), None, "info", text)


def _finite(measured: float, sign: int = 1) -> float:
    """JSON knows no other numbers."""
    return measured if math.isfinite(measured) else sign * sys.float_info.max


def short(value: float) -> str:
    """A number for a sentence."""
    return f"{value:.0e}" if value else "0"


def rotation(seed: int) -> Float[np.ndarray, "3 3"]:
    """A proper rotation about an arbitrary axis."""
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return q * np.linalg.det(q)


def mirror() -> Float[np.ndarray, "3 3"]:
    """Reflection in a plane of no special orientation."""
    normal = np.array([0.48, -0.6, 0.64])
    return np.eye(3) - 2 * np.outer(normal, normal)
