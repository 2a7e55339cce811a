"""A device in a few numbers, and what they say of a call: overheads, FLOP/s by class of operator, bytes/s.

    seconds = call + per_operator x operators + sum over operators of max(FLOP / FLOP/s of its class, bytes / bytes/s)

with one `call` and `per_operator` for each oracle (each level of automatic differentiation adds its own), an extra
overhead for products and for convolutions, and two rates of memory, to read and to write: the roofline model (Williams,
Waterman and Patterson, CACM 52, 2009) of each operator by itself, plus overheads. `simnet calibrate` fits the numbers
and writes them to a file:

    device: AMD EPYC
    call: {loss: 2.4 ns, gradient: 32 us, hvp: 129 us}
    per_operator: {loss: 1.9 us, gradient: 2.5 us, hvp: 1.7 us}
    products: 0.49 ns               # more for each product, and for each convolution
    convolutions: 67 us
    gemm: 93 GFLOP/s
    conv: 126 GFLOP/s
    pointwise: 16 GFLOP/s           # numbers made a second, by whatever is neither
    read: 47 GB/s
    write: 24 GB/s
    held_out_error: {mlp: 8 %}      # mean relative error on models that were not fitted

Legend: O operators of a call, M calls measured, P numbers of a profile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import ValidationError

from simnet import sources
from simnet.errors import DataError, InputError
from simnet.explain import explain
from simnet.fields import Bandwidth, Ratio, Seconds, Section, Speed
from simnet.units import human

GEMM, CONV, POINTWISE, VIEW = 0, 1, 2, 3  # classes of operators
ORACLES = ("loss", "gradient", "hvp")
_CALL, _PER, _EXTRA, _RATE, _READ, _WRITE, _COLUMNS = 0, 3, 6, 8, 11, 12, 13  # columns of the fit


@dataclass(frozen=True)
class Operators:
    """What one call of `oracle` runs: float64 (O, 4) with class, FLOP, bytes read, bytes written."""

    oracle: str
    rows: np.ndarray


class PerOracle(Section):
    """An overhead of each oracle's call."""

    loss: Seconds = 0.0
    gradient: Seconds = 0.0
    hvp: Seconds = 0.0


class DeviceProfile(Section):
    """The numbers of one device; a profile file has these keys."""

    device: str = "unnamed"
    """What was measured, in words."""
    source: str = ""
    """How the numbers were found: versions, threads, day; or where they are published."""
    call: PerOracle = PerOracle()
    """Overhead of a call."""
    per_operator: PerOracle = PerOracle()
    """Overhead of each operator that a call runs."""
    products: Seconds = 0.0
    """More overhead of each matrix product."""
    convolutions: Seconds = 0.0
    """More overhead of each convolution."""
    gemm: Speed
    """FLOP/s of matrix products."""
    conv: Speed
    """FLOP/s of convolutions."""
    pointwise: Speed
    """Numbers a second that other operators make."""
    read: Bandwidth
    """Bytes/s read."""
    write: Bandwidth
    """Bytes/s written."""
    held_out_error: dict[str, Ratio] = {}
    """The mean relative error on calls that were not fitted, by the kind of model."""

    # ---- seconds ---------------------------------------------------------------------------------------------------

    def seconds(self, call: Operators) -> float:
        """Seconds of one call."""
        p = self._numbers()
        return float(_row(call, p) @ p)

    def _numbers(self) -> np.ndarray:
        """The profile as P seconds: of a call, an operator, a FLOP, a byte."""
        p = np.zeros(_COLUMNS)
        for k, oracle in enumerate(ORACLES):
            p[_CALL + k], p[_PER + k] = getattr(self.call, oracle), getattr(self.per_operator, oracle)
        p[_EXTRA : _EXTRA + 2] = self.products, self.convolutions
        p[_RATE : _RATE + 3] = 1.0 / self.gemm, 1.0 / self.conv, 1.0 / self.pointwise
        p[_READ], p[_WRITE] = 1.0 / self.read, 1.0 / self.write
        return p

    # ---- fitting ---------------------------------------------------------------------------------------------------

    @classmethod
    def fitted(
        cls, calls: Sequence[Operators], seconds: Sequence[float], pointwise: float, device: str, source: str = ""
    ) -> DeviceProfile:
        """The profile whose relative errors on M measured calls have the least squares, all numbers at least 0.

        What bounds an operator, arithmetic or memory, depends on the profile, so the fit is repeated until it stays.
        `pointwise` is measured by itself: among calls it can hardly be told from writing. Raises InputError for fewer
        than 6 calls.
        """
        if len(calls) < 6:
            raise InputError(f"a profile is fitted to 6 calls or more, not {len(calls)}")
        t, p = np.asarray(seconds, dtype=np.float64), _START.copy()
        known = _RATE + POINTWISE
        p[known] = 1.0 / pointwise
        for _ in range(60):
            table = np.array([_row(call, p) for call in calls]) / t[:, None]
            rest, table[:, known] = 1.0 - table[:, known] * p[known], 0.0
            better = 0.5 * p + 0.5 * _least_squares(table, rest, p)
            done, p = np.allclose(better, p, rtol=1e-3), better
            if done:
                break
        rates = 1.0 / np.maximum(p[_RATE:], 1e-15)
        return cls(
            device=device, source=source,
            call=PerOracle(**dict(zip(ORACLES, p[_CALL:_PER].tolist(), strict=True))),
            per_operator=PerOracle(**dict(zip(ORACLES, p[_PER:_EXTRA].tolist(), strict=True))),
            products=float(p[_EXTRA]), convolutions=float(p[_EXTRA + 1]),
            gemm=float(rates[0]), conv=float(rates[1]), pointwise=float(rates[2]), read=float(rates[3]),
            write=float(rates[4]),
        )  # fmt: skip

    # ---- files -----------------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: Path) -> Self:
        """The profile in a file. Raises an error with line and column for what the file has wrong."""
        if not path.is_file():
            raise DataError(
                f"there is no device profile {path}; 'simnet calibrate --out {path.name}' measures one here"
            )
        raw, places = sources.load(path)
        try:
            return cls(**raw)
        except ValidationError as error:
            raise explain(error, cls, raw, places) from None

    def plain(self) -> dict[str, Any]:
        """The profile as plain numbers."""
        return self.model_dump()

    def text(self) -> str:
        """The profile as a file has it, with units."""
        tree: dict[str, Any] = {"device": self.device, "source": self.source}
        for name in ("call", "per_operator"):
            tree[name] = {oracle: human(getattr(getattr(self, name), oracle), "s") for oracle in ORACLES}
        tree |= {"products": human(self.products, "s"), "convolutions": human(self.convolutions, "s")}
        tree |= {name: human(getattr(self, name), "flop/s") for name in ("gemm", "conv", "pointwise")}
        tree |= {name: human(getattr(self, name), "bytes") + "/s" for name in ("read", "write")}
        tree["held_out_error"] = {kind: f"{100 * error:.3g} %" for kind, error in self.held_out_error.items()}
        return sources.dump(tree)

    def error_text(self) -> str:
        """How far it was off on models that it was not fitted to."""
        if not self.held_out_error:
            return "its error is not known"
        each = ", ".join(f"{100 * error:.0f} % ({kind})" for kind, error in self.held_out_error.items())
        return f"mean error on models that it was not fitted to: {each}"


_START = np.array([5e-6, 1e-4, 2e-4, 2e-6, 5e-6, 5e-6, 1e-6, 1e-5, 2e-11, 2e-11, 1e-10, 5e-11, 1e-10])


def _row(call: Operators, p: np.ndarray) -> np.ndarray:
    """What a call has of each of the P: its seconds are this row times p."""
    row = np.zeros(_COLUMNS)
    level = ORACLES.index(call.oracle)
    kind, flop, read, written = call.rows[:, 0].astype(int), call.rows[:, 1], call.rows[:, 2], call.rows[:, 3]
    row[_CALL + level], row[_PER + level] = 1.0, len(kind)
    for extra, at in ((_EXTRA, GEMM), (_EXTRA + 1, CONV)):
        row[extra] = np.count_nonzero(kind == at)
    arithmetic = kind != VIEW
    by_flop = arithmetic & (flop * p[_RATE + np.minimum(kind, 2)] >= read * p[_READ] + written * p[_WRITE])
    for at in (GEMM, CONV, POINTWISE):
        row[_RATE + at] = flop[by_flop & (kind == at)].sum()
    row[_READ], row[_WRITE] = read[arithmetic & ~by_flop].sum(), written[arithmetic & ~by_flop].sum()
    return row


def _least_squares(table: np.ndarray, wanted: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The p >= 0 with the least |table p - wanted|^2, by descent along one number after another; one of which the table
    has nothing stays as it was.
    """
    scale = np.sqrt((table**2).sum(0))
    seen = scale > 0
    a = table[:, seen] / scale[seen]
    gram, b, x = a.T @ a, a.T @ wanted, start[seen] * scale[seen]
    for _ in range(2000):
        before = x.copy()
        for k in range(len(x)):
            x[k] = max(0.0, x[k] + (b[k] - gram[k] @ x) / gram[k, k])
        if np.abs(x - before).max() < 1e-9:
            break
    out = start.copy()
    out[seen] = x / scale[seen]
    return out
