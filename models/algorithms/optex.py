"""OptEx: iterations of a first-order method run side by side, at points that guessed gradients lead to."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from simnet.algorithm import Algorithm, Program
from simnet.errors import ScenarioError
from simnet.first_order import SGD, FirstOrderStep, State, row_of, state_of
from simnet.gaussian_process import GaussianProcess, History, Kernel, Matern52
from simnet.lazy import torch
from simnet.node import Node

if TYPE_CHECKING:
    from simnet.book import Book

Guess = Callable[[Any], Any]


@dataclass(frozen=True)
class _Guessing(Algorithm):
    """What both forms of OptEx share: parameters, the proxy path, the choice at the end of a round."""

    mixing: ClassVar[str | None] = None
    connected: ClassVar[bool] = False
    computing: ClassVar[str] = "worker"  # the role whose members evaluate gradients
    guessing: ClassVar[str] = "the coordinator"

    N: int | None = None  # points a round; None: one for each worker
    T0: int = 20  # pairs of point and gradient kept
    step: FirstOrderStep = SGD()  # STEP
    mode: Literal["optex", "vanilla", "target", "zero", "last_grad"] = "optex"  # what proxy steps follow
    selection: Literal["last", "loss", "grad"] = "last"  # i*
    kernel: Kernel = Matern52()
    ridge: float = 1e-3  # noise over signal, on the diagonal of K
    c: float = 3.0  # length scale in medians of the distances
    length_scale: float | None = None  # a constant one instead
    coordinates: int | None = None  # that distances are taken on, drawn for each fit; None: all

    def __post_init__(self) -> None:
        if self.N is not None and self.N < 1:
            raise ScenarioError("a round evaluates at least 1 point", field="algorithm.N", value=self.N)
        if self.selection != "last" and self.step.counts:
            raise ScenarioError(
                "values would choose between unlike numbers of steps, which this scaling counts: take the step adam, "
                "scaling rmsprop, or selection last", field="algorithm.selection", value=self.selection,
            )  # fmt: skip
        try:
            self.process  # noqa: B018  # its parameters are checked where it is made
        except ScenarioError as error:
            raise error.within("algorithm") from None

    @property
    def process(self) -> GaussianProcess:
        """The estimator of gradients."""
        return GaussianProcess(self.kernel, self.ridge, self.c, self.length_scale, self.coordinates, self.T0)

    def check(self, book: Book) -> None:
        self._points(len(book.members[self.computing]))

    @property
    def condition(self) -> float:
        return 1.0 + self.T0 / self.ridge if self.ridge else float("inf")

    def notes(self, members: Mapping[str, int], dim: int) -> list[str]:
        N, said = self._points(members[self.computing]), []
        if not self._guesses(N):
            return []
        if self.T0 < N:
            said.append(f"T0 = {self.T0} is below N = {N}: a round's own points push each other out of the history, "
                        "and OptEx breaks; T0 of 2 N or more, 4 N is safe")  # fmt: skip
        fit, path = self._flop(self.T0, N, dim)
        if self.mode == "optex":
            said.append(f"a round charges {self.guessing} {fit / 1e6:.4g} MFLOP for the fit and {path / 1e6:.4g} MFLOP "
                        f"for {N - 1} proxy steps")  # fmt: skip
        return said

    # ---- a round ---------------------------------------------------------------------------------------------------

    def _points(self, workers: int) -> int:
        """N. Raises ScenarioError where there are fewer workers."""
        if self.N is not None and workers < self.N:
            raise ScenarioError(
                f"each point of a round goes to a worker of its own, and there are {workers}: lower N, or add hosts",
                field="algorithm.N", value=self.N,
            )  # fmt: skip
        return workers if self.N is None else self.N

    def _guesses(self, N: int) -> bool:
        return N > 1 and self.mode not in ("vanilla", "target")

    def _path(
        self, node: Node, x: Any, state: State, history: History, n: int
    ) -> tuple[list[Any], list[State], Guess | None]:
        """Z_1 = x, ..., Z_n and the states there, n - 1 steps along guesses; and mu."""
        Z, S = [x], [state]
        mu = self._guess(node, history) if n > 1 else None
        while mu is not None and len(Z) < n:
            x, state = self.step.taken(x, state, mu(x))
            Z.append(x)
            S.append(state)
        return Z, S, mu

    def _guess(self, node: Node, history: History) -> Guess:
        """mu, as a function of the point."""
        if self.mode == "zero":
            return torch.zeros_like
        if self.mode == "last_grad":
            latest = history.gradients[-1]
            return lambda z: latest[latest.shape[0] - 1]
        drawn = None if self.coordinates is None else node.random("coordinates", (self.coordinates,), law="uniform")
        return self.process.fit(history, drawn).mean

    def _chosen(self, Z: list[Any], S: list[State], G: Any, losses: Any = None) -> tuple[Any, State]:
        """(Y_i, Q_i) for the i that the selection says: the true step from Z_i."""
        if self.selection == "last" or len(Z) == 1:
            return self.step.taken(Z[-1], S[-1], G[len(Z) - 1])
        steps = [self.step.taken(z, state, G[i]) for i, (z, state) in enumerate(zip(Z, S, strict=True))]
        best = torch.argmin(losses if self.selection == "loss" else torch.linalg.vector_norm(G, dim=1))
        return row_of(best, [y for y, _ in steps]), state_of(best, [q for _, q in steps])

    def _flop(self, kept: int, n: int, dim: int) -> tuple[float, float]:
        """FLOP of a round's fit, and of its proxy steps."""
        per_step, process = self.step.flop(dim), self.process
        if self.mode != "optex":
            return 0.0, (n - 1) * per_step
        return process.fit_flop(kept, n, dim), (n - 1) * (process.mean_flop(kept, dim) + per_step)


@dataclass(frozen=True)
class OptEx(_Guessing):
    """First-order optimization with approximately parallelized iterations.

    Each round, with STEP any first-order rule and mu the mean of a Gaussian process fitted to the history:

        coordinator:  Z_1, S_1 <- x, state;   Z_{s+1}, S_{s+1} <- STEP(Z_s, S_s, mu(Z_s)),  s = 1 .. N - 1
        worker i:     g_i <- a gradient at Z_i, on a minibatch of its own
        coordinator:  Y_i, Q_i <- STEP(Z_i, S_i, g_i);  the history takes (Z_i, g_i), i = 1 .. N, and keeps the last T0;
                      x, state <- Y_i*, Q_i*

    Shapes: x, Z_i, Y_i and g_i (d,). Until the history has two pairs a round is a plain step (N = 1). The record's x is
    the coordinator's.

    Args:
        N: points a round, each to a worker of its own; None for all workers.
        T0: pairs kept; 2 N or more, 4 N is safe, below N it breaks.
        step: STEP: `sgd`, `momentum`, `adam`, or `scaled` with a scaling of SAVIC.
        mode: what proxy steps follow: `optex`, the guess; `zero`, nothing, or `last_grad`, the latest true gradient:
            controls that tell what momentum or larger steps do alone; `vanilla`: N = 1; `target`: true gradients, so N
            steps a round, one after another, and N rounds' time: an ideal in rounds only.
        selection: i* = N (`last`), the least `loss` at Z_i, or the least norm of g_i (`grad`).
        kernel, ridge, c, length_scale, coordinates: of the Gaussian process (`simnet.gaussian_process`); noisy
            gradients need a ridge of 0.1 to 1 and c about 10.
        deadline_s: None: a round waits for all; else for those who answer so soon after the points went out (the first
            at least), i* is the last of them, and who is late gets no new point before its answer has come, which then
            joins the history.

    Roles: one `coordinator` (by default the graph's centre, without data) and the `worker`s.
    Sends, per round, of b-byte numbers: N different points out and N gradients back, 2 N d b, and b more for each loss
    where they select. All pass the coordinator's port. Messages are reliable: nothing stands in for a
    missing message.
    Costs: 2 N T0 d + T0^3/3 FLOP for the fit and 4 T0 d and a STEP for each of the N - 1 proxy steps, charged to the
    coordinator (`node.work`); `nodes: {step: {work: 0 s}}` makes them free.
    Reference: Shu, Fang, He and Yu, "OptEx: Expediting First-Order Optimization with Approximately Parallelized
    Iterations", NeurIPS 2024 (arXiv 2402.11427).
    Departs: the length scale follows the median distance, where the authors' code has a constant after dividing points
    by their mean root length; late answers and the replicated form are ours.

    >>> OptEx(N=4, T0=16).mode
    'optex'
    """

    roles: ClassVar[tuple[str, ...]] = ("coordinator", "worker")
    data_roles: ClassVar[tuple[str, ...]] = ("worker",)

    deadline_s: float | None = None  # how long a round waits; None: for all

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.deadline_s is not None and not 0 < self.deadline_s < float("inf"):
            raise ScenarioError("above 0 and finite; leave it out to wait for all", field="algorithm.deadline_s",
                                value=self.deadline_s)  # fmt: skip
        if self.deadline_s is not None and self.selection != "last":
            raise ScenarioError("under a deadline the last point that was answered is taken: leave it at 'last'",
                                field="algorithm.selection", value=self.selection)  # fmt: skip

    def coordinator(self, node: Node) -> Program:
        x: Any = node.initial("x")
        state, history, workers = self.step.first(x), History(), node.sample("worker").hosts.tolist()
        N, owed = self._points(len(workers)), dict[int, Any]()  # worker -> the point it still has
        told: dict[str, Any] = {}
        for _ in node.rounds():
            if self.mode in ("vanilla", "target"):
                for _ in range(N if self.mode == "target" else 1):
                    yield node.send(x, to=workers[:1])
                    x, state = self.step.taken(x, state, (yield node.receive(workers[:1])))
            elif self.deadline_s is None:
                n = N if len(history) >= 2 else 1
                yield from self._charged(node, history, n, x.shape[0])
                Z, S, mu = self._path(node, x, state, history, n)
                rows: Any = torch.stack(Z)
                yield node.scatter(rows, to=workers[:n])
                G, losses = yield from self._answers(node, workers[:n])
                told = self._told(Z, G, mu)
                x, state = self._chosen(Z, S, G, losses)
                history = self._observed(history, rows, G, N)
            else:
                x, state, history = yield from self._hurried(node, x, state, history, workers, owed, N)
            node.report(x=x, **told)

    def worker(self, node: Node) -> Program:
        while True:
            z, sample = (yield node.receive("coordinator")), node.batch()
            g = yield node.gradient(z, batch=sample)
            if self._tells_loss:
                loss = yield node.oracle("loss", z, batch=sample)
                yield node.send(g, loss, to="coordinator")
            else:
                yield node.send(g, to="coordinator")

    # ---- parts -----------------------------------------------------------------------------------------------------

    @property
    def _tells_loss(self) -> bool:
        return self.selection == "loss" and self.mode not in ("vanilla", "target")

    def _charged(self, node: Node, history: History, n: int, dim: int) -> Program:
        """The time of the fit, then of the proxy steps."""
        if n > 1:
            for flop in self._flop(len(history), n, dim):
                yield node.work(flop)

    def _told(self, Z: list[Any], G: Any, mu: Guess | None) -> dict[str, Any]:
        """What a round reports beside x; a subclass that studies the guesses says more."""
        return {}

    def _answers(self, node: Node, workers: list[int]) -> Generator[Any, Any, tuple[Any, Any]]:
        """The gradients of these workers, (n, d), and their losses where they tell them, (n,)."""
        got = yield node.gather(workers)
        return got if self._tells_loss else (got, None)

    def _observed(self, history: History, Z: Any, G: Any, N: int) -> History:
        """With one point a round nobody asks for it."""
        return self.process.observed(history, Z, G) if N > 1 else history

    def _hurried(
        self, node: Node, x: Any, state: State, history: History, workers: list[int], owed: dict[int, Any], N: int
    ) -> Generator[Any, Any, tuple[Any, State, History]]:
        """A round that waits until the deadline."""
        for host, point in list(owed.items()):  # what has come since; of nobody else, wait for the first
            last = len(owed) == len(workers)
            g = yield node.receive([host], timeout_s=None if last else 0.0)
            if g is not None:
                history = self._observed(history, point[None], g[None], N)
                del owed[host]
        asked = [host for host in workers if host not in owed][: N if len(history) >= 2 else 1]
        yield from self._charged(node, history, len(asked), x.shape[0])
        Z, S, _ = self._path(node, x, state, history, len(asked))
        rows: Any = torch.stack(Z)
        yield node.scatter(rows, to=asked)
        timer = node.start(node.wait(float(self.deadline_s or 0.0)))
        came: list[int] = []
        found: list[Any] = []
        for i, host in enumerate(asked):
            g = yield node.receive([host], until=timer)
            if g is None:
                owed[host] = Z[i]
            else:
                came.append(i)
                found.append(g)
        if not came:
            found.append((yield node.receive(asked[:1])))
            came.append(0)
            del owed[asked[0]]
        x, state = self.step.taken(Z[came[-1]], S[came[-1]], found[-1])
        return x, state, self._observed(history, torch.stack([Z[i] for i in came]), torch.stack(found), N)


@dataclass(frozen=True)
class OptExReplicated(_Guessing):
    """OptEx without a coordinator: every node holds the history and walks the proxy path itself.

        node i:  Z_1, S_1 <- x, state;  Z_{s+1}, S_{s+1} <- STEP(Z_s, S_s, mu(Z_s));  g_i <- a gradient at Z_i
                 g_1 .. g_N from all nodes;  the rest as at the coordinator of `OptEx`

    Shapes: x, Z_i and g_i (d,). Until the history has two pairs only the first node's gradient counts.

    Args:
        N: the number of nodes; None says the same.
        The others are those of `OptEx`; there is no deadline.

    Sends, per round, of b-byte numbers: each node's gradient to all, by the collective's pattern: (N - 1) d b received
    by each node, and b more for each loss where they select. A collective is always reliable, so nothing stands in for
    a missing message. Fit and proxy steps cost every node their time.
    Reference: Shu, Fang, He and Yu, NeurIPS 2024 (arXiv 2402.11427).
    Departs: ours, not the paper's.

    >>> OptExReplicated(T0=16).selection
    'last'
    """

    computing: ClassVar[str] = "node"
    guessing: ClassVar[str] = "each node"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.coordinates is not None:
            raise ScenarioError("nodes would draw unlike coordinates, and walk unlike paths: leave it out",
                                field="algorithm.coordinates", value=self.coordinates)  # fmt: skip

    def _points(self, workers: int) -> int:
        N = super()._points(workers)
        if workers > N:
            raise ScenarioError(f"every one of the {workers} nodes evaluates a point: leave N out", field="algorithm.N",
                                value=self.N)  # fmt: skip
        return N

    def program(self, node: Node) -> Program:
        x: Any = node.initial("x")
        everyone = node.sample()
        first = everyone.mask_n & (np.arange(len(everyone.mask_n)) == everyone.hosts[0])
        state, history, N = self.step.first(x), History(), len(everyone.hosts)
        for _ in node.rounds():
            for _ in range(N if self.mode == "target" else 1):
                n = N if self._guesses(N) and len(history) >= 2 else 1
                for flop in self._flop(len(history), n, x.shape[0]) if n > 1 else ():
                    yield node.work(flop)
                Z, S, _ = self._path(node, x, state, history, n)
                G, losses = yield from self._evaluated(node, Z, first)
                x, state = self._chosen(Z, S, G, losses)
                if self._guesses(N):
                    history = self.process.observed(history, torch.stack(Z), G)
            node.report(x=x)

    def _evaluated(self, node: Node, Z: list[Any], first: np.ndarray) -> Generator[Any, Any, tuple[Any, Any]]:
        """Every node's gradient at its own row, at every node, and the losses where they select."""
        sample = node.batch()
        if len(Z) == 1:
            g = yield node.gradient(Z[0], batch=sample, among=first)
            return (yield node.all_gather(g))[:1], None
        z = row_of(node.index, Z)
        G = yield node.all_gather((yield node.gradient(z, batch=sample)))
        if self.selection != "loss":
            return G, None
        return G, (yield node.all_gather((yield node.oracle("loss", z, batch=sample))))
