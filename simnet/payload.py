"""The size of messages: an int of bytes that also knows what part of it is indices, and what a paper would count.

`Payload` is one size for every message of an exchange, and counts as the int that it is. `Payloads` has one for each
edge, where compressors draw sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class Payload(int):
    """Bytes of one message without its header."""

    index: int  # of them, bytes of indices and bitmaps
    nominal_bits: float  # the papers' count
    named: Mapping[str, int]  # bytes of each of the variables in it, where the program names them

    def __new__(cls, bytes: int, index: int = 0, nominal_bits: float | None = None) -> Payload:
        self = super().__new__(cls, bytes)
        self.index, self.nominal_bits = index, 8 * bytes if nominal_bits is None else nominal_bits
        self.named = {}
        return self


class Payloads(np.ndarray):
    """Bytes of the message on each edge, int64 (E,), with `index` (E,) and `nominal_bits` (E,) beside them."""

    index: np.ndarray
    nominal_bits: np.ndarray

    @classmethod
    def of(cls, bytes_E: np.ndarray, index_E: np.ndarray, nominal_bits_E: np.ndarray) -> Payloads:
        """The sizes of an exchange's messages, edge by edge."""
        self = np.asarray(bytes_E, np.int64).copy().view(cls)
        self.index, self.nominal_bits = np.asarray(index_E, np.int64), np.asarray(nominal_bits_E, np.float64)
        return self


class Sizes(NamedTuple):
    """What one node's message takes, for all hosts or as arrays over hosts; where some of it depends on compressed
    vectors (`by_value`), that part is a bound, and found when the node sends.
    """

    bits: int | np.ndarray
    index_bits: int | np.ndarray
    nominal_bits: float | np.ndarray
    by_value: bool
    named: Mapping[str, int] = {}

    def at(self, source_E: np.ndarray) -> Payload | Payloads:
        """The sizes of messages from these hosts."""
        whole, index = -(-self.bits // 8), -(-self.index_bits // 8)
        if not self.by_value and not any(isinstance(v, np.ndarray) for v in (whole, index, self.nominal_bits)):
            payload = Payload(int(whole), int(index), float(self.nominal_bits))
            payload.named = self.named
            return payload
        return Payloads.of(*(
            v[source_E] if isinstance(v, np.ndarray) else np.full(len(source_E), v)
            for v in (whole, index, self.nominal_bits)
        ))  # fmt: skip


def sizes_of(plain_bytes: int, wires: Sequence[Any]) -> Sizes:
    """The size of a message of plain numbers and compressed Values together, in whole bytes."""
    bits, index, nominal = 8 * plain_bytes, 0, 8.0 * plain_bytes
    for wire in wires:
        bits, index, nominal = bits + wire.bits, index + wire.index_bits, nominal + wire.nominal_bits
    return Sizes(bits, index, nominal, any(wire.compressor is not None for wire in wires))


def named_bytes(payload: Any) -> Mapping[str, int]:
    """Bytes of each variable that the program has named; nothing where it has not."""
    return getattr(payload, "named", None) or {}


def index_part(payload: Any) -> Any:
    """The bytes of indices in a payload, of which a plain int has none."""
    return getattr(payload, "index", 0)


def nominal_bits(payload: Any) -> Any:
    """What the papers count of a payload; of a plain int, its bits."""
    return payload.nominal_bits if isinstance(payload, Payload | Payloads) else 8 * payload
