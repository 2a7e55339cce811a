"""SimGrid's quantities: a number and a unit without a slash; bytes and bits differ by the case of the B.

bandwidth   125MBps  1Gbps  10MiBps      bytes/s; bare: bytes/s
time        50us  10ms  1s  2m  3h       s; bare: s
speed       1Gf  98.095Mf                flop/s; bare: flop/s
"""

from __future__ import annotations

import math
import re

from simnet.network.simgrid.tree import Element

_DECIMAL = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {p + "i": 2.0 ** (10 * (i + 1)) for i, p in enumerate("KMGTPE")} | {"ki": 1024.0}
_PREFIX = _DECIMAL | _BINARY
_UNITS = {
    "bandwidth": {p + unit: f * size for p, f in _PREFIX.items() for unit, size in (("Bps", 1.0), ("bps", 0.125))},
    "time": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "ps": 1e-12, "m": 60.0, "h": 3600.0, "d": 86400.0,
             "w": 604800.0},
    "speed": {p + unit: f for p, f in _PREFIX.items() for unit in ("f", "flops")},
}  # fmt: skip
_EXAMPLE = {"bandwidth": "125MBps", "time": "50us", "speed": "1Gf"}
_TEXT = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([A-Za-z]*)\s*")


def _read(element: Element, attribute: str, text: str, kind: str) -> float:
    match = _TEXT.fullmatch(text)
    if match is None or (match[2] and match[2] not in _UNITS[kind]):
        raise element.error(f"{attribute} = {text!r} is no {kind} such as '{_EXAMPLE[kind]}'")
    return float(match[1]) * (_UNITS[kind][match[2]] if match[2] else 1.0)


def bandwidth(element: Element, attribute: str) -> float:
    """An attribute in bytes/s, above 0."""
    value = _read(element, attribute, element.need(attribute), "bandwidth")
    if not 0 < value < math.inf:
        raise element.error(f"{attribute} = {element.get(attribute)!r}: must be above 0 and finite, such as '125MBps'")
    return value


def seconds(element: Element, attribute: str, default: str = "0") -> float:
    """An attribute in s, at least 0."""
    value = _read(element, attribute, element.get(attribute, default), "time")
    if not 0 <= value < math.inf:
        raise element.error(f"{attribute} = {element.get(attribute)!r}: must be at least 0 and finite, such as '50us'")
    return value


def speed(element: Element) -> float:
    """The host's speed in flop/s at its p-state: `speed` lists one for each."""
    listed = [_read(element, "speed", text, "speed") for text in element.need("speed").split(",")]
    try:
        state = int(element.get("pstate", "0"))
        value = listed[state] if state >= 0 else math.nan
    except (ValueError, IndexError):
        value = math.nan
    if math.isnan(value):
        raise element.error(f"pstate = {element.get('pstate')!r}: must be one of 0 .. {len(listed) - 1}")
    if not 0 < value < math.inf:
        raise element.error(f"speed = {element.get('speed')!r}: must be above 0 flop/s, such as '1Gf'")
    return value


def whole_numbers(element: Element, attribute: str, text: str) -> list[int]:
    """A list of whole numbers and ranges: `0-3,7`."""
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise element.error(f"{attribute} = {text!r}: must be numbers and ranges such as '0-3,7'")
        numbers.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
    return numbers
