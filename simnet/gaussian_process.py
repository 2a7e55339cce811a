"""Gradients guessed from those that are known: a Gaussian process with one kernel for all coordinates.

    mu(z) = G' (K + s I)^-1 k(z)        var(z) = k(z, z) - k(z)' (K + s I)^-1 k(z)
    K_ij = k(|p_i - p_j| / l),          k(z)_i = k(|z - p_i| / l)

with the gradients G that were found at the points p, the ridge s and the length scale l. One small solve serves all
coordinates, and then a weighted sum of stored gradients. Everything here takes Values of a program or plain tensors.

    process = GaussianProcess(Matern52(), ridge=1e-3, c=3.0, most=20)
    history = process.observed(History(), points_ND, gradients_ND)
    mu_D = process.fit(history).mean(z_D)

Squared distances are kept in float64: a new pair adds its row alone. They come from inner products about one of the new
points, which lies among the others, so that little cancels; K and the solve are float64, too.

Shapes: T pairs kept, N new ones, D parameters, Q coordinates that distances are taken on.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simnet.errors import ScenarioError
from simnet.graph import recorded
from simnet.lazy import torch

_SHORTEST = 1e-30  # of length scales, where all points are one


@dataclass(frozen=True)
class Kernel(ABC):
    """k as a function of the distance in units of the length scale, with k(0) = 1."""

    @abstractmethod
    def of(self, squared: Any) -> Any:
        """k where the squared distance in units of the length scale is `squared`; any shape."""


@dataclass(frozen=True)
class Matern52(Kernel):
    """(1 + r + r^2/3) e^-r with r = sqrt(5) |z - z'| / l: twice differentiable."""

    def of(self, squared: Any) -> Any:
        r = torch.sqrt(5.0 * squared)
        return (1.0 + r + squared * (5.0 / 3.0)) * torch.exp(-r)


@dataclass(frozen=True)
class History:
    """The latest points and their gradients, oldest first, in the blocks in which they came: (n, D) each."""

    points: tuple[Any, ...] = ()
    gradients: tuple[Any, ...] = ()
    squared_TT: Any = None  # float64, between all points; None where distances are not kept

    def __len__(self) -> int:
        return sum(block.shape[0] for block in self.points)


@dataclass(frozen=True)
class GaussianProcess:
    """How gradients are guessed.

    Args:
        kernel: k.
        ridge: s, in units of k(z, z) = 1: the variance of a gradient's noise over that of the gradients themselves.
        c: the length scale is c times the median of the distances between points, anew at each fit.
        length_scale: where given, the length scale itself.
        coordinates: distances are taken on so many coordinates, drawn anew for each fit; None for all.
        most: T_0, pairs kept.
    """

    kernel: Kernel = Matern52()
    ridge: float = 1e-3
    c: float = 3.0
    length_scale: float | None = None
    coordinates: int | None = None
    most: int = 20

    def __post_init__(self) -> None:
        scale = self.c if self.length_scale is None else self.length_scale
        for name, value, fine, words in (
            (
                "ridge",
                self.ridge,
                0 <= self.ridge < math.inf,
                "at least 0: more where gradients are noisy, such as 0.1",
            ),
            ("c" if self.length_scale is None else "length_scale", scale, 0 < scale < math.inf, "above 0 and finite"),
            ("coordinates", self.coordinates, self.coordinates is None or self.coordinates >= 1, "at least 1"),
            ("T0", self.most, self.most >= 2, "at least 2 pairs are kept: a guess needs two"),
        ):
            if not fine:
                raise ScenarioError(words, field=name, value=value)

    def observed(self, history: History, points_ND: Any, gradients_ND: Any) -> History:
        """The history with N new pairs; of all, the latest `most`."""
        squared = None
        if self.coordinates is None:
            squared = _grown(history.squared_TT, points_ND, history.points, self.most)
        points, gradients = (*history.points, points_ND), (*history.gradients, gradients_ND)
        return History(_latest(points, self.most), _latest(gradients, self.most), squared)

    def fit(self, history: History, uniform_Q: Any = None) -> Posterior:
        """The guess that follows from a history of at least 2 pairs; `uniform_Q`: numbers from [0, 1) that draw the
        coordinates.
        """
        points, chosen_Q, squared = history.points, None, history.squared_TT
        if self.coordinates is not None:
            chosen_Q = _drawn(uniform_Q, points[0].shape[-1])
            points = tuple(_columns(block, chosen_Q) for block in points)
            squared = _between(points)
        scale = self.length_scale if self.length_scale is not None else _median(squared, self.c)
        return Posterior(self.kernel, scale, _inverse(self.kernel, squared, scale, self.ridge), points,
                         history.gradients, chosen_Q)  # fmt: skip

    # ---- what it costs ---------------------------------------------------------------------------------------------

    def fit_flop(self, kept: int, new: int, dim: int) -> float:
        """FLOP of a fit to `kept` pairs of which `new` came since the last: 2 N T D for their rows (2 T^2 Q where
        coordinates are drawn), T^3/3 for the solve.
        """
        rows = 2.0 * new * kept * dim if self.coordinates is None else 2.0 * kept**2 * self.coordinates
        return rows + kept**3 / 3.0

    def mean_flop(self, kept: int, dim: int) -> float:
        """FLOP of one guess: 2 T D for its distances (2 T Q on drawn coordinates), 2 T D for the weighted sum."""
        return 2.0 * kept * (dim if self.coordinates is None else self.coordinates) + 2.0 * kept * dim


@dataclass(frozen=True)
class Posterior:
    """What a fit says of the gradient at any point."""

    kernel: Kernel
    scale: Any  # l
    A_TT: Any  # (K + s I)^-1, float64
    points: tuple[Any, ...]
    gradients: tuple[Any, ...]
    chosen_Q: Any = None

    def mean(self, z_D: Any) -> Any:
        """mu(z), (D,)."""
        return _mean(self._k(z_D), self.A_TT, self.gradients)

    def variance(self, z_D: Any) -> Any:
        """var(z), one number for all coordinates."""
        return _variance(self._k(z_D), self.A_TT)

    def _k(self, z_D: Any) -> Any:
        z = z_D if self.chosen_Q is None else _columns(z_D, self.chosen_Q)
        return _covariances(self.kernel, self.scale, z, self.points)


# ---- arithmetic on tensors: each of these is one task of a program -------------------------------------------------


def squared_distances(new_ND: Any, blocks: Sequence[Any]) -> Any:
    """|new_i - p_j|^2 for all points p of the blocks, (N, T) in float64, from inner products about new_0."""
    anchor_1D = new_ND[:1]
    centred_ND = new_ND - anchor_1D
    own_N = _squared_lengths(centred_ND)

    def of(block: Any) -> Any:
        near = block - anchor_1D  # one at a time: it is the only large thing that is made
        squared = _squared_lengths(near)[None]
        return squared if len(new_ND) == 1 else own_N[:, None] + squared - 2.0 * (centred_ND @ near.T).double()

    return torch.clamp(torch.cat([of(block) for block in blocks], 1), min=0.0)


def _squared_lengths(rows: Any) -> Any:
    return torch.linalg.vector_norm(rows, dim=1).double() ** 2


@recorded
def _grown(squared_TT: Any, new_ND: Any, points: Sequence[Any], most: int) -> Any:
    """The squared distances with rows and columns of new points; those of the latest `most` points."""
    rows = squared_distances(new_ND, [*points, new_ND])
    if squared_TT is not None:
        kept = squared_TT.shape[0]
        above = torch.cat([squared_TT.double(), rows[:, :kept].T], 1)
        rows = torch.cat([above, rows])
    rows = rows[-most:, -most:]
    return 0.5 * (rows + rows.T) * (1.0 - torch.eye(len(rows), dtype=rows.dtype, device=rows.device))


@recorded
def _between(points: Sequence[Any]) -> Any:
    whole = torch.cat(list(points))
    return _grown.__wrapped__(None, whole, [], len(whole))  # type: ignore[attr-defined]


@recorded
def _median(squared_TT: Any, c: float) -> Any:
    """c times the median distance between two points. In order stand T zeros, then each distance twice."""
    size = squared_TT.shape[0]
    ordered = torch.sort(squared_TT.double().reshape(-1)).values
    middle = size + size * (size - 1) // 2
    return torch.clamp(0.5 * c * (torch.sqrt(ordered[middle - 1]) + torch.sqrt(ordered[middle])), min=_SHORTEST)


@recorded
def _inverse(kernel: Kernel, squared_TT: Any, scale: Any, ridge: float) -> Any:
    """(K + s I)^-1; not numbers where there is none."""
    K = kernel.of(squared_TT.double() / scale**2)
    inverse, failed = torch.linalg.inv_ex(K + ridge * torch.eye(len(K), dtype=K.dtype, device=K.device))
    return torch.where(failed == 0, inverse, math.nan)


@recorded
def _covariances(kernel: Kernel, scale: Any, z_D: Any, points: Sequence[Any]) -> Any:
    """k(z), (T,)."""
    return kernel.of(squared_distances(z_D[None], points)[0] / scale**2)


@recorded
def _mean(k_T: Any, A_TT: Any, gradients: Sequence[Any]) -> Any:
    """G' A k: block by block, so that nothing large is copied."""
    w_T = A_TT.double() @ k_T.double()
    total, at = 0.0, 0
    for block in gradients:
        total = total + block.T @ w_T[at : at + block.shape[0]].to(block.dtype)
        at += block.shape[0]
    return total


@recorded
def _variance(k_T: Any, A_TT: Any) -> Any:
    k_T = k_T.double()
    return 1.0 - k_T @ (A_TT.double() @ k_T)


@recorded
def _drawn(uniform_Q: Any, dim: int) -> Any:
    return torch.clamp((uniform_Q.double() * dim).long(), max=dim - 1)


@recorded
def _columns(block: Any, chosen_Q: Any) -> Any:
    return block[..., chosen_Q]


def _latest(blocks: tuple[Any, ...], most: int) -> tuple[Any, ...]:
    """The last `most` rows; a block is cut where need be."""
    kept: list[Any] = []
    for block in reversed(blocks):
        room = most - sum(each.shape[0] for each in kept)
        if room <= 0:
            break
        kept.append(block if block.shape[0] <= room else block[block.shape[0] - room :])
    return tuple(reversed(kept))
