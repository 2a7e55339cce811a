"""Compressors of gossip: what is kept of a vector, and the bits that takes.

Omega is that of E|C(x) - x|^2 <= (1 - omega)|x|^2 (Koloskova, Stich and Jaggi, ICML 2019). Bits count float32 numbers,
norms, indices and bitmaps; `nominal_bits` is what the papers' figures count. d: numbers of a vector, lg = ceil(log2 d).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from simnet.compressor import Bits, Compressor, Draw, rowwise
from simnet.errors import ScenarioError
from simnet.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def _probability(p: float) -> None:
    if not 0 < p <= 1:
        raise ScenarioError("a probability above 0 and at most 1", field="p", value=p)


@dataclass(frozen=True)
class Identity(Compressor):
    """Everything is sent: 32 d bits."""

    unbiased: ClassVar[bool] = True

    @rowwise
    def compress(self, v: Tensor) -> Tensor:
        return v.clone()

    def wire_bits(self, d: int, *single: Any, value: Any = None) -> Bits:
        return 32 * d

    def omega(self, d: int) -> float:
        return 1.0


@dataclass(frozen=True)
class _Kept(Compressor):
    """Some coordinates are kept: `k` of them, or `fraction` of all (then k = max(1, round(fraction d)))."""

    k: int | None = None
    fraction: float | None = None

    def __post_init__(self) -> None:
        if (self.k is None) == (self.fraction is None):
            raise ScenarioError(
                f"{type(self).__name__} keeps `k` coordinates or a `fraction` of them: give one, such as fraction: 0.1"
            )
        if self.k is not None and self.k < 1:
            raise ScenarioError("keep at least 1 coordinate", field="k", value=self.k)
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise ScenarioError("above 0 and at most 1", field="fraction", value=self.fraction)

    def kept(self, d: int) -> int:
        """How many coordinates of d are kept."""
        if self.k is not None:
            return self.k
        assert self.fraction is not None
        return max(1, math.floor(self.fraction * d + 0.5))

    def check(self, d: int) -> None:
        if self.kept(d) > d:
            raise ScenarioError(f"the vectors have {d} numbers: keep at most {d}", field="k", value=self.k)

    def nominal_bits(self, d: int, *single: Any) -> float:
        return 32.0 * self.kept(d)

    def omega(self, d: int) -> float:
        return self.kept(d) / d


@dataclass(frozen=True)
class TopK(_Kept):
    """The k entries largest in absolute value (ties: the lowest index), the rest zero. Omega at least k/d.

    Bits: k (32 + lg), or 32 k + d with a bitmap, whichever is less.
    """

    @rowwise
    def compress(self, v: Tensor) -> Tensor:
        k, size = self.kept(v.shape[-1]), v.abs()
        least = torch.topk(size, k, dim=-1, sorted=False).values.amin(-1, keepdim=True)
        above, tied = ~(size <= least), size == least  # what is no number counts as above, and stays to be seen
        free = k - above.sum(-1, keepdim=True)
        return torch.where(above | (tied & (tied.cumsum(-1) <= free)), v, torch.zeros_like(v))

    def wire_bits(self, d: int, *single: Any, value: Any = None) -> Bits:
        return 32 * self.kept(d) + self.index_bits(d)

    def index_bits(self, d: int, *single: Any, value: Any = None) -> int:
        return min(self.kept(d) * math.ceil(math.log2(d)) if d > 1 else 0, d)


@dataclass(frozen=True)
class RandK(_Kept):
    """k coordinates drawn uniformly, unscaled. Omega = k/d, with equality. Bits: 32 k + 64: the seed is shared."""

    def draws(self, d: int) -> tuple[Draw, ...]:
        return (Draw("uniform"),)

    @rowwise
    def compress(self, v: Tensor, u: Tensor) -> Tensor:
        kept = torch.topk(u, self.kept(v.shape[-1]), dim=-1).indices
        return torch.zeros_like(v).scatter(-1, kept, v.gather(-1, kept))

    def wire_bits(self, d: int, *single: Any, value: Any = None) -> Bits:
        return 32 * self.kept(d) + 64

    def index_bits(self, d: int, *single: Any, value: Any = None) -> int:
        return 64


@dataclass(frozen=True)
class QSGD(Compressor):
    """Random rounding to `levels` s of |x|: (1/tau) sign(x_j) (|x|/s) floor(s |x_j|/|x| + u_j), u uniform on [0, 1).

    tau = 1 + min(d/s^2, sqrt(d)/s) (Alistarh et al., NeurIPS 2017), omega = 1/tau. Bits: 32 for the norm and
    ceil(log2(2s + 1)) an entry; s = 2^(b-1) - 1 takes exactly b bits an entry (s = 7: 4 bits).
    """

    levels: int

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise ScenarioError("at least 1, such as 7 (4 bits an entry)", field="levels", value=self.levels)

    def draws(self, d: int) -> tuple[Draw, ...]:
        return (Draw("uniform"),)

    def tau(self, d: int) -> float:
        """1 plus the variance bound of the unscaled rounding."""
        return 1.0 + min(d / self.levels**2, math.sqrt(d) / self.levels)

    @rowwise
    def compress(self, v: Tensor, u: Tensor) -> Tensor:
        return self._rounded(v, u, self.tau(v.shape[-1]))

    def _rounded(self, v: Tensor, u: Tensor, scale: float) -> Tensor:
        """The rounded vector over `scale`, a whole number of steps |v| / (s scale) in each entry."""
        norm = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
        unit = v.abs() / torch.where(norm > 0, norm, torch.ones_like(norm))
        return torch.copysign(torch.floor(self.levels * unit + u), v) * (norm / (self.levels * scale))

    def wire_bits(self, d: int, *single: Any, value: Any = None) -> Bits:
        return 32 + d * self._bits

    def nominal_bits(self, d: int, *single: Any) -> float:
        return float(d * self._bits)

    @property
    def _bits(self) -> int:
        return math.ceil(math.log2(2 * self.levels + 1))

    def omega(self, d: int) -> float | None:
        return 1.0 / self.tau(d)


@dataclass(frozen=True)
class UnbiasedQSGD(QSGD):
    """QSGD without 1/tau: E C(x) = x, E|C(x) - x|^2 <= (tau - 1)|x|^2, so a contraction only where tau < 2."""

    unbiased: ClassVar[bool] = True

    @rowwise
    def compress(self, v: Tensor, u: Tensor) -> Tensor:
        return self._rounded(v, u, 1.0)

    def omega(self, d: int) -> float | None:
        tau = self.tau(d)
        return 2.0 - tau if tau < 2.0 else None


@dataclass(frozen=True)
class EliasQSGD(QSGD):
    """QSGD with entropy-coded levels: a message is as long as its levels ask, by Elias' omega code (IEEE Trans. Inf.
    Theory 21, 1975) of each level plus one, a sign bit where that is above 1, and the norm.

    The levels are read from the vector itself: a factor that all of them share is sent with the norm. The size depends
    on the vector, so runs go node by node; an estimate uses the length of the fixed code, which is longer as long as
    most levels are small.
    """

    by_value: ClassVar[bool] = True

    def wire_bits(self, d: int, *single: Any, value: Any = None) -> Bits:
        if value is None:
            return super().wire_bits(d)
        number, times = torch.unique(whole_levels(value, self.levels), return_counts=True)
        return 32 + sum(
            count * (elias_omega_bits(level + 1) + (level > 0))
            for level, count in zip(number.tolist(), times.tolist(), strict=True)
        )


def whole_levels(value: Tensor, most: int) -> Tensor:
    """|value| in whole steps, int64 (d,): the entries are whole multiples of one step, none above `most` of it, and the
    largest such step is taken.

    >>> whole_levels(torch.tensor([0.0, -0.5, 0.75]), 7).tolist()
    [0, 2, 3]
    """
    size = value.abs()
    if not bool((size > 0).any()):
        return torch.zeros_like(size, dtype=torch.int64)
    ratio, most_off = size / size[size > 0].min(), 16 * torch.finfo(size.dtype).eps
    multiple = next((m for m in range(1, most + 1) if _off(m * ratio) <= most_off), 1)
    return torch.round(multiple * ratio).to(torch.int64)


def _off(number: Tensor) -> float:
    """How far the numbers are from whole ones, in parts of the largest: 1/s^2 at least where they are not whole."""
    return float((number - torch.round(number)).abs().max() / number.max())


def elias_omega_bits(number: int) -> int:
    """Bits of the Elias omega code of a whole number from 1 on.

    >>> [elias_omega_bits(k) for k in (1, 2, 3, 4, 8, 16)]
    [1, 3, 3, 6, 7, 11]
    """
    bits = 1
    while number > 1:
        length = number.bit_length()
        bits, number = bits + length, length - 1
    return bits


@dataclass(frozen=True)
class Sign(Compressor):
    """(|x|_1 / d) sign(x): 32 + d bits. Omega = |x|_1^2 / (d |x|^2), at least 1/d; 2/pi for normal entries."""

    @rowwise
    def compress(self, v: Tensor) -> Tensor:
        return v.abs().mean(-1, keepdim=True) * torch.sign(v)

    def wire_bits(self, d: int, *single: Any, value: Any = None) -> Bits:
        return 32 + d

    def nominal_bits(self, d: int, *single: Any) -> float:
        return float(d)

    def omega(self, d: int) -> float:
        return 1.0 / d


@dataclass(frozen=True)
class RandomGossip(Compressor):
    """The whole vector with probability `p`, else nothing: omega = p. Bits: 1, and 32 d where it is sent."""

    p: float

    def __post_init__(self) -> None:
        _probability(self.p)

    def draws(self, d: int) -> tuple[Draw, ...]:
        return (Draw("coin", self.p),)

    @rowwise
    def compress(self, v: Tensor, sent: Tensor) -> Tensor:
        return torch.where(sent > 0, v, torch.zeros_like(v))

    def wire_bits(self, d: int, *single: Any, value: Any = None) -> Bits:
        return 1 + 32 * d * np.asarray(single[0], np.int64)

    def nominal_bits(self, d: int, *single: Any) -> float:
        return 32.0 * d * self.p

    def omega(self, d: int) -> float:
        return self.p


@dataclass(frozen=True)
class DropCoord(Compressor):
    """Each coordinate is kept with probability `p`, unscaled: omega = p. Bits: 32 m + d, m kept and a bitmap.

    m is Binomial(d, p), known before the message travels; which m are kept is drawn uniformly.
    """

    p: float

    def __post_init__(self) -> None:
        _probability(self.p)

    def draws(self, d: int) -> tuple[Draw, ...]:
        return (Draw("count", self.p), Draw("uniform"))

    @rowwise
    def compress(self, v: Tensor, m: Tensor, u: Tensor) -> Tensor:
        order = torch.argsort(u, dim=-1)
        rank = torch.empty_like(order).scatter(-1, order, torch.arange(u.shape[-1], device=u.device).expand_as(order))
        return torch.where(rank < m, v, torch.zeros_like(v))

    def wire_bits(self, d: int, *single: Any, value: Any = None) -> Bits:
        return 32 * np.asarray(single[0], np.int64) + d

    def index_bits(self, d: int, *single: Any, value: Any = None) -> int:
        return d

    def nominal_bits(self, d: int, *single: Any) -> float:
        return 32.0 * self.p * d

    def omega(self, d: int) -> float:
        return self.p
