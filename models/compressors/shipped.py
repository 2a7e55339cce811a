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
from simnet.errors import InputError
from simnet.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def _probability(p: float, name: str) -> None:
    if not 0 < p <= 1:
        raise InputError(f"{name}: p = {p:g}; a probability above 0 and at most 1")


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
        name = type(self).__name__
        if (self.k is None) == (self.fraction is None):
            raise InputError(f"{name}: say how many coordinates are kept, by k or by fraction, such as fraction: 0.1")
        if self.k is not None and self.k < 1:
            raise InputError(f"{name}: k = {self.k}; keep at least 1 coordinate")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise InputError(f"{name}: fraction = {self.fraction:g}; above 0 and at most 1")

    def kept(self, d: int) -> int:
        """How many coordinates of d are kept."""
        if self.k is not None:
            return self.k
        assert self.fraction is not None
        return max(1, math.floor(self.fraction * d + 0.5))

    def check(self, d: int) -> None:
        if self.kept(d) > d:
            raise InputError(f"{type(self).__name__}: k = {self.k}, and vectors have {d} numbers; keep at most {d}")

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
        order = torch.sort(v.abs(), dim=-1, descending=True, stable=True).indices
        kept = order[..., : self.kept(v.shape[-1])]
        return torch.zeros_like(v).scatter(-1, kept, v.gather(-1, kept))

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
            raise InputError(f"{type(self).__name__}: levels = {self.levels}; at least 1, such as 7 (4 bits an entry)")

    def draws(self, d: int) -> tuple[Draw, ...]:
        return (Draw("uniform"),)

    def tau(self, d: int) -> float:
        """1 plus the variance bound of the unscaled rounding."""
        return 1.0 + min(d / self.levels**2, math.sqrt(d) / self.levels)

    @rowwise
    def compress(self, v: Tensor, u: Tensor) -> Tensor:
        return self._rounded(v, u) / self.tau(v.shape[-1])

    def _rounded(self, v: Tensor, u: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(v, dim=-1, keepdim=True)
        unit = torch.where(norm > 0, v.abs() / norm, torch.zeros_like(v))
        return torch.sign(v) * torch.floor(self.levels * unit + u) * (norm / self.levels)

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
        return self._rounded(v, u)

    def omega(self, d: int) -> float | None:
        tau = self.tau(d)
        return 2.0 - tau if tau < 2.0 else None


@dataclass(frozen=True)
class EliasQSGD(QSGD):
    """QSGD with entropy-coded levels: a message is as long as its levels ask, by Elias' omega code (IEEE Trans. Inf.
    Theory 21, 1975) of each level plus one, a sign bit where that is above 1, and the norm.

    The size depends on the vector, so runs go node by node; an estimate uses the length of the fixed code, a bound only
    where levels are small and few.
    """

    by_value: ClassVar[bool] = True

    def wire_bits(self, d: int, *single: Any, value: Any = None) -> Bits:
        if value is None:
            return super().wire_bits(d)
        scale = float(torch.linalg.vector_norm(value)) if value.numel() else 0.0
        if scale == 0.0:
            return 32 + d * elias_omega_bits(1)
        size = value.abs()
        step = float(size[size > 0].min())  # the grid: multiples of |x| / (s tau)
        levels = torch.round(size / step).to(torch.int64)
        number, times = torch.unique(levels, return_counts=True)
        return 32 + sum(
            int(count) * (elias_omega_bits(int(level) + 1) + (level > 0))
            for level, count in zip(number.tolist(), times.tolist(), strict=True)
        )


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
        _probability(self.p, "RandomGossip")

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
        _probability(self.p, "DropCoord")

    def draws(self, d: int) -> tuple[Draw, ...]:
        return (Draw("count", self.p), Draw("uniform"))

    @rowwise
    def compress(self, v: Tensor, m: Tensor, u: Tensor) -> Tensor:
        rank = torch.argsort(torch.argsort(u, dim=-1), dim=-1)
        return torch.where(rank < m, v, torch.zeros_like(v))

    def wire_bits(self, d: int, *single: Any, value: Any = None) -> Bits:
        return 32 * np.asarray(single[0], np.int64) + d

    def index_bits(self, d: int, *single: Any, value: Any = None) -> int:
        return d

    def nominal_bits(self, d: int, *single: Any) -> float:
        return 32.0 * self.p * d

    def omega(self, d: int) -> float:
        return self.p
