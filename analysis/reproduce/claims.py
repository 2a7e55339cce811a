"""A claim, what was expected, what was measured, and whether it holds by its stated rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

Say = Callable[[str], None]


@dataclass(frozen=True)
class Claim:
    """One line of a reproduction's table; `holds` is computed from the rule that `expected` states."""

    claim: str
    expected: str
    measured: str
    holds: bool
    condition: str = ""  # where the claim holds under conditions only: which

    @property
    def verdict(self) -> str:
        """`pass` or `fail`."""
        return "pass" if self.holds else "fail"

    def plain(self) -> dict[str, str]:
        """The claim for JSON."""
        rest = {"condition": self.condition} if self.condition else {}
        return {
            "claim": self.claim,
            "expected": self.expected,
            "measured": self.measured,
            "verdict": self.verdict,
            **rest,
        }


@dataclass(frozen=True)
class Result:
    """What an experiment found: claims, and numbers (plain lists and dicts) that its figure is drawn from."""

    claims: list[Claim]
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """One experiment of a system.

    `run(quick, say)` does the work, telling `say` how far it is; quick means fewer settings and claims, never fewer
    seeds or looser rules. `draw(figure, data)` fills an empty figure. `quick=False`: left out of a quick reproduction.
    """

    name: str
    title: str
    run: Callable[[bool, Say], Result]
    draw: Callable[[Figure, dict[str, Any]], None] | None = None
    quick: bool = True


# ---- rules ---------------------------------------------------------------------------------------------------------


def near(claim: str, expected: float, measured: float, rel: float, condition: str = "") -> Claim:
    """|measured - expected| <= rel x |expected|."""
    holds = math.isfinite(measured) and abs(measured - expected) <= rel * abs(expected)
    return Claim(claim, f"{_n(expected)} within {_percent(rel)}", _n(measured), holds, condition)


def exact(claim: str, difference: float, at_most: float, condition: str = "") -> Claim:
    """A difference that should vanish stays at most a bound."""
    return Claim(claim, f"0 to {at_most:.0e}", f"{difference:.1e}", difference <= at_most, condition)


def below(claim: str, bound: float, measured: float, condition: str = "") -> Claim:
    """measured < bound."""
    return Claim(claim, f"below {_n(bound)}", _n(measured), measured < bound, condition)


def above(claim: str, bound: float, measured: float, condition: str = "") -> Claim:
    """measured > bound."""
    return Claim(claim, f"above {_n(bound)}", _n(measured), measured > bound, condition)


def between(claim: str, low: float, high: float, measured: float, condition: str = "") -> Claim:
    """low <= measured <= high."""
    return Claim(claim, f"{_n(low)} to {_n(high)}", _n(measured), low <= measured <= high, condition)


def rising(claim: str, values: Mapping[str, float], condition: str = "") -> Claim:
    """The values rise strictly in the order given."""
    numbers = list(values.values())
    holds = all(a < b for a, b in zip(numbers[:-1], numbers[1:], strict=True))
    return Claim(
        claim, " < ".join(values), ", ".join(f"{name} {_n(v)}" for name, v in values.items()), holds, condition
    )


def all_near(claim: str, pairs: Mapping[str, tuple[float, float]], rel: float, condition: str = "") -> Claim:
    """Each (expected, measured) within `rel`; the worst is shown."""
    errors = {name: abs(m - e) / abs(e) if math.isfinite(m) else math.inf for name, (e, m) in pairs.items()}
    worst = max(errors, key=errors.__getitem__)
    return Claim(
        claim, f"{len(pairs)} numbers within {_percent(rel)}",
        f"worst {_percent(errors[worst])} ({worst}: {_n(pairs[worst][1])} for {_n(pairs[worst][0])})",
        errors[worst] <= rel, condition,
    )  # fmt: skip


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return sum(values) / len(values)


def std(values: Sequence[float]) -> float:
    """The standard deviation of a sample (n - 1)."""
    centre = mean(values)
    return math.sqrt(sum((v - centre) ** 2 for v in values) / max(1, len(values) - 1))


def _n(value: float) -> str:
    return f"{value:.4g}"


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"
