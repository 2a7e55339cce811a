"""Kernels beside Matern-5/2, which stands with the process itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simnet.gaussian_process import Kernel
from simnet.lazy import torch


@dataclass(frozen=True)
class RBF(Kernel):
    """exp(-|z - z'|^2 / (2 l^2)): smoother than gradients often are, and K is nearly singular without a ridge."""

    def of(self, squared: Any) -> Any:
        return torch.exp(-0.5 * squared)
