"""What the reproduction of OptEx needs besides shipped parts, named in scenarios."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from simnet.models.algorithms.optex import Guess, OptEx
from simnet.models.problems.quadratic import Quadratic

HERE = "simnet.analysis.reproduce.optex_parts"


class Spectrum(Quadratic):
    """1/2 sum_j lambda_j (x_j - c_j)^2, lambda log-spaced from 1 down to 1/condition, the same at all nodes.

    Runs begin at 0, so that they begin |c| from the optimum: coordinates of c are uniform on [-1, 1], or all 1.
    """

    def __init__(
        self, nodes: int, seed: int = 0, *, dim: int, condition: float, start: Literal["uniform", "ones"] = "uniform",
        noise: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(nodes, seed, dim=dim, condition=condition, heterogeneity=0.0, noise=noise)
        c = np.ones(dim) if start == "ones" else np.random.default_rng(seed).uniform(-1, 1, dim)
        spectrum, _ = self.arrays
        self.arrays = spectrum, np.tile(c, (nodes, 1))


@dataclass(frozen=True)
class Watched(OptEx):
    """OptEx whose `tracker_residual` is |mu(Z_N) - g_N| / |g_N|, 1 in rounds without a guess."""

    def _told(self, Z: list[Any], G: Any, mu: Guess | None) -> dict[str, Any]:
        g = G[len(Z) - 1]
        size: Any = torch.linalg.vector_norm(g)
        guessed = torch.zeros_like(g) if mu is None else mu(Z[-1])
        return {"tracker": guessed / size, "estimate": g / size}
