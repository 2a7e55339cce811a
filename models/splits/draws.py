"""Random draws that splits share, as functions of a seed alone."""

from __future__ import annotations

import numpy as np

from simnet import streams


def log_gamma_draws(seed: int, purpose: str, shape: float, count: int) -> np.ndarray:
    """Logarithms of `count` draws of Gamma(shape, 1), shape > 0, float64 (count,).

    Marsaglia and Tsang (ACM TOMS 26, 2000) with Gamma(a) = Gamma(a + 1) U^(1/a); kept as logarithms, since at
    small shapes the draws themselves underflow.
    """
    ids = np.arange(count)
    d = shape + 1.0 - 1.0 / 3.0
    c = 1.0 / np.sqrt(9.0 * d)
    normals = streams.keys(streams.key(seed, purpose, "normal"), ids)
    uniforms = streams.keys(streams.key(seed, purpose, "uniform"), ids)
    result = np.empty(count)
    open_ids, attempt = ids, 0
    while len(open_ids):
        x = streams.normal(normals[open_ids], 1, attempt)[:, 0]
        u = streams.uniform(uniforms[open_ids], 1, attempt)[:, 0] + 2.0**-54
        v = (1.0 + c * x) ** 3
        positive = v > 0
        log_v = np.log(np.where(positive, v, 1.0))
        good = positive & (np.log(u) < 0.5 * x * x + d - d * v + d * log_v)
        result[open_ids[good]] = np.log(d) + log_v[good]
        open_ids, attempt = open_ids[~good], attempt + 1
    boost = streams.uniform(streams.keys(streams.key(seed, purpose, "boost"), ids), 1)[:, 0] + 2.0**-54
    return result + np.log(boost) / shape


def dirichlet_draws(seed: int, purpose: str, alpha: float, rows: int, columns: int) -> np.ndarray:
    """`rows` independent draws of Dirichlet(alpha, ..., alpha), float64 (rows, columns), each summing to one."""
    logs = log_gamma_draws(seed, purpose, alpha, rows * columns).reshape(rows, columns)
    shares = np.exp(logs - logs.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def shuffled_classes(labels: np.ndarray, seed: int, purpose: str) -> list[np.ndarray]:
    """The rows of each class that occurs, in random order."""
    order = streams.permutation(streams.key(seed, purpose), len(labels))
    sorted_rows = order[np.argsort(labels[order], kind="stable")]
    cuts = np.flatnonzero(np.diff(labels[sorted_rows])) + 1
    return np.split(sorted_rows, cuts)
