"""The nodes' oracles on tensors: minibatches, first-order gradients, zeroth-order estimates, Hessian-vector products.

Legend: S rows (nodes) of one call, D parameters, B rows of a minibatch, K directions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from simnet import streams
from simnet.book import Book
from simnet.node import Batch
from simnet.valueplane import draws
from simnet.valueplane.device import on
from simnet.valueplane.stopwatch import Stopwatch


class Oracles:
    """Evaluates oracle tasks for any subset of hosts; the same numbers whatever the subset."""

    def __init__(self, book: Book, device: torch.device, dtype: torch.dtype) -> None:
        self.book, self.problem, self.device, self.dtype = book, book.problem, device, dtype
        self.directions_n = np.asarray(book.profiles.directions_N, dtype=np.int64)
        self.smoothing_n = np.asarray(book.profiles.smoothing_N, dtype=np.float64)
        self._nodes: dict[bytes, torch.Tensor] = {}
        self.watch = Stopwatch(device)
        self.remembers = True  # whether the same hosts are asked for again and again

    # ---- what is drawn ---------------------------------------------------------------------------------------------

    def samples(self, ticket: Batch | None, hosts: np.ndarray) -> torch.Tensor | None:
        """Local row numbers (S, B) of each host's minibatch; None for all its rows."""
        if ticket is None:
            return None
        keys, rows = streams.keys(ticket.key, hosts), self.book.samples_n[hosts]
        return draws.samples(keys, rows, ticket.size, self.book.replace, self.device)

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
            answer = torch.zeros_like(operands[-1] if name != "loss" else operands[0][:, 0])
            if len(chosen):
                here = on(self.device, chosen)
                draws_of = (name, _some(ticket, chosen), None, _some_keys(key, chosen))
                part = self.batched(draws_of, [v[here] for v in operands], hosts[chosen], rows[chosen])
                answer[here] = part
            return answer
        mark = self.watch.start()
        answer = self._answers(name, ticket, key, operands, hosts, out)
        self.watch.stop(name, mark, len(hosts))
        return answer

    def _answers(
        self, name: str, ticket: Batch | None, key: Any, operands: list[torch.Tensor], hosts: np.ndarray,
        out: torch.Tensor | None,
    ) -> torch.Tensor:  # fmt: skip
        if name == "gradient":
            zo = self.book.zo_n[hosts]
            if zo.any():
                return self._mixed_gradients(ticket, key, operands[0], hosts, zo)
            return self.problem.gradients(operands[0], self._nodes_of(hosts), self.samples(ticket, hosts), out=out)
        nodes, samples = self._nodes_of(hosts), self.samples(ticket, hosts)
        if name == "hvp":
            return self.problem.hvps(operands[0], operands[1], nodes, samples)
        return self.problem.losses(operands[0], nodes, samples)

    def _mixed_gradients(
        self, ticket: Batch | None, key: Any, x_SD: torch.Tensor, hosts: np.ndarray, zo: np.ndarray
    ) -> torch.Tensor:
        """First-order nodes answer with gradients, the others with their two-point estimates."""
        answer = torch.empty_like(x_SD)
        for of_kind, evaluate in ((~zo, self._first_order), (zo, self._zeroth_order)):
            at = np.flatnonzero(of_kind)
            if len(at):
                index = on(self.device, at)
                answer[index] = evaluate(_some(ticket, at), _some_keys(key, at), x_SD[index], hosts[at])
        return answer

    def _first_order(self, ticket: Batch | None, key: Any, x_SD: torch.Tensor, hosts: np.ndarray) -> torch.Tensor:
        return self.problem.gradients(x_SD, self._nodes_of(hosts), self.samples(ticket, hosts))

    def _zeroth_order(self, ticket: Batch | None, key: Any, x_SD: torch.Tensor, hosts: np.ndarray) -> torch.Tensor:
        """Central two-point estimate, (1/K) sum_k (f(x + nu u_k) - f(x - nu u_k)) / (2 nu) u_k with u_k ~ N(0, I).

        Both points and all directions use the same minibatch (Nesterov and Spokoiny, Found. Comput. Math. 17, 2017).
        Nodes with fewer directions than others sit the later ones out.
        """
        nodes, samples = self._nodes_of(hosts), self.samples(ticket, hosts)
        keys, dim = streams.keys(key, hosts), x_SD.shape[1]
        count, radius = self.directions_n[hosts], self.smoothing_n[hosts]
        nu = on(self.device, radius, self.dtype)
        estimate = torch.zeros_like(x_SD)
        for k in range(int(count.max())):
            u = draws.draw("normal", keys, dim, self.device, start=k * dim).to(self.device, self.dtype)
            step = nu[:, None] * u
            difference = self.problem.losses(x_SD + step, nodes, samples) - self.problem.losses(
                x_SD - step, nodes, samples
            )
            weight = on(self.device, np.where(k < count, 1.0 / count, 0.0), self.dtype)
            estimate += (weight * difference / (2 * nu))[:, None] * u
        return estimate

    # ---- one host: the reference -----------------------------------------------------------------------------------

    def single(self, payload: tuple[Any, ...], operands: list[torch.Tensor], host: int, row: int) -> torch.Tensor:
        """One host's answer by automatic differentiation of its loss; operands are (D,)."""
        name, ticket, mask, key = payload
        if mask is not None and not mask[row]:
            return torch.zeros_like(operands[-1]) if name != "loss" else operands[0].new_zeros(())
        mark = self.watch.start()
        answer = self._single(name, ticket, key, operands, host)
        self.watch.stop(name, mark)
        return answer

    def _single(
        self, name: str, ticket: Batch | None, key: Any, operands: list[torch.Tensor], host: int
    ) -> torch.Tensor:
        hosts = np.array([host])
        drawn = self.samples(ticket, hosts)
        samples, node = None if drawn is None else drawn[0], int(self.book.rank_n[host])

        def loss(x: torch.Tensor) -> torch.Tensor:
            return self.problem.loss(x, node, samples)

        if name == "loss":
            return loss(operands[0])
        if name == "hvp":
            gradient_of = torch.func.grad(loss)
            product: torch.Tensor = torch.func.grad(lambda x: torch.dot(gradient_of(x), operands[1]))(operands[0])
            return product
        if not self.book.zo_n[host]:
            gradient: torch.Tensor = torch.func.grad(loss)(operands[0])
            return gradient
        x, dim, nu, count = operands[0], len(operands[0]), float(self.smoothing_n[host]), int(self.directions_n[host])
        estimate = torch.zeros_like(x)
        for k in range(count):
            u = draws.draw("normal", streams.keys(key, hosts), dim, self.device, start=k * dim)[0].to(x)
            estimate += (loss(x + nu * u) - loss(x - nu * u)) / (2 * nu) * u / count
        return estimate


def _some_keys(key: Any, chosen: np.ndarray) -> Any:
    """The key of chosen rows, where each row has its own."""
    return key[chosen] if isinstance(key, np.ndarray) else key


def _some(ticket: Batch | None, chosen: np.ndarray) -> Batch | None:
    """The ticket of chosen rows."""
    return None if ticket is None else Batch(_some_keys(ticket.key, chosen), ticket.size)
