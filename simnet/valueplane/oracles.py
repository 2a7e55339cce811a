"""The nodes' oracles on tensors: minibatches, first-order gradients, zeroth-order estimates, Hessian-vector products.

Legend: S rows (nodes) of one call, D parameters, B rows of a minibatch, K directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch

from simnet import streams
from simnet.book import Book
from simnet.estimator import Estimator
from simnet.node import Batch
from simnet.oracle import STANDARD, Oracle
from simnet.valueplane import draws
from simnet.valueplane.device import on
from simnet.valueplane.stopwatch import Stopwatch

_GROUPS = 0x96F0095D6A0C3B11  # and those of further groups of rows apart from those of the first
_CHI_SQUARE = 0xC415C415C415C415  # sets the streams of chi-square numbers apart from those of directions


class Oracles:
    """Evaluates oracle tasks for any subset of hosts; the same numbers whatever the subset."""

    def __init__(self, book: Book, device: torch.device, dtype: torch.dtype) -> None:
        self.book, self.problem, self.device, self.dtype = book, book.problem, device, dtype
        self._nodes: dict[bytes, torch.Tensor] = {}
        self.watch = Stopwatch(device)
        self.remembers = True  # whether the same hosts are asked for again and again

    @cached_property
    def _declared(self) -> dict[str, Oracle]:
        return self.problem.oracles()

    @cached_property
    def _group_rows(self) -> list[np.ndarray]:
        """Rows of each of the problem's groups at every host."""
        groups = []
        for rows_N in self.problem.row_groups():
            groups.append(np.zeros(self.book.n, np.int64))
            groups[-1][self.book.data_hosts] = rows_N
        return groups

    # ---- what is drawn ---------------------------------------------------------------------------------------------

    def samples(self, ticket: Batch | None, hosts: np.ndarray) -> torch.Tensor | None:
        """Local row numbers (S, B) of each host's minibatch; None for all its rows."""
        if ticket is None:
            return None
        size = self._size(ticket, hosts)
        keys, rows = streams.keys(ticket.key, hosts), self.book.samples_n[hosts]
        return draws.samples(keys, rows, size, self.book.replace, self.device)

    def sample_groups(self, ticket: Batch | None, hosts: np.ndarray) -> tuple[torch.Tensor, ...] | None:
        """The same from each group of the problem's rows, every group with a stream of its own."""
        if ticket is None:
            return None
        keys = streams.keys(ticket.key, hosts)
        apart = (keys, *(streams.keys(_GROUPS + g, keys) for g in range(1, len(self._group_rows))))
        return tuple(
            draws.samples(key, rows_n[hosts], self._size(ticket, hosts), self.book.replace, self.device)
            for key, rows_n in zip(apart, self._group_rows, strict=True)
        )

    def _size(self, ticket: Batch, hosts: np.ndarray) -> int:
        """Rows of the minibatch; callers ask for one kind of node at a time."""
        size = ticket.size
        return size[int(self.book.zo_n[hosts[0]])] if isinstance(size, tuple) else size

    def random(self, payload: tuple[Any, str], hosts: np.ndarray, shape: tuple[int, ...]) -> torch.Tensor:
        """Numbers of a law for each host, shape (S, *shape)."""
        key, law = payload
        count = int(np.prod(shape, dtype=np.int64))
        numbers = draws.draw(law, streams.keys(key, hosts), count, self.device)
        return numbers.view(len(hosts), *shape).to(self.device, self.dtype)

    def _nodes_of(self, hosts: np.ndarray) -> torch.Tensor:
        key = hosts.tobytes()
        found = self._nodes.get(key)
        if found is None:
            if len(self._nodes) > 4096 or not self.remembers:
                self._nodes.clear()
            found = self._nodes[key] = on(self.device, self.book.rank_n[hosts])
        return found

    # ---- many hosts at once ----------------------------------------------------------------------------------------

    def batched(
        self, payload: tuple[Any, ...], operands: list[torch.Tensor], hosts: np.ndarray, rows: np.ndarray,
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """The oracle's answers for `hosts`, the members number `rows` of their role; operands are (S, D)."""
        name, ticket, mask, key = payload
        if mask is not None and not mask[rows].all():
            chosen = np.flatnonzero(mask[rows])
            answer = operands[0].new_zeros(len(rows), *self._declared[name].shape)
            if len(chosen):
                here = on(self.device, chosen)
                draws_of = (name, _some(ticket, chosen), None, _some_keys(key, chosen))
                part = self.batched(draws_of, [v[here] for v in operands], hosts[chosen], rows[chosen])
                answer[here] = part
            return answer
        mark = self.watch.start()
        sorts = self._sorts(name, ticket, hosts)
        if sorts is None:
            answer = self._answers(name, ticket, key, operands, hosts, out)
        else:
            answer = operands[0].new_empty(len(rows), *self._declared[name].shape)
            for sort in np.unique(sorts):
                at = np.flatnonzero(sorts == sort)
                here = on(self.device, at)
                answer[here] = self._answers(
                    name, _some(ticket, at), _some_keys(key, at), [v[here] for v in operands], hosts[at], None
                )
        self.watch.stop(name, mark, len(hosts))
        return answer

    def _sorts(self, name: str, ticket: Batch | None, hosts: np.ndarray) -> np.ndarray | None:
        """A number for each host; those of unlike numbers answer apart. None where all are alike."""
        zo = self.book.zo_n[hosts]
        sized = ticket is not None and isinstance(ticket.size, tuple)
        if not zo.any() or not (sized or name == "gradient"):
            return None
        sorts = np.where(zo, 1 + self.book.profiles.estimator_N[hosts] if name == "gradient" else 1, 0)
        return None if (sorts == sorts[0]).all() else sorts

    def _answers(
        self, name: str, ticket: Batch | None, key: Any, operands: list[torch.Tensor], hosts: np.ndarray,
        out: torch.Tensor | None,
    ) -> torch.Tensor:  # fmt: skip
        """Of hosts that are alike."""
        nodes = self._nodes_of(hosts)
        if name not in STANDARD:
            return _whole(self.problem.answers(name, operands, nodes, self.sample_groups(ticket, hosts)), 1)
        samples = self.samples(ticket, hosts)
        if name == "gradient" and self.book.zo_n[hosts[0]]:
            ask = _Many(self, streams.keys(key, hosts), operands[0].shape[1], nodes, samples)
            return self._estimator(hosts[0]).estimate(ask, operands[0])
        if name == "gradient":
            return self.problem.gradients(operands[0], nodes, samples, out=out)
        if name == "hvp":
            return self.problem.hvps(operands[0], operands[1], nodes, samples)
        return self.problem.losses(operands[0], nodes, samples)

    def _estimator(self, host: int) -> Estimator:
        return self.book.profiles.estimators[int(self.book.profiles.estimator_N[host])]

    # ---- one host: the reference -----------------------------------------------------------------------------------

    def single(self, payload: tuple[Any, ...], operands: list[torch.Tensor], host: int, row: int) -> torch.Tensor:
        """One host's answer by automatic differentiation of its loss; operands are (D,)."""
        name, ticket, mask, key = payload
        if mask is not None and not mask[row]:
            return operands[0].new_zeros(self._declared[name].shape)
        mark = self.watch.start()
        answer = self._single(name, ticket, key, operands, host)
        self.watch.stop(name, mark)
        return answer

    def _single(
        self, name: str, ticket: Batch | None, key: Any, operands: list[torch.Tensor], host: int
    ) -> torch.Tensor:
        hosts = np.array([host])
        if name not in STANDARD:
            groups = self.sample_groups(ticket, hosts)
            rows = None if groups is None else tuple(group[0] for group in groups)
            return _whole(self.problem.answer(name, operands, int(self.book.rank_n[host]), rows), 0)
        drawn = self.samples(ticket, hosts)
        samples, node = None if drawn is None else drawn[0], int(self.book.rank_n[host])

        def loss(x: torch.Tensor) -> torch.Tensor:
            return self.problem.loss(x, node, samples)

        if name == "loss":
            return loss(operands[0])
        if name == "hvp":
            return _hessian_times(loss, operands[0], operands[1])
        if not self.book.zo_n[host]:
            return _gradient(loss, operands[0])
        ask = _One(self, streams.keys(key, hosts), len(operands[0]), loss)
        return self._estimator(host).estimate(ask, operands[0][None])[0]


class _Drawn:
    """The random numbers of an estimate at S hosts; direction k is the numbers k D .. (k + 1) D - 1 of each stream."""

    _BLOCK = 1 << 19  # numbers of a block of directions

    def __init__(self, oracles: Oracles, keys_S: np.ndarray, dim: int) -> None:
        self._oracles, self._keys, self._dim = oracles, keys_S, dim

    @property
    def slices(self) -> Mapping[str, slice]:
        return self._oracles.problem.slices

    def _draw(self, law: str, k: int, count: int) -> torch.Tensor:
        drawn = draws.draw(law, self._keys, count * self._dim, self._oracles.device, start=k * self._dim)
        return drawn.to(self._oracles.device, self._oracles.dtype)

    def normal(self, k: int) -> torch.Tensor:
        return self._draw("normal", k, 1)

    def sign(self, k: int) -> torch.Tensor:
        return self._draw("sign", k, 1)

    def normals(self, count: int) -> Iterator[torch.Tensor]:
        block = max(1, self._BLOCK // (len(self._keys) * self._dim))
        for k in range(0, count, block):
            here = min(block, count - k)
            yield self._draw("normal", k, here).view(len(self._keys), here, self._dim)

    def chi_square(self, degrees: int) -> torch.Tensor:
        apart = streams.keys(_CHI_SQUARE, self._keys)
        return on(self._oracles.device, streams.chi_square(apart, degrees), self._oracles.dtype)


class _Many(_Drawn):
    """What an estimator asks of many hosts at once."""

    def __init__(
        self, oracles: Oracles, keys_S: np.ndarray, dim: int, nodes_S: torch.Tensor, samples_SB: torch.Tensor | None
    ) -> None:
        super().__init__(oracles, keys_S, dim)
        self._nodes, self._samples = nodes_S, samples_SB

    def losses(self, x_SD: torch.Tensor) -> torch.Tensor:
        return self._oracles.problem.losses(x_SD, self._nodes, self._samples)

    def gradients(self, x_SD: torch.Tensor) -> torch.Tensor:
        return self._oracles.problem.gradients(x_SD, self._nodes, self._samples)


class _One(_Drawn):
    """The same of one host, by its own loss."""

    def __init__(
        self, oracles: Oracles, keys_S: np.ndarray, dim: int, loss: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        super().__init__(oracles, keys_S, dim)
        self._loss = loss

    def losses(self, x_SD: torch.Tensor) -> torch.Tensor:
        return self._loss(x_SD[0])[None]

    def gradients(self, x_SD: torch.Tensor) -> torch.Tensor:
        return _gradient(self._loss, x_SD[0])[None]


def _gradient(loss: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """By plain autograd, as a training loop would: torch.func takes some 300 us more a call, and leaves cycles."""
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(at), at)
    return gradient


def _hessian_times(loss: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Reverse over reverse; zeros where the gradient does not depend on x."""
    with torch.enable_grad():
        at = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(at), at, create_graph=True)
        if not gradient.requires_grad:
            return torch.zeros_like(x)
        (product,) = torch.autograd.grad(torch.dot(gradient, v.detach()), at, allow_unused=True)
    return torch.zeros_like(x) if product is None else product


def _whole(parts: tuple[torch.Tensor, ...], axis: int) -> torch.Tensor:
    """Several answers as one, flat beyond the node axis."""
    return parts[0] if len(parts) == 1 else torch.cat([part.flatten(axis) for part in parts], axis)


def _some_keys(key: Any, chosen: np.ndarray) -> Any:
    """The key of chosen rows, where each row has its own."""
    return key[chosen] if isinstance(key, np.ndarray) else key


def _some(ticket: Batch | None, chosen: np.ndarray) -> Batch | None:
    """The ticket of chosen rows."""
    return None if ticket is None else Batch(_some_keys(ticket.key, chosen), ticket.size)
