"""Both executors: exact properties of gossip, functions on Values, lifetimes, chunks and draws."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import simnet
import simnet.valueplane
from simnet.algorithm import Algorithm, Program
from simnet.graph import Graph
from simnet.models.problems.quadratic import Quadratic
from simnet.node import Node
from simnet.valueplane.functions import fill_arguments
from tests.programs import Gossips, Masked, RunningSums, Tracks, Tuples, base, go, tiny_data

EXECUTORS = ("batched", "one_by_one")
executors = pytest.mark.parametrize("executor", EXECUTORS)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])


@dataclass(frozen=True)
class Mixes(Algorithm):
    """Gossip alone, from ones or from whole numbers that differ from node to node."""

    mixing: ClassVar[str | None] = None
    connected: ClassVar[bool] = False

    ones: bool = True
    missing: str = "self"
    weights: str = "mixing"
    deadline_s: float | None = None
    sampled: bool = False

    def program(self, node: Node) -> Program:
        x = node.zeros() + 1.0 if self.ones else node.zeros() + node.index * node.index + 3.0
        for _ in node.rounds():
            yield node.gradient(x)
            who = node.sample(k=2) if self.sampled else None
            x = yield node.gossip(x, missing=self.missing, weights=self.weights, deadline_s=self.deadline_s, when=who)
            node.report(x=x)


TOPOLOGIES: list[tuple[str, int, str]] = [
    ("ring", 7, "metropolis"), ("ring", 5, "lazy"), ("path", 5, "metropolis"), ("torus", 12, "metropolis"),
    ("torus", 9, "uniform"), ("hypercube", 8, "metropolis"), ("complete", 6, "metropolis"), ("star", 7, "metropolis"),
    ("star", 6, "max_degree"), ("tree", 10, "metropolis"), ("erdos_renyi", 9, "metropolis"),
    ("random_regular", 10, "uniform"), ("abilene", 11, "metropolis"), ("exponential", 7, "uniform"),
    ("exponential", 9, "row_stochastic"), ("one_peer_exponential", 6, "uniform"), ("random_matching", 7, "metropolis"),
    ("random_matching", 6, "lazy"), ("edgeless", 3, "metropolis"),
]  # fmt: skip
LOSSES: list[dict[str, Any]] = [
    {},
    {"network.link.loss": 0.3, "network.policy": "retry"},
    {"network.link.loss": 0.3, "network.policy": "drop"},
    {"network.link.loss": 0.3, "network.policy": "symmetric"},
    {"algorithm.deadline_s": 0.0071},
    {"algorithm.deadline_s": 0.0071, "network.link.loss": 0.3, "network.policy": "drop", "algorithm.missing": "stale"},
    {"algorithm.sampled": True},
]


def mixing(topology: str, n: int, weights: str, dtype: str, executor: str, **more: Any) -> simnet.Record:
    scenario = base(
        Mixes(), network={"nodes": n, "graph": "complete", "link": {"bandwidth": 1e5, "latency": "5 ms"}},
        topology=topology, mixing=weights, nodes={"step": "10 ms", "jitter": 0.4},
    )  # fmt: skip
    scenario["algorithm"] = {"name": f"{__name__}:Mixes"}
    if topology == "abilene":
        scenario["network"] = {"graph": "abilene", "link": {"bandwidth": 1e5, "latency": "5 ms"}}
    settings_ = {"execution.dtype": dtype, "execution.executor": executor, **more}
    return simnet.run(scenario, set=settings_)


@dtypes
@pytest.mark.parametrize(("topology", "n", "weights"), TOPOLOGIES)
def test_all_ones_stay_all_ones(topology: str, n: int, weights: str, dtype: str) -> None:
    directed = topology in ("exponential", "one_peer_exponential")
    varying = topology in ("one_peer_exponential", "random_matching")
    for loss in LOSSES:
        if directed and loss.get("network.policy") == "symmetric" or varying and "algorithm.missing" in loss:
            continue
        for executor in EXECUTORS:
            record = mixing(topology, n, weights, dtype, executor, **loss)
            assert (record.final["x"] == 1.0).all(), (loss, executor)
            assert record.final["x"].dtype == dtype


@executors
@dtypes
@pytest.mark.parametrize(
    "loss", [{}, *({"network.link.loss": 0.3, "network.policy": p} for p in ("retry", "symmetric"))]
)
@pytest.mark.parametrize(
    ("topology", "n", "weights"),
    [
        ("hypercube", 8, "metropolis"),
        ("random_matching", 8, "metropolis"),
        ("complete", 4, "metropolis"),
        ("one_peer_exponential", 8, "uniform"),
    ],
)
def test_the_mean_of_whole_numbers_is_kept_exactly(
    topology: str, n: int, weights: str, loss: dict[str, Any], dtype: str, executor: str
) -> None:
    if topology == "one_peer_exponential" and loss.get("network.policy") == "symmetric":
        return  # directed: there are no two directions to fail together
    record = mixing(topology, n, weights, dtype, executor, **{"algorithm.ones": False, **loss})
    start = np.arange(n) ** 2 + 3.0
    assert (record.final["x"].sum(0) == start.sum()).all()
    assert (record.final["x"] != start[:, None]).any()


@executors
def test_dropped_messages_do_not_keep_the_mean(executor: str) -> None:
    loss = {"network.link.loss": 0.3, "network.policy": "drop", "algorithm.ones": False}
    record = mixing("hypercube", 8, "metropolis", "float64", executor, **loss)
    assert (record.final["x"].sum(0) != (np.arange(8) ** 2 + 3.0).sum()).all()


@executors
@dtypes
def test_weights_of_the_sender_keep_the_sum(dtype: str, executor: str) -> None:
    more = {"algorithm.weights": "sender", "algorithm.ones": False, "network.link.loss": 0.2}
    record = mixing("exponential", 8, "row_stochastic", dtype, executor, **more)
    assert (record.final["x"].sum(0) == (np.arange(8) ** 2 + 3.0).sum()).all()


@executors
def test_a_value_that_is_infinite_at_a_lost_neighbour_does_no_harm(executor: str) -> None:
    @dataclass(frozen=True)
    class Explodes(Mixes):
        def program(self, node: Node) -> Program:
            x = node.zeros() + 1.0
            for _ in node.rounds():
                bad = torch.where(node.index > 0, x, x / 0.0)
                x = yield node.gossip(bad, deadline_s=0.001)
                x = torch.where(node.index > 0, x, node.zeros() + 1.0)
                node.report(x=x)

    record = go(base(Explodes()), executor=executor)  # every message is later than its deadline
    assert (record.final["x"] == 1.0).all()


def test_a_complete_graph_is_centralised_descent() -> None:
    rng = np.random.default_rng(0)
    a, c = rng.uniform(0.5, 2.0, (5, 3)), rng.normal(size=(5, 3))
    scenario = base(
        Gossips(eta=0.1), network={"graph": nx.complete_graph(5)}, problem=Quadratic.from_arrays(a, c), rounds=30
    )
    x = np.zeros(3)
    for _ in range(30):
        x = x - 0.1 * (a * (x - c)).mean(0)
    for executor in EXECUTORS:
        final = go(scenario, executor=executor).final["x"]
        np.testing.assert_allclose(final, np.tile(x, (5, 1)), rtol=1e-7)


# ---- functions ---------------------------------------------------------------------------------------------------

FUNCTIONS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "scalar times vector": lambda x, s, m: s * x,
    "vector by scalar": lambda x, s, m: x / s - s,
    "number less vector": lambda x, s, m: 1.0 - x,
    "number over vector": lambda x, s, m: 2 / (x * x + 1),
    "number to the vector": lambda x, s, m: 2.0**x,
    "powers": lambda x, s, m: (x**2 + 1) ** 0.5,
    "matrix rows": lambda x, s, m: m * x + s,
    "column of a matrix": lambda x, s, m: m * m[:, :1],
    "matmul": lambda x, s, m: m @ x,
    "transposed matmul": lambda x, s, m: torch.matmul(x, torch.transpose(m, 0, 1)),
    "outer": lambda x, s, m: torch.outer(x, x),
    "dot": lambda x, s, m: torch.dot(x, x) * x,
    "norms": lambda x, s, m: torch.norm(x) + torch.linalg.vector_norm(m, dim=1),
    "largest": lambda x, s, m: torch.amax(x) + torch.max(m),
    "max by column": lambda x, s, m: torch.max(m, dim=0)[0],
    "sums": lambda x, s, m: torch.sum(m, 0) + torch.sum(x),
    "mean of all": lambda x, s, m: torch.mean(m) * x,
    "keepdim": lambda x, s, m: m / torch.sum(m * m, dim=1, keepdim=True),
    "topk values": lambda x, s, m: torch.topk(x, 2)[0],
    "topk indices": lambda x, s, m: torch.topk(torch.abs(x), 2)[1] * 1.0,
    "sort": lambda x, s, m: torch.sort(m, dim=-1)[0],
    "sort first axis": lambda x, s, m: torch.sort(m, dim=0, descending=True)[0],
    "argsort": lambda x, s, m: x[torch.argsort(x)],
    "where": lambda x, s, m: torch.where(x > 0, x, s),
    "where with a number": lambda x, s, m: torch.where(s > 1.5, x, 0.0),
    "mask times number": lambda x, s, m: x - 0.1 * (x > 0),
    "mask logic": lambda x, s, m: ((x > 0) & ~(x > 1) | (x < -1)) * x,
    "clamp": lambda x, s, m: torch.clamp(x, -0.5, 0.5) + torch.clamp(x, min=0.1),
    "minimum": lambda x, s, m: torch.minimum(x, s) + torch.maximum(m, x),
    "softmax": lambda x, s, m: torch.softmax(m, dim=-1),
    "softmax first axis": lambda x, s, m: torch.softmax(m, dim=0),
    "cumsum": lambda x, s, m: torch.cumsum(x, 0),
    "stack": lambda x, s, m: torch.stack([x, x * 2, x - s]),
    "stack last": lambda x, s, m: torch.stack((x, -x), dim=1),
    "cat": lambda x, s, m: torch.cat([x, m[0]]),
    "index": lambda x, s, m: m[1] + x[0],
    "slice": lambda x, s, m: m[:, 1:] * s,
    "negative index": lambda x, s, m: x[-1] * m[..., -1],
    "new axes": lambda x, s, m: x[:, None] * x[None, :],
    "flip": lambda x, s, m: torch.flip(x, (0,)),
    "reshape": lambda x, s, m: torch.reshape(m, (-1,)),
    "elementwise": lambda x, s, m: torch.exp(-x) + torch.log1p(x * x) + torch.tanh(s) + torch.sign(x) * torch.sqrt(s),
    "linear algebra": lambda x, s, m: torch.linalg.solve(
        torch.outer(x, x) + torch.eye(x.shape[0], dtype=torch.float64), x
    ),
    "einsum": lambda x, s, m: torch.einsum("ij,j->i", m, x),
    "constant tensor": lambda x, s, m: x * torch.arange(1.0, x.shape[0] + 1, dtype=torch.float64),
    "functional": lambda x, s, m: torch.nn.functional.softplus(x) + torch.nn.functional.relu(m),
    "integers": lambda x, s, m: (x // 0.3) + (x % 0.7),
    "in place rebinding": lambda x, s, m: x.__add__(s).__sub__(x),
}


@dataclass(frozen=True)
class Computes(Algorithm):
    """One function of a vector, a scalar and a matrix, different at each node."""

    name: str = ""
    connected: ClassVar[bool] = False

    def program(self, node: Node) -> Program:
        x = node.random("x")
        s = 1.0 + torch.linalg.vector_norm(node.random("s"))
        m = node.random("m", shape=(2, x.shape[0]))
        for _ in node.rounds():
            yield node.wait(1.0)
            y = FUNCTIONS[self.name](x, s, m)
            node.report(x=x, s=s, m=m, y=y)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_means_what_it_means_for_one_node(name: str) -> None:
    for n, d in ((3, 3), (2, 3), (4, 5), (1, 2)):  # N == d: a scalar per node is no coordinate; m has 2 rows
        scenario = base(
            Computes(name), network={"nodes": n, "graph": "edgeless"}, problem={"name": "Quadratic", "dim": d}, rounds=1
        )
        finals = [go(scenario, executor="one_by_one").final]
        finals += [go(scenario, executor="batched", execution__chunk_rows=c).final for c in (None, 1, 2)]
        for final in finals:
            for i in range(n):
                x, s, m = (torch.from_numpy(np.asarray(finals[0][k][i])) for k in "xsm")
                expected = FUNCTIONS[name](x, s, m)
                np.testing.assert_allclose(final["y"][i], expected.numpy(), rtol=1e-13, atol=1e-15)


# ---- lifetimes ---------------------------------------------------------------------------------------------------

SLOTS = 4
slot = st.integers(0, SLOTS - 1)
number = st.sampled_from((0.5, -1.0, 2.0, 0.125))
instruction = st.one_of(
    st.tuples(st.just("fma"), slot, slot, slot, number),
    st.tuples(st.just("rfma"), slot, slot, slot, number),
    st.tuples(st.just("add"), slot, slot, slot),
    st.tuples(st.just("mul"), slot, slot, slot),
    st.tuples(st.just("scale"), slot, slot, number),
    st.tuples(st.just("shrink"), slot, slot),
    st.tuples(st.just("copy"), slot, slot),
    st.tuples(st.just("half"), slot, slot),
    st.tuples(st.just("gradient"), slot, slot),
    st.tuples(st.just("gossip"), slot, slot),
    st.tuples(st.just("stale"), slot, slot),
    st.tuples(st.just("filled"), slot, slot, slot),
    st.tuples(st.just("pair"), slot, slot),
    st.tuples(st.just("rows"), slot, slot),
    st.tuples(st.just("start"), slot),
    st.tuples(st.just("finish"), slot),
    st.tuples(st.just("average"), slot, slot),
    st.tuples(st.just("noise"), slot),
)


@dataclass(frozen=True)
class Anything(Algorithm):
    """A few registers and instructions on them, made up by hypothesis: any order of reads, writes and messages."""

    code: tuple[tuple[Any, ...], ...] = ()
    connected: ClassVar[bool] = False

    def program(self, node: Node) -> Program:
        r = [node.random(f"r{i}") for i in range(SLOTS)]
        pending: list[Any] = []
        for _ in node.rounds():
            for k, (name, i, *rest) in enumerate(self.code):
                at = [r[j] for j in rest if isinstance(j, int)]
                verb: dict[str, Any] = {"channel": f"{name}{k}", "deadline_s": 0.0071}
                if name == "fma":
                    r[i] = at[0] - rest[2] * at[1]
                elif name == "rfma":
                    r[i] = at[0] * rest[2] + at[1]
                elif name == "add":
                    r[i] = at[0] + at[1]
                elif name == "mul":
                    r[i] = torch.tanh(at[0]) * at[1]
                elif name == "scale":
                    r[i] = rest[1] * at[0]
                elif name == "shrink":
                    r[i] = at[0] / (1.0 + torch.linalg.vector_norm(at[0]))
                elif name == "copy":
                    r[i] = at[0]
                elif name == "half":
                    r[i] = torch.cat([at[0][1:], at[0][:1]])
                elif name == "gradient":
                    r[i] = yield node.gradient(at[0])
                elif name == "gossip":
                    r[i] = yield node.gossip(at[0], **verb)
                elif name == "stale":
                    r[i] = yield node.gossip(at[0], missing="stale", **verb)
                elif name == "filled":
                    r[i] = yield node.gossip(at[0], missing=at[1], **verb)
                elif name == "pair":
                    r[i], r[rest[0]] = yield node.gossip(r[i], at[0], **verb)
                elif name == "rows":
                    r[i] = torch.sum((yield node.exchange(at[0], **verb)), 0)
                elif name == "start":
                    pending.append(node.start(node.gossip(r[i], **verb)))
                elif name == "finish" and pending:
                    r[i] = yield pending.pop(0)
                elif name == "average":
                    r[i] = yield node.average(at[0])
                elif name == "noise":
                    r[i] = node.random("noise")
            r = [torch.clamp(v, -4.0, 4.0) for v in r]
            yield node.wait(0.01)
            node.report(x=r[0], a=r[1], b=r[2], c=r[3])


@settings(max_examples=150)
@given(
    code=st.lists(instruction, max_size=14), chunk_rows=st.sampled_from((None, 1, 2, 3)), n=st.sampled_from((1, 3, 4))
)
def test_no_buffer_is_overwritten_while_it_is_still_wanted(
    code: list[tuple[Any, ...]], chunk_rows: int | None, n: int
) -> None:
    scenario = base(Anything(tuple(code)), network={"nodes": n, "graph": "path"}, rounds=3, evaluate_every=1,
                    nodes={"step": "10 ms", "jitter": 0.5})  # fmt: skip
    expected = go(scenario, executor="one_by_one").final
    found = go(scenario, executor="batched", execution__chunk_rows=chunk_rows).final
    for name, x in expected.items():
        np.testing.assert_allclose(found[name], x, rtol=1e-12, atol=1e-13, err_msg=name)


@pytest.mark.parametrize(("algorithm", "buffers"), [(Gossips(), 1), (Tracks(), 3)])
def test_the_states_that_an_algorithm_needs_are_the_buffers_that_it_takes(
    algorithm: Algorithm, buffers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    whole = simnet.valueplane.Batched

    class Watched(whole):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self.bank)

    monkeypatch.setattr(simnet.valueplane, "Batched", Watched)
    for rounds in (3, 30):
        go(base(algorithm, rounds=rounds, evaluate_every=rounds, network={"nodes": 40, "graph": "ring"}))
        assert made[-1].made <= buffers + 1  # one more while an evaluation's report is still held


# ---- chunks and draws --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "algorithm", [Tuples(), RunningSums(missing="stale", deadline_s=0.0071), Masked(by_value=True)]
)
@pytest.mark.parametrize("replace", [True, False])
def test_draws_do_not_depend_on_chunks_tier_or_executor(algorithm: Algorithm, replace: bool) -> None:
    problem = {"name": "Softmax", "data": tiny_data(), "split": {"name": "dirichlet", "alpha": 1.0}, "batch": 2,
               "replace": replace}  # fmt: skip
    scenario = base(
        algorithm, problem=problem, network={"nodes": 7, "graph": "ring"}, nodes={"step": "10 ms", "jitter": 0.3}
    )
    reference = go(scenario, "events", "one_by_one").final["x"]
    for tier in ("auto", "events"):
        for chunk_rows in (None, 1, 2, 5, 7):
            x = go(scenario, tier, execution__chunk_rows=chunk_rows).final["x"]
            np.testing.assert_allclose(x, reference, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(go(scenario, "processes", "one_by_one").final["x"], reference, rtol=1e-12, atol=1e-14)


def test_vmap_and_closed_forms_agree_in_a_run() -> None:
    problem = {"name": "Softmax", "data": tiny_data(), "batch": 4, "l2": 0.01}
    scenario = base(Gossips(), problem=problem)
    closed, automatic = (go(scenario, execution__kernels=k).final["x"] for k in ("closed", "vmap"))
    np.testing.assert_allclose(closed, automatic, rtol=1e-11, atol=1e-13)


def test_float32_differs_from_float64_by_rounding_alone() -> None:
    single, double = (go(base(Gossips()), execution__dtype=d).final["x"] for d in ("float32", "float64"))
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(single, double, rtol=1e-5, atol=1e-6)


def test_minibatches_without_replacement_have_no_row_twice() -> None:
    from simnet.valueplane.oracles import Oracles

    class Book:
        replace = False
        samples_n = np.array([5, 9, 4])
        problem = None

        class profiles:
            estimator_N = np.zeros(3, np.int64)

    from simnet.node import Batch

    oracles = Oracles(Book(), torch.device("cpu"), torch.float64)  # type: ignore[arg-type]
    rows = oracles.samples(Batch(1, 4), np.arange(3))
    assert rows is not None
    for host, picked in enumerate(rows.tolist()):
        assert len(set(picked)) == 4
        assert max(picked) < Book.samples_n[host]


def test_operands_in_a_list_die_with_their_last_reader() -> None:
    """The collector of cycles is off during a run: what a cycle holds stays for good."""
    graph = Graph()
    stacked = graph.call(torch.stack, ([graph.add("zeros", shape=(3,)), graph.add("zeros", shape=(3,))],))
    (task,) = [t for t in graph.pending if t.id == stacked.id]
    gc.disable()
    try:
        rows = [torch.zeros(3), torch.ones(3)]
        watched = weakref.ref(rows[0])
        assert fill_arguments(task, rows)[0][0][1] is rows[1]
        del rows
        assert watched() is None
    finally:
        gc.enable()
