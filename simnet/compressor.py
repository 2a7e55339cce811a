"""Compressors: what a vector becomes on the wire, and how many bits that takes.

    @dataclass(frozen=True)
    class RandK(Compressor):
        k: int = 10

        def draws(self, d: int) -> tuple[Draw, ...]:
            return (Draw("uniform"),)

        @rowwise
        def compress(self, v: Tensor, u: Tensor) -> Tensor:
            kept = torch.topk(u, self.k, dim=-1).indices
            return torch.zeros_like(v).scatter(-1, kept, v.gather(-1, kept))

        def wire_bits(self, d: int) -> int:
            return 32 * self.k + 64

A program writes `m = node.compress(self.compressor, x)`: `m` is a Value that knows its size, and `gossip`, `exchange`
and `send` charge that size. Nothing random happens inside `compress`; what it needs is drawn from the counter-based
streams and handed in. Draws of a single number (`coin`, `count`) are known when the program is recorded, so sizes that
depend on them are known before the message travels. Numbers on the wire are float32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np

from simnet import streams
from simnet.graph import rowwise as rowwise  # re-exported for authors of compressors
from simnet.network.fate import binomial

if TYPE_CHECKING:
    from torch import Tensor

Bits = int | np.ndarray


@dataclass(frozen=True)
class Draw:
    """Random numbers that a call of `compress` is given.

    `uniform` on [0, 1), `normal`, `sign` (+-1): one number for each coordinate. `coin`: 1 with probability p, else 0;
    `count`: Binomial(d, p): one number for the whole vector, which `wire_bits` is given too.
    """

    law: Literal["uniform", "normal", "sign", "coin", "count"]
    p: float = 0.5

    @property
    def single(self) -> bool:
        """Whether it is one number for the whole vector."""
        return self.law in ("coin", "count")


class Compressor(ABC):
    """C(v), as algorithms that send vectors use it.

    `unbiased`: E C(v) = v. `by_value`: the size depends on the compressed vector, so `wire_bits` and `index_bits` are
    also given that, as `value`, and runs go node by node; without it they give a bound, which estimates use.
    """

    unbiased: ClassVar[bool] = False
    by_value: ClassVar[bool] = False

    def draws(self, d: int) -> tuple[Draw, ...]:
        """What `compress` is given besides the vector, for vectors of d numbers."""
        return ()

    @abstractmethod
    def compress(self, v: Tensor, *draws: Tensor) -> Tensor:
        """What the receiver makes of the message: shape of v. Written along the last axis and marked `@rowwise`, many
        nodes' vectors are one call.
        """

    @abstractmethod
    def wire_bits(self, d: int, *single: Any, value: Any = None) -> Bits:
        """Bits of a message, norms and indices included; `single` are the draws of one number, as arrays."""

    def index_bits(self, d: int, *single: Any, value: Any = None) -> Bits:
        """Of those, bits of indices and bitmaps."""
        return 0

    def nominal_bits(self, d: int, *single: Any) -> float | np.ndarray:
        """What the papers count; by default the bits on the wire."""
        return self.wire_bits(d, *single)

    def omega(self, d: int) -> float | None:
        """The largest known omega in (0, 1] with E|C(v) - v|^2 <= (1 - omega)|v|^2 for all v; None: no contraction."""
        return None

    def check(self, d: int) -> None:  # noqa: B027 - not every compressor has something to check
        """Raises an InputError where the parameters do not fit vectors of d numbers."""


class Wire(NamedTuple):
    """What a compressed Value takes on the wire, for all hosts or as arrays over hosts. Where `compressor` is given
    the size depends on the compressed vector: `bits` and `index_bits` are bounds, and the compressor finds the size
    from the vector and its `single` draws.
    """

    bits: Bits
    index_bits: Bits
    nominal_bits: float | np.ndarray
    compressor: Compressor | None = None  # where the size depends on the compressed vector
    single: tuple[np.ndarray, ...] = ()


def one_number(draw: Draw, d: int, keys_n: np.ndarray) -> np.ndarray:
    """A draw of a single number under each key, float64 (n,)."""
    if draw.law == "coin":
        return (streams.uniform(keys_n, 1)[:, 0] < draw.p).astype(np.float64)
    count = np.full(len(keys_n), d, np.int64)
    return binomial(count, np.full(len(keys_n), draw.p), keys_n, 0).astype(np.float64)
