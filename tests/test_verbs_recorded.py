"""What is known when a program is recorded, and oracles: what each gives, costs and refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import networkx as nx
import numpy as np
import pytest
import torch

import simnet
from simnet.algorithm import Algorithm, Program
from simnet.errors import CapabilityError, ProgramError, ScenarioError
from simnet.models.problems.quadratic import Quadratic
from simnet.node import Node
from tests.programs import base, tiny_data
from tests.verbs import WAYS, Does, each_way, ends

# ---- recorded at once --------------------------------------------------------------------------------------------


def test_rounds_count_and_reports_end_them() -> None:
    seen: list[int] = []

    def body(node: Node) -> Program:
        x = node.initial("x")
        for t in node.rounds():
            seen.append(t)
            yield node.wait(1.0)
            node.report(x=x)

    record = each_way(body, ways=WAYS[:1], rounds=4)
    assert seen == [0, 1, 2, 3]
    assert record.rounds["round"].tolist() == [1, 2, 3, 4]
    assert record.nodes["reports"].tolist() == [4, 4, 4]


def test_first_values() -> None:
    def body(node: Node) -> Program:
        x = node.initial("x")
        yield node.wait(1.0)
        node.report(
            x=x, z=node.zeros(), w=node.zeros((2, 3)), i=node.index + 0.0 * node.zeros(()),
            c=node.constant({"fo": 1.5, "zo": 2.5}) + node.zeros(()), k=x + node.constant(7.0),
        )  # fmt: skip

    nodes = {"step": 0.5, "groups": [{"nodes": [1], "oracle": "zo"}]}
    final = each_way(body, nodes=nodes).final
    assert (final["x"] == 0).all()
    assert final["z"].shape == (3, 4)
    assert final["w"].shape == (3, 2, 3)
    assert final["i"].tolist() == [0, 1, 2]
    assert final["c"].tolist() == [1.5, 2.5, 1.5]
    assert (final["k"] == 7).all()


def test_an_unknown_variable_is_refused_with_the_nearest() -> None:
    def body(node: Node) -> Program:
        node.initial("xx")
        yield node.wait(1.0)

    with pytest.raises(ProgramError, match=r"no variable 'xx'; did you mean 'x'"):
        each_way(body, ways=WAYS[:1])


def test_random_values_have_their_law_and_differ_by_node_purpose_and_call() -> None:
    def body(node: Node) -> Program:
        yield node.wait(1.0)
        node.report(
            x=node.initial("x"), n=node.random("a"), again=node.random("a"), other=node.random("b"),
            u=node.random("u", law="uniform"), s=node.random("s", (50,), law="sign"), one=node.random("o", ()),
        )  # fmt: skip

    final = each_way(body).final
    rows = np.concatenate([final[k] for k in ("n", "again", "other")])
    assert len(np.unique(rows)) == rows.size
    assert ((final["u"] >= 0) & (final["u"] < 1)).all()
    assert set(np.unique(final["s"])) == {-1, 1}
    assert final["one"].shape == (3,)


def test_a_coin_is_common_to_all() -> None:
    thrown: list[bool] = []

    def body(node: Node) -> Program:
        for _ in node.rounds():
            heads = node.coin(0.25)
            thrown.append(heads)
            yield node.wait(1.0 if heads else 2.0)
            node.report(x=node.initial("x"))

    record = each_way(body, ways=WAYS[:1], rounds=400, evaluate_every=400)
    assert 70 < sum(thrown) < 130
    assert len(set(ends(record))) == 1
    each_way(body, rounds=20)


def test_a_batch_serves_two_points() -> None:
    def body(node: Node) -> Program:
        x = node.initial("x")
        batch = node.batch(3)
        g = yield node.gradient(x, batch=batch)
        again, h = yield (node.gradient(x, batch=batch), node.hvp(x, g, batch=batch))
        other = yield node.gradient(x)
        node.report(x=x, g=g, again=again, h=h, other=other)

    problem = {"name": "Softmax", "data": tiny_data(), "batch": 4}
    final = each_way(body, problem=problem).final
    np.testing.assert_array_equal(final["g"], final["again"])
    assert (final["g"] != final["other"]).any(axis=1).all()


def test_a_sample_is_known_when_recorded_and_serves_as_a_mask() -> None:
    hosts: list[list[int]] = []

    def body(node: Node) -> Program:
        x = node.initial("x")
        for _ in node.rounds():
            chosen = node.sample(k=2)
            hosts.append(chosen.hosts.tolist())
            yield node.wait(1.0)
            node.report(x=x, m=chosen.mask + 0.0)

    record = each_way(body, ways=WAYS[:1], rounds=60, n=5)
    assert all(len(h) == 2 and h == sorted(h) for h in hosts)
    assert len({tuple(h) for h in hosts}) == 10
    assert np.flatnonzero(record.final["m"]).tolist() == hosts[-1]
    each_way(body, rounds=3)


@pytest.mark.parametrize("k", [0, 4])
def test_a_sample_of_none_or_of_too_many_is_refused(k: int) -> None:
    def body(node: Node) -> Program:
        node.sample(k=k)
        yield node.wait(1.0)

    with pytest.raises(ScenarioError, match=f"a sample of {k} of the 3 nodes"):
        each_way(body, ways=WAYS[:1])


def test_degrees_and_weights_are_those_of_the_topology() -> None:
    def body(node: Node) -> Program:
        rows = yield node.exchange(node.index + node.zeros())
        w = node.weights("in")
        own = 1.0 - torch.sum(w)
        mixed = own * (node.index + node.zeros()) + torch.sum(w[:, None] * rows, 0)
        gossip = yield node.gossip(node.index + node.zeros())
        node.report(x=mixed - gossip, d=node.degree("in") + 0.0, o=node.degree("out") + 0.0)

    record = each_way(body, n=5, graph="star")
    assert np.abs(record.final["x"]).max() < 1e-14
    assert record.final["d"].tolist() == [4, 1, 1, 1, 1]
    directed = each_way(body, graph=nx.DiGraph([(0, 1), (0, 2), (1, 2)]), mixing="row_stochastic")
    assert np.abs(directed.final["x"]).max() < 1e-14
    assert directed.final["d"].tolist() == [0, 1, 2]
    assert directed.final["o"].tolist() == [2, 1, 0]


# ---- oracles -----------------------------------------------------------------------------------------------------


def test_oracles_of_a_quadratic() -> None:
    a, c = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, -1.0], [0.5, 2.0]])

    def body(node: Node) -> Program:
        x = node.zeros() + 2.0
        g = yield node.gradient(x)
        same = yield node.oracle("gradient", x)
        f = yield node.oracle("loss", x)
        h = yield node.hvp(x, g)
        node.report(x=x, g=g, same=same, f=f, h=h)

    final = each_way(body, n=2, graph="path", problem=Quadratic.from_arrays(a, c)).final
    np.testing.assert_allclose(final["g"], a * (2 - c), rtol=1e-15)
    np.testing.assert_array_equal(final["g"], final["same"])
    np.testing.assert_allclose(final["f"], 0.5 * (a * (2 - c) ** 2).sum(1), rtol=1e-15)
    np.testing.assert_allclose(final["h"], a * a * (2 - c), rtol=1e-15)


def test_outside_among_an_oracle_gives_zero_and_takes_no_time() -> None:
    def body(node: Node) -> Program:
        x = node.zeros() + 2.0
        chosen = node.sample(k=1)
        g = yield node.gradient(x, among=chosen)
        f = yield node.oracle("loss", x, among=[True, False, False])
        node.report(x=x, g=g, f=f, m=chosen.mask + 0.0)

    record = each_way(body)
    mask = record.final["m"] > 0
    assert ((record.final["g"] != 0).all(1) == mask).all()
    assert (record.final["f"] != 0).tolist() == [True, False, False]
    np.testing.assert_array_equal(record.nodes["compute_s"], 0.5 * mask + [0.5, 0, 0])


def test_a_zo_node_estimates_at_the_cost_of_its_losses() -> None:
    def body(node: Node) -> Program:
        x = node.zeros() + 2.0
        g = yield node.gradient(x)
        node.report(x=x, g=g)

    nodes = {
        "compute": 16.0,
        "groups": [{"nodes": [1], "oracle": "zo", "estimator": {"rv": 4000, "nu": 0.01}}],
    }
    record = each_way(body, ways=WAYS[:2], problem={"name": "Quadratic", "dim": 4, "heterogeneity": 0}, nodes=nodes)
    assert ends(record) == [0.5, 4000 * 2 * 16 / 16, 0.5]
    exact, estimate = record.final["g"][0], record.final["g"][1]
    assert np.linalg.norm(exact - estimate) < 5 * np.linalg.norm(exact) * np.sqrt(5 / 4000)


def test_a_zo_node_has_no_hessian() -> None:
    def body(node: Node) -> Program:
        x = node.initial("x")
        yield node.hvp(x, x)

    nodes = {"step": 0.5, "groups": [{"nodes": [2], "oracle": "zo"}]}
    with pytest.raises(
        CapabilityError, match="node 2 has only a zeroth-order oracle, and the algorithm asks it for 'hvp'"
    ):
        each_way(body, ways=WAYS[:1], nodes=nodes)


def test_an_algorithm_that_needs_gradients_is_refused_with_the_nodes_name() -> None:
    @dataclass(frozen=True)
    class Needs(Does):
        first_order: ClassVar[bool] = True

    scenario = base(Needs(lambda node: iter(())), nodes={"groups": [{"nodes": [3], "oracle": "zo"}]})
    with pytest.raises(CapabilityError, match="Needs needs first-order nodes, and node 3 is ZO-only"):
        simnet.run(scenario)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda node, x: node.oracle("hessian", x), "no oracle 'hessian'"),
        (lambda node, x: node.gradient(x[0]), r"takes Values of shape \(4,\)"),
        (lambda node, x: node.gradient(1.0), "takes Values, not float"),
        (lambda node, x: x, "'yield' takes a verb such as node.gossip"),
        (lambda node, x: node.gossip(), "needs at least one Value"),
        (lambda node, x: node.gossip(x, missing="nothing"), "say 'self', 'zero', 'stale'"),
        (lambda node, x: node.gossip(x, missing=3.0), "say 'self', 'zero', 'stale'"),
        (lambda node, x: node.wait(-1.0), "at least 0"),
        (lambda node, x: node.read(x), r"gives one number, and this Value has shape \(4,\)"),
        (lambda node, x: node.random("a", law="cauchy") and None, "say 'normal', 'uniform' or 'sign'"),
        (lambda node, x: node.send(x, to="servers"), "no role 'servers'"),
        (lambda node, x: node.start(node.gradient(x)), "start takes one of"),
        (lambda node, x: x + node.gossip(x), "used before it is there: write 'yield node.gossip"),
        (lambda node, x: torch.sum(node.gossip(x)), "write 'yield node.gossip"),
        (lambda node, x: node.gossip(x, missing="stale", over="random_matching"), "stays the same"),
        (lambda node, x: node.average(x, among=[False] * 3), "at least one node in 'among'"),
    ],
)
def test_what_a_program_may_not_ask(ask: Callable[[Node, Any], Any], says: str) -> None:
    def body(node: Node) -> Program:
        yield ask(node, node.initial("x"))

    for way in (WAYS[0], WAYS[2]):
        with pytest.raises(ProgramError, match=says):
            each_way(body, ways=[way])


def test_a_program_that_never_yields_is_refused() -> None:
    @dataclass(frozen=True)
    class Forgets(Does):
        def program(self, node: Node) -> Any:
            node.gossip(node.initial("x"))

    with pytest.raises(ProgramError, match="never yields"):
        simnet.run(base(Forgets()))


def test_a_program_can_treat_a_model_layer_by_layer() -> None:
    @dataclass(frozen=True)
    class Layered(Algorithm):
        def program(self, node: Node) -> Program:
            x = node.initial("x")
            for _ in node.rounds():
                g = yield node.gradient(x)
                parts = [x[part] - 0.1 * (k + 1) * g[part] for k, part in enumerate(node.slices.values())]
                x = torch.cat(parts)  # type: ignore[arg-type,assignment]
                node.report(x=x, g=g)

    problem = {"name": "MLP", "hidden": 4, "data": "digits"}
    record = simnet.run(base(Layered(), problem=problem, rounds=1, evaluate_every=1))
    first = simnet.run(base(Layered(), problem=problem, rounds=1), set={"execution.executor": "one_by_one"})
    np.testing.assert_allclose(record.final["x"], first.final["x"], rtol=1e-12, atol=1e-15)
    start, step = 0, record.final["g"]
    x0 = record.final["x"] + 0  # undo the steps, part by part
    for k, size in enumerate((4 * 64, 4, 10 * 4, 10)):
        x0[:, start : start + size] += 0.1 * (k + 1) * step[:, start : start + size]
        start += size
    assert start == step.shape[1]
    np.testing.assert_allclose(x0, np.tile(x0[0], (len(x0), 1)), rtol=0, atol=1e-12)
