"""What is minimised: f(x) = (1/N) sum_i f_i(x), with f_i known to node i alone.

A problem has two sides. What stands before `prepare` (names, shapes, sizes, FLOP) serves the time plane and
touches no torch; what stands after it works on tensors. A subclass says what data a call needs (`node_data`)
and what one node's loss on such data is (`data_loss`); losses, gradients and Hessian-vector products of many
nodes at once follow by vmap, or by closed forms where the subclass has them.

Shapes: N nodes; S nodes of one call (each with its own x); D parameters; B rows of a minibatch; K models.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from simnet.lazy import torch
from simnet.oracle import Oracle, first_order

if TYPE_CHECKING:
    from torch import Tensor

FEWEST_NODES = 32
_PIECE_NUMBERS = 1 << 19  # 2 MiB of float32: whole batches that leave the cache were slower
_PIECE_ON_GPU = 1 << 28  # 1 GiB: a GPU wants few large kernels

Kernels = Literal["closed", "vmap", "loop"]


class Problem(ABC):
    """f(x) = (1/N) sum_i f_i(x) over N nodes.

    Attributes:
        nodes: N.
        dim: D.
        samples_N: int64 (N,), rows of data at each node; zeros where f_i is deterministic.
        has_test: whether `validate` has rows to look at.
        kink: a function in the model that bends at points and is straight elsewhere (relu); empty for none.
        closed_forms: whether `closed_losses`, `closed_gradients` and `closed_hvps` are given.
    """

    nodes: int
    dim: int
    samples_N: np.ndarray
    has_test: bool = False
    has_objective: bool = True  # whether `objectives` and `objective_gradient` can be had
    own_objectives: ClassVar[bool] = True  # whether there are `losses`, of x alone
    own_metrics: ClassVar[tuple[str, ...]] = ()  # names of what `state_metrics` may give
    closed_forms: ClassVar[bool] = False
    kink: str = ""  # a function in it that has no second derivative, such as relu
    wire_dtype: str | None = None  # the format of its numbers on the wire, where the problem declares one
    device: Any = None
    dtype: Any = None
    kernels: Kernels = "closed"

    # ---- known without torch ---------------------------------------------------------------------------------------

    def variables(self) -> dict[str, tuple[int, ...]]:
        """Names and per-node shapes of the first Values that a program may ask for."""
        return {"x": (self.dim,)}

    def oracles(self) -> dict[str, Oracle]:
        """What a node may ask for, by name: `gradient`, `loss` and `hvp` of x, unless a subclass says more."""
        return first_order((self.dim,))

    def row_groups(self) -> tuple[np.ndarray, ...]:
        """Rows at each node, int64 (N,), for each group from which a minibatch draws apart: one, of all its rows."""
        return (self.samples_N,)

    def notes(self) -> tuple[str, ...]:
        """What a reader of the results should know of the problem."""
        return ()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The tensors that x consists of, by name, in their order in x; one vector unless a subclass says more."""
        return {"x": (self.dim,)}

    @property
    def slices(self) -> dict[str, slice]:
        """Where each of `shapes` lies in x, so that a method can treat a model layer by layer.

        `x[problem.slices[name]]` is that tensor, flat and row by row.
        """
        sizes = [math.prod(shape) for shape in self.shapes.values()]
        ends = accumulate(sizes)
        return {name: slice(end - size, end) for name, size, end in zip(self.shapes, sizes, ends, strict=True)}

    @abstractmethod
    def flop(self, oracle: str, samples: np.ndarray | int) -> np.ndarray | float:
        """FLOP of one call of `oracle` ("gradient", "loss" or "hvp") on that many rows; 2 for a multiply-add."""

    def flop_of_all(self, oracle: str) -> np.ndarray:
        """FLOP of one call of `oracle` on all rows of each node, (N,)."""
        return np.broadcast_to(np.asarray(self.flop(oracle, self.samples_N), np.float64), (self.nodes,))

    def data_bytes(self, itemsize: int) -> int:
        """Bytes of the data as tensors of that many bytes a number; 0 where a problem has none, or does not say."""
        return 0

    # ---- tensors ---------------------------------------------------------------------------------------------------

    def prepare(self, device: Any, dtype: Any, kernels: Kernels = "closed") -> None:
        """Move the data to `device` in `dtype`; called once before any method below.

        `kernels="vmap"` uses vmap(grad(loss)) even where closed forms exist (they are compared in the tests);
        `kernels="loop"` takes grad(loss) one node at a time, for what vmap cannot batch.
        """
        self.device, self.dtype, self.kernels = torch.device(device), dtype, kernels
        self.load(self.device, dtype)

    @abstractmethod
    def load(self, device: Any, dtype: Any) -> None:
        """Make the tensors that the methods below read."""

    @abstractmethod
    def node_data(self, nodes_S: Tensor, samples_SB: Tensor | None) -> tuple[Tensor, ...]:
        """What the losses of these nodes depend on besides x: tensors whose first axis is S.

        `samples_SB` holds row numbers within each node's own data; None means all rows of each node.
        """

    @abstractmethod
    def data_loss(self, x_D: Tensor, *data: Tensor) -> Tensor:
        """One node's loss, a differentiable scalar; `data` is one entry of what `node_data` returns."""

    def initial(self, name: str) -> Tensor:
        """The first value of variable `name`, common to all nodes, shape (D,): zeros unless a subclass says more."""
        return torch.as_tensor(self.initial_point(name), dtype=self.dtype, device=self.device)

    def initial_point(self, name: str) -> np.ndarray:
        """The first value of variable `name` as float64 of its shape in `variables`, without torch."""
        return np.zeros(self.variables()[name])

    def own_points(self, name: str) -> np.ndarray | None:
        """Each node's own first value of variable `name`, float64 (N, *shape), without torch; None: all nodes begin at
        `initial`.
        """
        return None

    def loss(self, x_D: Tensor, node: int, samples_B: Tensor | None) -> Tensor:
        """f_node(x), one node at a time: the reference that every batched form is checked against."""
        nodes = torch.tensor([node], device=self.device)
        samples = None if samples_B is None else self._indices(samples_B)[None]
        return self.data_loss(x_D, *(part[0] for part in self.node_data(nodes, samples)))

    def losses(self, x_SD: Tensor, nodes_S: Tensor, samples_SB: Tensor | None = None) -> Tensor:
        """f_i(x_i) for each node of `nodes_S`, shape (S,)."""
        out = x_SD.new_empty(len(x_SD))
        form = self.closed_losses if self._closed else self.each(self.data_loss)
        with torch.no_grad():
            for piece, data in self._pieces(nodes_S, samples_SB):
                out[piece] = form(x_SD[piece], *data)
        return out

    def gradients(
        self, x_SD: Tensor, nodes_S: Tensor, samples_SB: Tensor | None = None, out: Tensor | None = None
    ) -> Tensor:
        """The gradient of each f_i at its own x_i, shape (S, D).

        `out`, where given, receives the result: shape (S, D), rows contiguous, sharing no memory with `x_SD`.
        """
        out = torch.empty_like(x_SD) if out is None else out
        with torch.no_grad():
            for piece, data in self._pieces(nodes_S, samples_SB):
                if self._closed:
                    self.closed_gradients(x_SD[piece], *data, out=out[piece])
                else:
                    out[piece] = self.each(torch.func.grad(self.data_loss))(x_SD[piece], *data)
        return out

    def hvps(
        self,
        x_SD: Tensor,
        v_SD: Tensor,
        nodes_S: Tensor,
        samples_SB: Tensor | None = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """Hessian-vector products: the Hessian of each f_i at x_i times v_i, shape (S, D); `out` as in `gradients`."""
        out = torch.empty_like(x_SD) if out is None else out
        with torch.no_grad():
            for piece, data in self._pieces(nodes_S, samples_SB):
                if self._closed:
                    self.closed_hvps(x_SD[piece], v_SD[piece], *data, out=out[piece])
                else:
                    out[piece] = self.each(self._reverse_over_reverse)(x_SD[piece], v_SD[piece], *data)
        return out

    def answers(
        self, oracle: str, operands: list[Tensor], nodes_S: Tensor, samples: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, ...]:
        """What an oracle of the problem's own gives at S nodes: (S, *shape) for each shape that `oracles` declares.

        `samples` holds row numbers (S, B) of a minibatch for each of `row_groups`; None means all rows.
        """
        raise NotImplementedError(f"{type(self).__name__} declares the oracle {oracle!r} and does not answer it")

    def answer(
        self, oracle: str, operands: list[Tensor], node: int, samples: tuple[Tensor, ...] | None
    ) -> tuple[Tensor, ...]:
        """The same of one node, without batches: what `answers` is checked against; by default one row of it."""
        one = None if samples is None else tuple(rows[None] for rows in samples)
        batched = self.answers(oracle, [v[None] for v in operands], self._indices([node]), one)
        return tuple(part[0] for part in batched)

    def state_metrics(self, means: dict[str, Tensor]) -> dict[str, Tensor]:
        """Metrics of its own, scalars; `means` holds the mean over nodes of each of `variables` that was reported."""
        return {}

    @abstractmethod
    def objectives(self, x_KD: Tensor) -> Tensor:
        """f at each of K points, all nodes' data, shape (K,)."""

    @abstractmethod
    def objective_gradient(self, x_D: Tensor) -> Tensor:
        """The gradient of f at one point, shape (D,)."""

    def objective(self, x_D: Tensor) -> Tensor:
        """f(x), a scalar tensor."""
        return self.objectives(x_D[None])[0]

    def optimum(self) -> tuple[Tensor, Tensor] | None:
        """A minimiser x (D,) and f(x) where they are known in closed form, else None."""
        return None

    def validate(self, x_KD: Tensor) -> dict[str, Tensor]:
        """Metrics of K models on test data: `validation_loss`, `accuracy`, each (K,); empty where there is none."""
        return {}

    # ---- closed forms, where a subclass sets `closed_forms` --------------------------------------------------------

    def closed_losses(self, x_SD: Tensor, *data: Tensor) -> Tensor:
        """As vmap(data_loss), by hand."""
        raise NotImplementedError(f"{type(self).__name__} has no closed forms")

    def closed_gradients(self, x_SD: Tensor, *data: Tensor, out: Tensor) -> None:
        """As vmap(grad(data_loss)), written into `out`."""
        raise NotImplementedError(f"{type(self).__name__} has no closed forms")

    def closed_hvps(self, x_SD: Tensor, v_SD: Tensor, *data: Tensor, out: Tensor) -> None:
        """As vmap of reverse over reverse, written into `out`."""
        raise NotImplementedError(f"{type(self).__name__} has no closed forms")

    @property
    def on_gpu(self) -> bool:
        """Whether the tensors are on a CUDA device."""
        return self.device is not None and self.device.type == "cuda"

    # ---- inner functions -------------------------------------------------------------------------------------------

    @property
    def _closed(self) -> bool:
        return self.closed_forms and self.kernels == "closed"

    def each(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """`function` of one node's tensors as a function of all nodes' at once: by vmap, or one by one (`loop`)."""
        if self.kernels != "loop":
            return torch.func.vmap(function)
        return lambda *batched: torch.stack([function(*single) for single in zip(*batched, strict=True)])

    def _indices(self, rows: Any) -> Tensor:
        return torch.as_tensor(rows, dtype=torch.int64, device=self.device)

    def _pieces(self, nodes_S: Tensor, samples_SB: Tensor | None) -> Iterator[tuple[slice, tuple[Tensor, ...]]]:
        """(slice of S, its data) pairs; one piece unless the subclass's `piece_size` asks for more."""
        nodes = self._indices(nodes_S)
        samples = None if samples_SB is None else self._indices(samples_SB)
        size = self.piece_size(None if samples is None else samples.shape[1])
        if size >= len(nodes):
            yield slice(None), self.node_data(nodes, samples)
            return
        for start in range(0, len(nodes), size):
            piece = slice(start, start + size)
            yield piece, self.node_data(nodes[piece], None if samples is None else samples[piece])

    def piece_size(self, batch: int | None) -> int:
        """How many nodes one piece of a call may take, so that its tensors stay in the cache or at least small.

        `batch` is the number of rows of each node, None for all of them.
        """
        return max(FEWEST_NODES, self.numbers_per_piece // self.dim)

    @property
    def numbers_per_piece(self) -> int:
        """How many numbers the largest tensor of a piece should have."""
        return _PIECE_ON_GPU if self.on_gpu else _PIECE_NUMBERS

    def _reverse_over_reverse(self, x_D: Tensor, v_D: Tensor, *data: Tensor) -> Tensor:
        gradient: Callable[..., Tensor] = torch.func.grad(self.data_loss)
        return torch.func.grad(lambda x: (gradient(x, *data) * v_D).sum())(x_D)
