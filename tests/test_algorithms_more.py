"""Push-sum, momentum, relays, control variates and late averages, each against a matrix form of itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest

import simnet
from simnet.check import check
from simnet.errors import ScenarioError, TopologyError
from tests import dense
from tests.dense import Array, Gradient, Mix, Quadratics
from tests.test_algorithms import LOSSES, SEVEN, close, lost, run, samples_seen

TREE = nx.from_edgelist((max(0, i - 2), i) for i in range(1, 7))  # arms of 4 and 3 nodes from node 0
ONE_WAY = nx.DiGraph()  # strongly connected, degrees 1 to 3
ONE_WAY.add_nodes_from(range(7))
ONE_WAY.add_edges_from([*((i, (i + 1) % 7) for i in range(7)), (0, 2), (0, 3), (1, 6), (4, 2)])
PUSHED = [loss for loss in LOSSES if loss != "symmetric"]  # there is no other direction to lose
EXECUTORS = ("batched", "one_by_one")


def shares(graph: nx.DiGraph) -> Array:
    """P_ij = 1/(1 + outdegree of j) for j -> i and for j itself."""
    p_NN = nx.to_numpy_array(graph, nodelist=range(len(graph))).T + np.eye(len(graph))
    split: Array = p_NN / p_NN.sum(0)
    return split


def arrivals(record: simnet.Record, n: int) -> Callable[[], Array]:
    """The mask [receiver, sender] of what came in time, exchange by exchange."""
    return iter(list(dense.arrived(record, n))).__next__


# ---- momentum and EXTRA ---------------------------------------------------------------------------------------------


def dsgdm(mix: Mix, gradient: Gradient, x: Array, eta: float, rounds: int) -> Array:
    m = np.zeros_like(x)
    for _ in range(rounds):
        m = 0.9 * m + gradient(x)
        x = mix(x - eta * m)
    return x


def qg_dsgdm(mix: Mix, gradient: Gradient, x: Array, eta: float, rounds: int) -> Array:
    m = np.zeros_like(x)
    for _ in range(rounds):
        before, x = x, mix(x - eta * (0.9 * m + gradient(x)))
        m = 0.9 * m + 0.1 * (before - x) / eta
    return x


def extra(mix: Mix, gradient: Gradient, x: Array, eta: float, rounds: int) -> Array:
    wx = mix(x)
    x_before, g_before, x = x, gradient(x), wx - eta * gradient(x)
    for _ in range(rounds - 1):
        wx_before, wx, g = wx, mix(x), gradient(x)
        x, x_before, g_before = x + wx - (x_before + wx_before) / 2 - eta * (g - g_before), x, g
    return x


GOSSIP = {"DSGDm": dsgdm, "QGDSGDm": qg_dsgdm, "EXTRA": extra}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("algorithm", GOSSIP)
def test_gossip_equals_its_matrix_form(algorithm: str, loss: str) -> None:
    problem = Quadratics.drawn(7, 3)
    record = run(problem, algorithm, loss, graph=SEVEN)
    assert (lost(record) > 0) == (loss not in ("no loss", "retry"))
    mix = dense.mixer(dense.metropolis(SEVEN), record)
    assert close(record.final["x"], GOSSIP[algorithm](mix, problem.gradient, problem.start, 0.2, 12))


def test_without_momentum_there_remains_decentralized_sgd() -> None:
    problem = Quadratics.drawn(7, 3)
    plain = run(problem, "DPSGD", "drop", graph=SEVEN)
    for name in ("DSGDm", "QGDSGDm"):
        assert close(run(problem, name, "drop", graph=SEVEN, fields={"beta": 0.0}).final["x"], plain.final["x"])


def test_extra_hides_the_shorter_of_message_and_gradient() -> None:
    """4 numbers of 4 bytes at 1,000 bytes/s and 5 ms of latency: 21 ms."""
    for step_s in (0.030, 0.010):
        record = run(
            Quadratics.drawn(2, 4), "EXTRA", graph="path", rounds=5, nodes={"step": step_s},
            network={"link": {"bandwidth": "1 kB/s", "latency": "5 ms"}},
        )  # fmt: skip
        assert record.summary["sim_time_s"] == pytest.approx(5 * max(step_s, 0.021), abs=1e-12)


# ---- push-sum -------------------------------------------------------------------------------------------------------


def sgp(p_NN: Array, arrived: Callable[[], Array], gradient: Gradient, u: Array, eta: float, rounds: int) -> Array:
    w = np.ones((len(u), 1))
    for _ in range(rounds):
        kept_NN = np.where(arrived(), p_NN, 0.0)
        u, w = kept_NN @ (u - eta * gradient(u / w)), kept_NN @ w
    return u / w


def sgp_sums(p_NN: Array, arrived: Callable[[], Array], gradient: Gradient, u: Array, eta: float, rounds: int) -> Array:
    """Mass that has been sent on an edge and not heard of yet waits there: no totals, and the same by arithmetic."""
    n, off = len(u), ~np.eye(len(u), dtype=bool)
    w = np.ones((n, 1))
    waiting_NNd = np.zeros((n, n, u.shape[1] + 1))  # [receiver, sender]
    for _ in range(rounds):
        z = np.hstack((u - eta * gradient(u / w), w))
        waiting_NNd += np.where(off[..., None], p_NN[..., None] * z, 0.0)
        came = arrived() & off
        z = np.diag(p_NN)[:, None] * z + np.where(came[..., None], waiting_NNd, 0.0).sum(1)
        waiting_NNd[came] = 0.0
        u, w = z[:, :-1], z[:, -1:]
    return u / w


def push_diging(
    p_NN: Array, arrived: Callable[[], Array], gradient: Gradient, u: Array, eta: float, rounds: int
) -> Array:
    x, w, g = u, np.ones((len(u), 1)), gradient(u)
    y = g
    for _ in range(rounds):
        kept_NN = np.where(arrived(), p_NN, 0.0)
        u, w = kept_NN @ (u - eta * y), kept_NN @ w
        x, before = u / w, g
        g = gradient(x)
        y = kept_NN @ y + g - before
    return x


PUSHING: dict[str, tuple[str, dict[str, Any], Callable[..., Array]]] = {
    "SGP": ("SGP", {}, sgp),
    "SGP with running sums": ("SGP", {"running_sums": True}, sgp_sums),
    "PushDIGing": ("PushDIGing", {}, push_diging),
}


@pytest.mark.parametrize("loss", PUSHED)
@pytest.mark.parametrize("form", PUSHING)
def test_push_methods_equal_their_matrix_form(form: str, loss: str) -> None:
    name, fields, matrix_form = PUSHING[form]
    problem = Quadratics.drawn(7, 3)
    record = run(problem, name, loss, eta=0.05, graph=ONE_WAY, mixing="column_stochastic", fields=fields)
    assert (lost(record) > 0) == (loss not in ("no loss", "retry"))
    expected = matrix_form(shares(ONE_WAY), arrivals(record, 7), problem.gradient, problem.start, 0.05, 12)
    assert close(record.final["x"], expected)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("form", PUSHING)
def test_push_methods_with_as_many_nodes_as_numbers(form: str, executor: str) -> None:
    name, fields, matrix_form = PUSHING[form]
    for d in (6, 7):  # 7 nodes; with the weight, d + 1 numbers travel
        problem = Quadratics.drawn(7, d)
        record = run(
            problem, name, "drop", eta=0.05, graph=ONE_WAY, mixing="column_stochastic", fields=fields,
            execution={"executor": executor},
        )  # fmt: skip
        expected = matrix_form(shares(ONE_WAY), arrivals(record, 7), problem.gradient, problem.start, 0.05, 12)
        assert close(record.final["x"], expected)


def test_running_sums_change_nothing_where_nothing_is_lost() -> None:
    problem = Quadratics.drawn(7, 3)
    graph: dict[str, Any] = {"graph": ONE_WAY, "mixing": "column_stochastic"}
    plain = run(problem, "SGP", **graph)
    assert close(run(problem, "SGP", fields={"running_sums": True}, **graph).final["x"], plain.final["x"])


@pytest.mark.parametrize("topology", ("exponential", "one_peer_exponential"))
def test_push_sum_on_regular_graphs_is_decentralized_sgd(topology: str) -> None:
    problem = Quadratics.drawn(8, 3)
    over: dict[str, Any] = {"graph": "complete", "topology": topology}
    pushed, mixed = (
        run(problem, "SGP", mixing="column_stochastic", **over),
        run(problem, "DPSGD", mixing="uniform", **over),
    )
    assert close(pushed.final["x"], mixed.final["x"])


def test_push_methods_need_weights_that_the_sender_splits() -> None:
    for name in ("SGP", "PushDIGing"):
        with pytest.raises(TopologyError, match=f"{name} needs a column stochastic .* 'mixing: column_stochastic'"):
            run(Quadratics.drawn(7, 3), name, graph=ONE_WAY, mixing="row_stochastic")


def test_push_diging_keeps_the_mean_gradient_unless_a_message_is_dropped() -> None:
    problem = Quadratics.drawn(7, 3)
    graph: dict[str, Any] = {"eta": 0.05, "graph": ONE_WAY, "mixing": "column_stochastic"}
    assert run(problem, "PushDIGing", "retry", **graph).summary["tracker_residual"] < 1e-14
    assert run(problem, "PushDIGing", "drop", **graph).summary["tracker_residual"] > 1e-3


# ---- relays ---------------------------------------------------------------------------------------------------------


def relay_sgd(
    tree: nx.Graph, arrived: Callable[[], Array], gradient: Gradient, x: Array, eta: float, rounds: int
) -> Array:
    n, first = len(x), x
    sums: dict[tuple[int, int], tuple[Array, int]] = {e: (np.zeros(x.shape[1]), 0) for e in tree.to_directed().edges}
    for _ in range(rounds):
        h, old, came = x - eta * gradient(x), dict(sums), arrived()
        for i, j in old:
            if came[j, i]:
                behind = [old[k, i] for k in tree[i] if k != j]
                sums[i, j] = h[i] + sum((s for s, _ in behind), np.zeros(x.shape[1])), 1 + sum(c for _, c in behind)
        heard = [[sums[j, i] for j in tree[i]] for i in range(n)]
        total = np.array([h[i] + sum(s for s, _ in heard[i]) for i in range(n)])
        missing = np.array([[n - 1 - sum(c for _, c in heard[i])] for i in range(n)])
        x = (total + missing * first) / n
    return x


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("loss", LOSSES)
def test_relay_sgd_equals_its_matrix_form(loss: str, executor: str) -> None:
    for d in (3, 6):  # 7 nodes; with the count, d + 1 numbers travel
        problem = Quadratics.drawn(7, d)
        record = run(problem, "RelaySGD", loss, graph=TREE, execution={"executor": executor})
        assert (lost(record) > 0) == (loss not in ("no loss", "retry"))
        expected = relay_sgd(TREE, arrivals(record, 7), problem.gradient, problem.start, 0.2, 12)
        assert close(record.final["x"], expected)


def test_relay_sgd_on_a_tree_over_other_links() -> None:
    problem = Quadratics.drawn(7, 3)
    record = run(problem, "RelaySGD", graph="complete", topology=TREE)
    expected = relay_sgd(TREE, arrivals(record, 7), problem.gradient, problem.start, 0.2, 12)
    assert close(record.final["x"], expected)


def test_relay_sgd_needs_a_tree() -> None:
    problem = Quadratics.drawn(8, 3)
    for topology, words in (
        ("ring", "needs a tree, and this topology of 8 nodes has 8 edges where a tree has 7: take 'topology: path'"),
        ("exponential", "needs an undirected tree that stays the same, and this topology is directed"),
        ("random_matching", "needs an undirected tree that stays the same, and this topology changes"),
    ):
        with pytest.raises(TopologyError, match=f"RelaySGD {words}"):
            run(problem, "RelaySGD", graph="complete", topology=topology)
    with pytest.raises(TopologyError, match="needs a connected topology"):
        run(Quadratics.drawn(5, 3), "RelaySGD", graph=nx.Graph([(0, 1), (2, 3), (3, 4), (2, 4)]))


# ---- averages -------------------------------------------------------------------------------------------------------


def scaffold(gradient: Gradient, x: Array, eta: float, steps: int, samples: list[Array]) -> Array:
    c, own = np.zeros_like(x), np.zeros_like(x)
    for chosen in samples:
        y = x
        for _ in range(steps):
            y = y - eta * (gradient(y) - own + c)
        new = own.copy()
        new[chosen] = (own - c + (x - y) / (steps * eta))[chosen]
        x = np.broadcast_to(y[chosen].mean(0), x.shape)
        c, own = c + (new - own).mean(0), new
    return x


def prox_skip(gradient: Gradient, x: Array, eta: float, p: float, coins: list[bool]) -> Array:
    h = np.zeros_like(x)
    for coin in coins:
        hat = x - eta * (gradient(x) - h)
        x = np.broadcast_to((hat - eta / p * h).mean(0), x.shape) if coin else hat
        h = h + p / eta * (x - hat)
    return x


def overlap(gradient: Gradient, x: Array, eta: float, steps: int, pull: float, beta: float, rounds: int) -> Array:
    z, v = x, np.zeros_like(x)
    for _ in range(rounds):
        late = x.mean(0)
        for _ in range(steps):
            x = x - eta * gradient(x)
        v = beta * v + late - z
        z = z + v
        x = (1 - pull) * x + pull * z
    return x


def delayed(gradient: Gradient, x: Array, eta: float, steps: int, cuts: list[slice], rounds: int) -> Array:
    for _ in range(rounds):
        for cut in cuts:
            late = x[:, cut].mean(0) - x[:, cut]
            for _ in range(steps // len(cuts)):
                x = x - eta * gradient(x)
            x = x.copy()
            x[:, cut] += late
    return x


@pytest.mark.parametrize("clients", (None, 3))
def test_scaffold_equals_its_matrix_form(clients: int | None) -> None:
    for d in (3, 7):
        problem = Quadratics.drawn(7, d)
        record = run(
            problem, "SCAFFOLD", graph=SEVEN, collective={"server": 2}, fields={"steps": 3, "clients": clients}
        )  # fmt: skip
        samples = samples_seen(record, 2, clients or 7)
        assert len(samples) == 12
        assert close(record.final["x"], scaffold(problem.gradient, problem.start, 0.2, 3, samples))


def test_prox_skip_equals_its_matrix_form() -> None:
    problem = Quadratics.drawn(7, 3)
    record = run(problem, "ProxSkip", graph=SEVEN, rounds=40, fields={"p": 0.3}, evaluate_every=1)
    coins = np.diff(record.rounds["messages"], prepend=0.0) > 0
    assert 4 < coins.sum() < 20
    assert record.summary["messages"] == 2 * 6 * coins.sum()
    assert close(record.final["x"], prox_skip(problem.gradient, problem.start, 0.2, 0.3, coins.tolist()))


def test_overlap_local_sgd_equals_its_matrix_form() -> None:
    problem = Quadratics.drawn(7, 3)
    for beta in (0.0, 0.7):
        record = run(problem, "OverlapLocalSGD", graph=SEVEN, fields={"steps": 3, "beta": beta})
        assert close(record.final["x"], overlap(problem.gradient, problem.start, 0.2, 3, 0.6, beta, 12))


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("cuts", ([(0, 5)], [(0, 2), (2, 5)], [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]))
def test_delayed_local_sgd_equals_its_matrix_form(cuts: list[tuple[int, int]], executor: str) -> None:
    problem, steps, f = Quadratics.drawn(7, 5), 10, len(cuts)
    record = run(
        problem, "DelayedLocalSGD", eta=0.05, graph=SEVEN, fields={"steps": steps, "fragments": f},
        execution={"executor": executor},
    )  # fmt: skip
    parts = [slice(a, b) for a, b in cuts]
    assert close(record.final["x"], delayed(problem.gradient, problem.start, 0.05, steps, parts, 12))
    assert sorted(set(record.messages["bytes"].tolist())) == sorted({4 * (b - a) for a, b in cuts})


def test_one_delayed_step_is_gossip_with_the_mean_beside_the_gradient() -> None:
    problem = Quadratics.drawn(7, 3)
    expected = dense.dpsgd_overlap(lambda x: x.mean(0) + 0 * x, problem.gradient, problem.start, 0.2, 12)
    assert close(run(problem, "DelayedLocalSGD", graph=SEVEN).final["x"], expected)


@pytest.mark.parametrize(
    ("name", "fields", "vectors"),
    (
        ("LocalSGD", {}, 1),
        ("SCAFFOLD", {}, 2),
        ("OverlapLocalSGD", {}, 1),
        ("DelayedLocalSGD", {}, 1),
        ("DelayedLocalSGD", {"fragments": 2}, 1),
    ),
)
def test_bytes_and_time_of_averages(name: str, fields: dict[str, Any], vectors: int) -> None:
    """4 numbers of 4 bytes at 1,000 bytes/s and 5 ms each way, up and down: 42 ms, or 26 ms for half of them."""
    for step_s in (0.030, 0.005):
        record = run(
            Quadratics.drawn(2, 4), name, graph="path", rounds=5, nodes={"step": step_s}, fields={"steps": 2, **fields},
            network={"link": {"bandwidth": "1 kB/s", "latency": "5 ms"}},
        )  # fmt: skip
        parts = fields.get("fragments", 1)
        assert record.summary["wire_bytes"] == 5 * 2 * 4 * 4 * vectors
        assert record.summary["messages"] == 5 * 2 * parts
        travel = 2 * (0.005 + 0.016 * vectors / parts)
        stage = 2 * step_s / parts
        late = name in ("OverlapLocalSGD", "DelayedLocalSGD")
        expected = 5 * parts * (max(stage, travel) if late else stage + travel)
        assert record.summary["sim_time_s"] == pytest.approx(expected, abs=1e-12)


# ---- what is promised and refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "params"),
    (("SGP", {"running_sums": True}), ("DelayedLocalSGD", {"steps": 4, "fragments": 2}), ("SCAFFOLD", {"steps": 3})),
)
def test_other_hyper_parameters_meet_the_contract_too(name: str, params: dict[str, Any]) -> None:
    assert [f for f in check(name, params) if f.ok is False] == []


@pytest.mark.parametrize(
    ("name", "fields", "words"),
    (
        ("SCAFFOLD", {"steps": 0}, "at least 1 local step"),
        ("SCAFFOLD", {"clients": 99}, "a sample of 99 of the 4 nodes"),
        ("OverlapLocalSGD", {"steps": 0}, "at least 1 local step"),
        ("OverlapLocalSGD", {"pull": 1.5}, "algorithm.pull = 1.5: a share of the way"),
        ("DelayedLocalSGD", {"steps": 0}, "at least 1 local step"),
        ("DelayedLocalSGD", {"steps": 4, "fragments": 3}, "algorithm.fragments = 3: 4 local steps do not fall into"),
        ("DelayedLocalSGD", {"steps": 4, "fragments": 4}, "algorithm.fragments = 4: the model has only 3 numbers"),
        ("ProxSkip", {"p": 0.0}, "algorithm.p = 0.0: a probability above 0"),
    ),
)
def test_values_out_of_range_are_refused(name: str, fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ScenarioError, match=words):
        run(Quadratics.drawn(4, 3), name, graph="ring", fields=fields)
