"""Quantities with units: text to SI numbers and back.

    quantity("10 Mbit/s", "bytes/s")   1250000.0
    quantity("20 ms", "s")             0.02
    human(1250000.0, "bytes/s")        "10 Mbit/s"

A bare number is SI: seconds, bytes, bytes/s, flop, flop/s, or a fraction of one. Prefixes keep their case, since
Mbit, MB and MiB differ and m is not M.
"""

from __future__ import annotations

import math
import re
from typing import Literal

from simnet.errors import UnitError, nearest

Dimension = Literal["s", "bytes", "bytes/s", "flop/s", "flop", "fraction"]

_DECIMAL = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}


def _units() -> dict[str, dict[str, float]]:
    """Every unit by dimension, each with the SI value of one of it."""
    seconds = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
    seconds |= {"min": 60.0, "h": 3600.0, "d": 86400.0}
    size: dict[str, float] = {"byte": 1.0, "bytes": 1.0, "bits": 0.125}
    for prefix, factor in (_DECIMAL | _BINARY).items():
        size[prefix + "B"] = float(factor)
        size[prefix + "bit"] = factor / 8
    flop = {p + word: float(f) for p, f in _DECIMAL.items() for word in ("FLOP", "flop", "Flop")}
    return {
        "s": seconds,
        "bytes": size,
        "bytes/s": {f"{unit}/s": value for unit, value in size.items()},
        "flop": flop,
        "flop/s": {f"{unit}/s": value for unit, value in flop.items()},
        "fraction": {"%": 0.01, "percent": 0.01},
    }


UNITS = _units()

_WHAT = {
    "s": ("a duration in seconds", "20 ms"),
    "bytes": ("a size in bytes", "10 MB"),
    "bytes/s": ("a bandwidth in bytes/s", "100 Mbit/s"),
    "flop": ("an amount of arithmetic in FLOP", "5 MFLOP"),
    "flop/s": ("a speed in FLOP/s", "10 GFLOP/s"),
    "fraction": ("a fraction of one", "1 %"),
}
_KIND = {
    "s": "a duration",
    "bytes": "a size",
    "bytes/s": "a bandwidth",
    "flop": "an amount of arithmetic",
    "flop/s": "a speed of arithmetic",
    "fraction": "a fraction",
}
_HABITS = {
    "bps": "bit/s",
    "Bps": "B/s",
    "FLOPS": "FLOP/s",
    "flops": "flop/s",
    "sec": "s",
    "seconds": "s",
    "second": "s",
}
_TEXT = re.compile(r"\s*([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?\.?inf)\s*(.*?)\s*")


def quantity(value: str | int | float, dimension: Dimension) -> float:
    """The SI number that `value` stands for.

    Raises UnitError for text that is no number with a unit of `dimension`, and for NaN.

    >>> quantity("10 Mbit/s", "bytes/s"), quantity("1 MiB", "bytes"), quantity("1 %", "fraction")
    (1250000.0, 1048576.0, 0.01)
    """
    if isinstance(value, str):
        return _parse(value, dimension)
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise _refusal(value, "is not a quantity", dimension)
    return float(value)


def _refusal(value: object, why: str, dimension: Dimension) -> UnitError:
    what, example = _WHAT[dimension]
    stop = "" if why.endswith("?") else "."
    bare = _plain(quantity(example, dimension))
    return UnitError(f"{value!r} {why}{stop} Expected {what}, such as '{example}' or the bare number {bare}")


def _parse(text: str, dimension: Dimension) -> float:
    match = _TEXT.fullmatch(text)
    if match is None:
        raise _refusal(text, "does not begin with a number", dimension)
    number, unit = float(match[1].replace("_", "").replace(".inf", "inf")), " ".join(match[2].split())
    unit = re.sub(r"\s*/\s*", "/", unit)
    if not unit:
        return number
    factor = UNITS[dimension].get(unit)
    if factor is not None:
        # Dividing by a whole number is exact where multiplying by 0.001 is not: 20 ms is 20 / 1000.
        return number / round(1 / factor) if factor < 1 else number * factor
    raise _refusal(text, _wrong(unit, dimension), dimension)


def _wrong(unit: str, dimension: Dimension) -> str:
    """Says what is the matter with a unit that `dimension` does not know."""
    for other, units in UNITS.items():
        if unit in units:
            return f"is {_KIND[other]}"
    for habit, ours in _HABITS.items():
        if unit.endswith(habit) and (said := unit[: -len(habit)] + ours) in UNITS[dimension]:
            return f"has the unknown unit {unit!r}; did you mean {said!r}?"
    same = [known for known in UNITS[dimension] if known.lower() == unit.lower()]
    if len(same) > 1:
        return f"has the unknown unit {unit!r}: {' and '.join(map(repr, same))} differ"
    return f"has the unknown unit {unit!r}{nearest(unit, same or UNITS[dimension])}"


def _plain(number: float) -> str:
    """A number as short as it is exact: 20, 0.02, 1.25e7."""
    return f"{number:.6g}".replace("e+0", "e").replace("e+", "e")


def human(value: float, dimension: Dimension) -> str:
    """`value` with the unit that a person would choose, to four digits.

    >>> human(0.02, "s"), human(1.25e7, "bytes/s"), human(3_400_000, "bytes"), human(0.01, "fraction")
    ('20 ms', '100 Mbit/s', '3.4 MB', '1 %')
    """
    if not math.isfinite(value):
        return str(value)
    if dimension == "fraction":
        return f"{100 * value:.4g} %"
    if dimension == "s":
        return _human_seconds(value)
    number, unit = {
        "bytes": (value, "B"),
        "bytes/s": (8 * value, "bit/s"),
        "flop": (value, "FLOP"),
        "flop/s": (value, "FLOP/s"),
    }[dimension]
    prefix = next((p for p, f in reversed(_DECIMAL.items()) if abs(number) >= 0.99995 * f), "")
    return f"{_plain(float(f'{number / _DECIMAL[prefix]:.4g}'))} {prefix}{unit}"


def _human_seconds(value: float) -> str:
    size = abs(value)
    if size >= 119.5:
        minutes, seconds = divmod(round(size), 60)
        hours, minutes = divmod(minutes, 60)
        text = f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
        return f"-{text}" if value < 0 else text
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if size * scale >= 0.99995:
            return f"{value * scale:.4g} {unit}"
    return f"{value * 1e9:.4g} ns" if value else "0 s"
