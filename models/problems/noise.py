"""Gradient noise of chosen variance: rows z_r whose term z_r'x a minibatch adds to a smooth function."""

from __future__ import annotations

import numpy as np

from simnet import streams
from simnet.errors import InputError

ROWS = 4096


def noise_samples(name: str, nodes: int, noise: float) -> np.ndarray:
    """Rows at each node, (N,): zeros without noise. Raises InputError for a variance that is none."""
    if not 0 <= noise < float("inf"):
        raise InputError(f"{name}: noise = {noise}; a variance is at least 0")
    return np.full(nodes, ROWS if noise else 0, np.int64)


def noise_rows(seed: int, purpose: str, dim: int, noise: float) -> np.ndarray:
    """The rows z, (4096, D): normal, of mean zero, with variance noise/D in each coordinate."""
    z = streams.normal(streams.keys(streams.key(seed, purpose), np.arange(ROWS)), dim)
    z -= z.mean(0)
    scaled: np.ndarray = z * np.sqrt(noise / dim / z.var(0))
    return scaled
