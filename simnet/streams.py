"""Counter-based random numbers: every draw is a pure function of (seed, purpose, occurrence, who, counter).

A key is hashed from the words that name a draw; the numbers under it are splitmix64 of key + counter x golden
ratio (Steele, Lea and Flood, OOPSLA 2014). Nothing has a state, so tiers, executors, group and node runs, chunk
sizes and devices see the same numbers.

Shapes: N streams, M numbers in each.
"""

from __future__ import annotations

import math

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
_U30, _U27, _U31, _U11 = (np.uint64(s) for s in (30, 27, 31, 11))
_A, _B, _G = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB), np.uint64(GOLDEN)


def _mix(z: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser on an array of uint64; overwrites and returns it."""
    z ^= z >> _U30
    z *= _A
    z ^= z >> _U27
    z *= _B
    z ^= z >> _U31
    return z


def _mix_int(z: int) -> int:
    """splitmix64's finaliser on one Python int."""
    z ^= z >> 30
    z = z * 0xBF58476D1CE4E5B9 & _MASK
    z ^= z >> 27
    z = z * 0x94D049BB133111EB & _MASK
    return z ^ z >> 31


def key(seed: int, *parts: str | int) -> int:
    """The 64-bit key of a draw named by `parts` under `seed`.

    >>> key(0, "loss", 3) == key(0, "loss", 3), key(0, "loss", 3) == key(0, "loss", 4)
    (True, False)
    """
    k = _mix_int((seed + GOLDEN) & _MASK)
    for part in parts:
        for word in _words(part):
            k = _mix_int((k ^ word) + GOLDEN & _MASK)
    return k


def _words(part: str | int) -> list[int]:
    """A name as 64-bit words; strings and integers cannot collide, since a string begins with its length."""
    if isinstance(part, str):
        raw = part.encode()
        return [len(raw) | 1 << 63] + [int.from_bytes(raw[i : i + 8], "little") for i in range(0, len(raw), 8)]
    return [int(part) & _MASK]


def keys(base: int, ids: np.ndarray) -> np.ndarray:
    """One key per id: uint64 array of shape (N,)."""
    return _mix((np.asarray(ids).astype(np.uint64) ^ np.uint64(base)) + _G)


def bits(keys_N: np.ndarray, m: int, start: int = 0) -> np.ndarray:
    """Raw 64-bit numbers, shape (N, M): counters start .. start + m - 1 under each key."""
    counters = np.arange(start, start + m, dtype=np.uint64) * _G
    return _mix(keys_N[:, None] + counters[None, :])


def uniform(keys_N: np.ndarray, m: int, start: int = 0) -> np.ndarray:
    """Uniform numbers in [0, 1) with 53 bits, float64 of shape (N, M)."""
    raw = bits(keys_N, m, start)
    raw >>= _U11
    return raw * 2.0**-53


def uniform1(key_: int, m: int, start: int = 0) -> np.ndarray:
    """Uniform numbers in [0, 1) under one key, float64 of shape (M,)."""
    return uniform(np.array([key_], dtype=np.uint64), m, start)[0]


def normal(keys_N: np.ndarray, m: int, start: int = 0) -> np.ndarray:
    """Standard normal numbers, float64 of shape (N, M): the inverse error function of an open uniform.

    Wichura's AS241 (PPND16, Applied Statistics 37, 1988), relative error about 1e-16. For values, not for times:
    it uses the library's logarithm.
    """
    return _normal_quantile(uniform(keys_N, m, start) + 2.0**-54)


def sign(keys_N: np.ndarray, m: int, start: int = 0) -> np.ndarray:
    """Signs -1.0 or +1.0 with probability 1/2 each, float64 of shape (N, M)."""
    return ((bits(keys_N, m, start) >> np.uint64(63)) * 2.0) - 1.0


def chi_square(keys_N: np.ndarray, degrees: int) -> np.ndarray:
    """One chi-square number of so many degrees of freedom (at least 1) under each key, float64 of shape (N,).

    Up to 8 degrees, pairs of them as exponential numbers and an odd one as the square of a normal number; beyond, twice
    a Gamma(degrees/2) number by Marsaglia and Tsang (ACM TOMS 26, 2000), from exactly rounded operations, so that what
    is accepted is the same on every processor.
    """
    if degrees <= 8:
        pairs = degrees // 2
        u = uniform(keys_N, pairs + degrees % 2) * (1.0 - 2.0**-53) + 2.0**-54
        few = -2.0 * exact_log(u[:, :pairs].prod(1)) if pairs else np.zeros(len(keys_N))
        return few + exact_normal(u[:, -1]) ** 2 if degrees % 2 else few
    shape = degrees / 2.0 - 1.0 / 3.0
    narrow = 1.0 / math.sqrt(9.0 * shape)
    found = np.empty(len(keys_N))
    left = np.arange(len(keys_N))
    attempt = 0
    while len(left):
        u = uniform(keys_N[left], 2, 2 * attempt) * (1.0 - 2.0**-53) + 2.0**-54
        x = exact_normal(u[:, 0])
        v = (1.0 + narrow * x) ** 3
        logarithm = exact_log(np.where(v > 0, v, 1.0))
        good = (v > 0) & (exact_log(u[:, 1]) < 0.5 * x * x + shape * (1.0 - v + logarithm))
        found[left[good]] = 2.0 * shape * v[good]
        left, attempt = left[~good], attempt + 1
    return found


def permutation(key_: int, n: int) -> np.ndarray:
    """A uniformly random permutation of 0 .. n-1, int64 (ties of 64-bit numbers: by position)."""
    return np.argsort(bits(np.array([key_], dtype=np.uint64), n)[0], kind="stable")


def _horner(x: np.ndarray, coefficients: tuple[float, ...]) -> np.ndarray:
    y = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        y *= x
        y += c
    return y


_CENTRAL = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
     13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608),
    (5226.495278852545925, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
     5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0),
)  # fmt: skip
_MIDDLE = (
    (7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258,
     3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
     0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1.0),
)  # fmt: skip
_TAIL = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386, 0.026532189526576123093,
     0.29656057182850489123, 1.7848265399172913358, 5.4637849111641143699, 6.6579046435011037772),
    (2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4,
     0.0148753612908506148525, 0.13692988092273580531, 0.59983220655588793769, 1.0),
)  # fmt: skip


def _normal_quantile(p: np.ndarray) -> np.ndarray:
    q = p - 0.5
    out = np.empty_like(q)
    central = np.abs(q) <= 0.425
    r = 0.180625 - q[central] ** 2
    out[central] = q[central] * _horner(r, _CENTRAL[0]) / _horner(r, _CENTRAL[1])
    outer = ~central
    if outer.any():
        q_outer = q[outer]
        tail = np.maximum(np.minimum(p[outer], 1.0 - p[outer]), 2.0**-54)  # the largest uniform rounds up to 1
        r = np.sqrt(-np.log(tail))
        near = r <= 5.0
        value = np.empty_like(r)
        for side, shift, (top, bottom) in ((near, 1.6, _MIDDLE), (~near, 5.0, _TAIL)):
            s = r[side] - shift
            value[side] = _horner(s, top) / _horner(s, bottom)
        out[outer] = np.copysign(value, q_outer)
    return out


# ---- laws of durations: exactly rounded operations only, so that a time is the same on every processor -------------


def exact_log(x: np.ndarray) -> np.ndarray:
    """Natural logarithm of positive float64 numbers from + - * / alone (error under 2 ulp).

    x = m 2^e with m in [sqrt(1/2), sqrt(2)); log m = 2 atanh(s), s = (m-1)/(m+1), by its series.
    """
    mantissa, exponent = np.frexp(x)
    low = mantissa < math.sqrt(0.5)
    mantissa = np.where(low, 2.0 * mantissa, mantissa)
    exponent = exponent - low
    s = (mantissa - 1.0) / (mantissa + 1.0)
    s2 = s * s
    series = np.zeros_like(s)
    for k in range(25, 0, -2):
        series = series * s2 + 1.0 / k
    return exponent * 0.6931471805599453 + 2.0 * s * series


def exact_exp(x: np.ndarray) -> np.ndarray:
    """Exponential of float64 numbers in [-700, 700] from + - * / alone (error under 2 ulp near zero)."""
    k = np.floor(x * 1.4426950408889634 + 0.5)
    r = (x - k * 0.6931471803691238) - k * 1.9082149292705877e-10
    series = np.ones_like(r)
    for i in range(14, 0, -1):
        series = series * r / i + 1.0
    return np.ldexp(series, k.astype(np.int64))


def exact_normal(u: np.ndarray) -> np.ndarray:
    """Standard normal numbers by the inversion of open uniforms `u`, from exactly rounded operations alone."""
    q = u - 0.5
    r = 0.180625 - q * q
    central = q * _horner(r, _CENTRAL[0]) / _horner(r, _CENTRAL[1])
    tail = np.sqrt(-exact_log(np.minimum(u, 1.0 - u)))
    middle = _horner(tail - 1.6, _MIDDLE[0]) / _horner(tail - 1.6, _MIDDLE[1])
    far = _horner(tail - 5.0, _TAIL[0]) / _horner(tail - 5.0, _TAIL[1])
    outer = np.copysign(np.where(tail <= 5.0, middle, far), q)
    return np.where(np.abs(q) <= 0.425, central, outer)
