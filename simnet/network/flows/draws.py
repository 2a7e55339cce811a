"""Numbers that TCP draws: counter-based like `simnet.streams`, and made by exactly rounded operations alone."""

# numba infers the types of these functions
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np

from simnet.jit import COMPILED, kept

_GOLDEN, _A, _B = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_MASK = (1 << 64) - 1

if COMPILED:
    _G, _P, _Q, _ONE = np.uint64(_GOLDEN), np.uint64(_A), np.uint64(_B), np.uint64(1)
    _S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)

    @kept
    def _mix(z):
        z = (z ^ (z >> _S30)) * _P
        z = (z ^ (z >> _S27)) * _Q
        return z ^ (z >> _S31)

    @kept
    def uniform(key, who, counter):
        """The counter-th uniform number of `who` in [0, 1), with 53 bits."""
        z = _mix(np.uint64(key) + _G * (np.uint64(who) + _ONE))
        z = _mix(z + _G * (np.uint64(counter) + _ONE))
        return np.float64(z >> _S11) * 2.0**-53

else:  # numpy's uint64 would warn where it is meant to wrap

    def _mix(z):
        z = (z ^ (z >> 30)) * _A & _MASK
        z = (z ^ (z >> 27)) * _B & _MASK
        return z ^ (z >> 31)

    def uniform(key, who, counter):
        """The counter-th uniform number of `who` in [0, 1), with 53 bits."""
        z = _mix((int(key) + _GOLDEN * (int(who) + 1)) & _MASK)
        z = _mix((z + _GOLDEN * (int(counter) + 1)) & _MASK)
        return float(z >> 11) * 2.0**-53


@kept
def packets_to_loss(u, p):
    """Packets up to and with the first that is lost, each with probability p: the law's inversion at 1 - u.

    The smallest N >= 1 with (1 - p)^N <= 1 - u, by doubling and halving: products only, no logarithm.
    """
    if p <= 0.0:
        return np.inf
    rest, kept_, n = 1.0 - u, 1.0, 0.0
    step, power = 1.0, 1.0 - p
    while kept_ * power > rest:  # gallop
        kept_, n = kept_ * power, n + step
        step, power = 2.0 * step, power * power
    while step >= 1.0:
        power = 1.0 - p
        s = 1.0
        while s < step:
            power, s = power * power, 2.0 * s
        if kept_ * power > rest:
            kept_, n = kept_ * power, n + step
        step /= 2.0
    return n + 1.0


@kept
def cube_root(x):
    """The cube root of x >= 0 by Newton's steps: a library's last bit differs between machines."""
    if x <= 0.0:
        return 0.0
    y = max(1.0, x)
    for _ in range(200):
        better = (2.0 * y + x / (y * y)) / 3.0
        if better >= y:
            break
        y = better
    return y
