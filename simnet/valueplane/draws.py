"""The counter-based draws of `simnet.streams`, made where the values are.

On the CPU numpy makes them. On a CUDA device they are made there from the same 64-bit keys, so that no numbers travel:
raw bits, uniforms, signs and minibatches are equal to the last bit; normals agree to about 1e-15 (another
approximation of the same inverse). Other devices, which may lack float64, get the host's.

Legend: S hosts of a call, M numbers of each.
"""

from __future__ import annotations

import numpy as np
import torch

from simnet import streams
from simnet.valueplane.device import on

LAWS = {"normal": streams.normal, "uniform": streams.uniform, "sign": streams.sign}


def draw(law: str, keys_S: np.ndarray, count: int, device: torch.device, start: int = 0) -> torch.Tensor:
    """Numbers start .. start + count - 1 of a law under each key: float64 (S, M) on `device`.

    On a device without float64 the caller's own dtype follows: the tensor then stays on the host.
    """
    if device.type != "cuda":
        return torch.from_numpy(LAWS[law](keys_S, count, start))
    raw = bits(on(device, keys_S.view(np.int64)), count, start)
    if law == "sign":
        return _right(raw, 63).to(torch.float64).mul_(2.0).sub_(1.0)
    u = _right(raw, 11).to(torch.float64).mul_(2.0**-53)
    return u if law == "uniform" else _normal(u)


def samples(keys_S: np.ndarray, rows_S: np.ndarray, size: int, replace: bool, device: torch.device) -> torch.Tensor:
    """Row numbers (S, size), int64, of each host's minibatch out of its `rows_S` rows."""
    if device.type != "cuda":
        return torch.from_numpy(_samples_here(keys_S, rows_S, size, replace)).to(device)
    rows = on(device, rows_S)[:, None]
    if replace:
        return (draw("uniform", keys_S, size, device) * rows).to(torch.int64)
    widest = int(rows_S.max())
    u = draw("uniform", keys_S, widest, device)
    beyond = torch.arange(widest, device=device) >= rows
    return torch.argsort(torch.where(beyond, 2.0, u), dim=1, stable=True)[:, :size]


def _samples_here(keys_S: np.ndarray, rows_S: np.ndarray, size: int, replace: bool) -> np.ndarray:
    if replace:
        return (streams.uniform(keys_S, size) * rows_S[:, None]).astype(np.int64)
    widest = int(rows_S.max())
    u = streams.uniform(keys_S, widest)
    u[np.arange(widest)[None, :] >= rows_S[:, None]] = 2.0  # beyond a host's data
    return np.argsort(u, axis=1, kind="stable")[:, :size]


# ---- splitmix64 in int64, whose sums and products wrap as those of uint64 do -----------------------------------------


def _signed(number: int) -> int:
    """The int64 with the bits of a uint64."""
    return number - (1 << 64) if number >= 1 << 63 else number


def _right(z: torch.Tensor, by: int) -> torch.Tensor:
    """Shift right, zeros coming in (int64 would bring in its sign)."""
    return (z >> by) & ((1 << (64 - by)) - 1)


def bits(keys_S: torch.Tensor, count: int, start: int = 0) -> torch.Tensor:
    """Raw 64-bit numbers as int64 (S, M): as `streams.bits`."""
    counters = torch.arange(start, start + count, device=keys_S.device) * _signed(streams.GOLDEN)
    z = keys_S[:, None] + counters
    z = (z ^ _right(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _right(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _right(z, 31)


def _normal(u: torch.Tensor) -> torch.Tensor:
    """Standard normals by the inversion of uniforms in [0, 1), through the nearer tail."""
    p = u + 2.0**-54
    tail = torch.minimum(p, 1.0 - p).clamp_(min=2.0**-54)
    return torch.copysign(torch.special.ndtri(tail), p - 0.5)
