"""A model too large to hold: so many parameters, so much FLOP, and no tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np

from simnet.errors import InputError
from simnet.problem import Kernels, Problem
from simnet.units import quantity

if TYPE_CHECKING:
    from torch import Tensor

_LOSS, _HVP = 1 / 3, 2.0  # of a gradient: the forward pass alone; two passes each way


class Declared(Problem):
    """D parameters and the cost of its oracles, for `simnet estimate`: time and bytes, no values.

        flop(gradient, B rows) = B flop_per_sample

    A loss costs a third of a gradient (the forward pass alone) and a Hessian-vector product twice one, unless
    they are given. A transformer of D parameters takes about 6 D FLOP a token for a gradient.

    Args:
        nodes: N.
        parameters: D, such as 7e9.
        flop_per_sample: of a gradient on one row; with units: "4.2 TFLOP". 0 where `nodes.step` says how long.
        loss_flop_per_sample: of a loss on one row.
        hvp_flop_per_sample: of a Hessian-vector product on one row.
        samples: rows at each node, or at each of them.
        dtype: of the parameters.

    Raises InputError for counts that make no sense, and from `prepare`: it cannot be run.
    """

    def __init__(
        self,
        nodes: int,
        *,
        parameters: float,
        flop_per_sample: float | str = 0.0,
        loss_flop_per_sample: float | str | None = None,
        hvp_flop_per_sample: float | str | None = None,
        samples: int | list[int] = 1,
        dtype: Literal["float16", "bfloat16", "float32", "float64"] = "float32",
    ) -> None:
        if parameters < 1 or parameters != int(parameters):
            raise InputError(f"Declared: parameters = {parameters:g}; give a whole number of at least 1, such as 7e9")
        rows = [samples] * nodes if isinstance(samples, int) else samples
        if len(rows) != nodes or min(rows, default=1) < 1:
            raise InputError(
                f"Declared: samples = {samples}; give a whole number of at least 1, or one for each of {nodes} nodes"
            )
        gradient = quantity(flop_per_sample, "flop")
        self._flop = {
            "gradient": gradient,
            "loss": _LOSS * gradient if loss_flop_per_sample is None else quantity(loss_flop_per_sample, "flop"),
            "hvp": _HVP * gradient if hvp_flop_per_sample is None else quantity(hvp_flop_per_sample, "flop"),
        }
        if min(self._flop.values()) < 0:
            raise InputError(f"Declared: flop_per_sample = {flop_per_sample}; a cost is not below 0")
        self.nodes, self.dim, self.samples_N = nodes, int(parameters), np.asarray(rows, np.int64)
        self.wire_dtype = dtype

    def flop(self, oracle: str, samples: np.ndarray | int) -> np.ndarray | float:
        return self._flop[oracle] * np.asarray(samples, np.float64)

    def prepare(self, device: Any, dtype: Any, kernels: Kernels = "closed") -> None:
        self._no_tensors()

    def initial_point(self, name: str) -> np.ndarray:
        self._no_tensors()

    def load(self, device: Any, dtype: Any) -> None:
        self._no_tensors()

    def node_data(self, nodes_S: Tensor, samples_SB: Tensor | None) -> tuple[Tensor, ...]:
        self._no_tensors()

    def data_loss(self, x_D: Tensor, *data: Tensor) -> Tensor:
        self._no_tensors()

    def objectives(self, x_KD: Tensor) -> Tensor:
        self._no_tensors()

    def objective_gradient(self, x_D: Tensor) -> Tensor:
        self._no_tensors()

    def _no_tensors(self) -> NoReturn:
        raise InputError(
            f"a Declared problem ({self.dim:.3g} parameters) has no tensors, so it cannot be run:"
            " use 'simnet estimate', which simulates time and bytes alone, or name a model that fits"
            " (Module, Transformer, MLP)"
        )
