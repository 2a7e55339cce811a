"""Every verb: what it gives, what it costs, what it refuses. Two tiers that follow programs of several roles agree."""

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
from simnet.errors import CapabilityError, ProgramError, ScenarioError, TopologyError
from simnet.models.problems.quadratic import Quadratic
from simnet.models.topologies.varying import RandomMatching
from simnet.node import Node
from simnet.record import Record
from simnet.topology import StaticTopology
from tests.programs import Sums, base, go, tiny_data

Body = Callable[[Node], Program]


@dataclass(frozen=True)
class Does(Algorithm):
    """Runs the generator function that it is given."""

    mixing: ClassVar[str | None] = None
    connected: ClassVar[bool] = False

    body: Any = None

    def program(self, node: Node) -> Program:
        yield from self.body(node)


@dataclass(frozen=True)
class Roles(Algorithm):
    """A server and clients."""

    roles: ClassVar[tuple[str, ...]] = ("server", "client")
    mixing: ClassVar[str | None] = None

    first: Any = None
    second: Any = None

    def server(self, node: Node) -> Program:
        yield from self.first(node)
        assert node.report  # a role that nowhere names report makes none

    def client(self, node: Node) -> Program:
        yield from self.second(node)


class BothReport(Roles):
    """Clients report too."""

    def client(self, node: Node) -> Program:
        yield from self.second(node)
        assert node.report


WAYS = (("auto", "batched"), ("events", "batched"), ("events", "one_by_one"), ("processes", "one_by_one"))
LINK = {"bandwidth": 64.0, "latency": 0.125}  # 16 bytes take 0.25 s + 0.125 s


def each_way(body: Body, ways: Any = WAYS, n: int = 3, graph: Any = "ring", **more: Any) -> Record:
    """Run in every tier and executor, check that all agree to the last bit but one, and return one of the records."""
    network = {"nodes": n, "graph": graph, "link": LINK, **more.pop("network", {})}
    if isinstance(graph, nx.Graph):
        del network["nodes"]
    settings: dict[str, Any] = {"problem": {"name": "Quadratic", "dim": 4}, "rounds": 1, "nodes": {"step": 0.5}}
    scenario = base(Does(body), network=network, **({"evaluate_every": 1} | settings | more))
    return agree([go(scenario, *way) for way in ways])


def roles(server: Body, client: Body, n: int = 4, **more: Any) -> Record:
    """The same for a server (host 0 of a star) and clients."""
    network = {"nodes": n, "graph": "star", "link": LINK, **more.pop("network", {})}
    settings: dict[str, Any] = {"problem": {"name": "Quadratic", "dim": 4}, "rounds": 1, "nodes": {"step": 0.5}}
    algorithm = more.pop("kind", Roles)(server, client)
    scenario = base(algorithm, network=network, evaluate_every=1, **(settings | more))
    return agree([go(scenario, *way) for way in (WAYS[0], WAYS[3])])


def agree(records: list[Record]) -> Record:
    for other in records[1:]:
        assert other.outcome == records[0].outcome
        np.testing.assert_array_equal(other.nodes["finish_s"], records[0].nodes["finish_s"])
        np.testing.assert_array_equal(other.rounds["wire_bytes"], records[0].rounds["wire_bytes"])
        assert other.summary["wire_bytes"] == records[0].summary["wire_bytes"]
        assert other.final.keys() == records[0].final.keys()
        for name, value in records[0].final.items():
            np.testing.assert_allclose(other.final[name], value, rtol=1e-13, atol=1e-15, err_msg=name)
    return records[-1]


def ends(record: Record) -> list[float]:
    found: list[float] = record.nodes["finish_s"].tolist()
    return found


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
        "groups": [{"nodes": [1], "oracle": "zo", "estimator": {"directions": 4000, "smoothing": 0.01}}],
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


# ---- gossip and exchange -----------------------------------------------------------------------------------------


def number(node: Node) -> Any:
    """A vector that says whose it is: 1, 2, 4, ..."""
    return node.zeros() + 2.0**node.index


def test_gossip_is_one_message_with_all_its_values() -> None:
    def body(node: Node) -> Program:
        x, y, s = yield node.gossip(number(node), node.zeros((2, 2)) + node.index, node.index + 0.0)
        node.report(x=x, y=y, s=s)

    record = each_way(body)
    np.testing.assert_allclose(record.final["x"], 7 / 3, rtol=1e-15)
    np.testing.assert_allclose(record.final["s"], 1.0, rtol=1e-15)
    assert record.summary["messages"] == 6
    assert record.summary["wire_bytes"] == 6 * 4 * (4 + 4 + 1)


def test_gossip_over_another_topology() -> None:
    graph = nx.Graph()
    graph.add_nodes_from(range(4))
    graph.add_edge(0, 3)

    def body(node: Node) -> Program:
        x = yield node.gossip(number(node), over=graph)
        y = yield node.gossip(number(node), over=StaticTopology(graph))
        pairs = []
        for _ in range(3):
            pairs.append((yield node.gossip(number(node), over="random_matching")))
        node.report(x=x, y=y, a=pairs[0], b=pairs[1], c=pairs[2])

    record = each_way(body, n=4)
    assert record.final["x"][:, 0].tolist() == [4.5, 2, 4, 4.5]
    np.testing.assert_array_equal(record.final["x"], record.final["y"])
    matching = RandomMatching(4, seed=0)
    for k, name in enumerate("abc"):
        other = np.arange(4)
        source, target = matching.edges(k)
        other[target] = source
        np.testing.assert_array_equal(record.final[name][:, 0], (2.0 ** np.arange(4) + 2.0**other) / 2)


def test_topologies_made_anew_at_every_exchange_are_told_apart() -> None:
    def body(node: Node) -> Program:
        x = number(node)
        found = []
        for t in range(6):
            graph = nx.empty_graph(4)
            graph.add_edge(t % 3, 3)
            found.append((yield node.gossip(x, over=StaticTopology(graph))))
        node.report(x=x, y=torch.stack(found)[:, 0])

    x = each_way(body, n=4).final["y"]
    for t in range(6):
        expected = [1.0, 2.0, 4.0, 8.0]
        expected[t % 3] = expected[3] = (2.0 ** (t % 3) + 8) / 2
        assert x[:, t].tolist() == expected


def test_gossip_without_partner_returns_at_once() -> None:
    graph = nx.empty_graph(3)
    graph.add_edge(0, 1)

    def body(node: Node) -> Program:
        x = yield node.gossip(number(node), over=graph)
        node.report(x=x)

    assert ends(each_way(body)) == [0.375, 0.375, 0.0]


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        (lambda n: n.gossip(number(n), weights="sendr"), "weights='sendr': say 'mixing' or 'sender'"),
        (lambda n: n.gossip(number(n), deadline_s=-1.0), "deadline_s=-1.0: .*at least 0"),
        (lambda n: n.gossip(number(n), deadline_s=float("nan")), "deadline_s=nan"),
        (lambda n: n.gossip(number(n), when="all"), "when='all': give a sample, or a mask"),
        (lambda n: n.gossip(number(n), when=[True, False]), "for each of 3 nodes"),
        (lambda n: n.average(number(n), to="al"), "to='al': give a sample, or a mask"),
        (lambda n: n.average(number(n), among=[0, 1, 2]), "among=.* True or False"),
        (lambda n: n.gradient(n.initial("x"), among=[True]), "among=.* for each of 3 nodes"),
        (lambda n: n.send(number(n), to=[77]), "there is no host .77.; they are 0 to 2"),
    ],
)
def test_an_option_that_means_nothing_is_refused(verb: Any, words: str) -> None:
    def body(node: Node) -> Program:
        yield verb(node)
        node.report(x=number(node))

    with pytest.raises(ProgramError, match=words):
        each_way(body)


def test_prescribed_weights_serve_the_members_of_a_role() -> None:
    def wait(node: Node) -> Program:
        for _ in node.rounds():
            yield node.wait(1.0)
            node.report(x=node.initial("x"))

    def mix(node: Node) -> Program:
        for _ in node.rounds():
            yield node.gossip(node.initial("x"))

    scenario = base(Roles(first=wait, second=mix), topology="equi_static")
    assert go(scenario, network__graph="complete").outcome == "finished"


LATE = {"links": [{"from": 1, "to": 0, "latency": 1.0}]}  # node 1's messages to node 0 miss a deadline of 0.5 s


@pytest.mark.parametrize(
    ("missing", "expected"), [("self", 1.0), ("zero", 0.5), ("stale", 1.0), (8.0, 4.5)]
)  # fmt: skip
def test_what_stands_in_for_a_missing_message(missing: Any, expected: float) -> None:
    def body(node: Node) -> Program:
        stand_in = node.zeros() + missing if isinstance(missing, float) else missing
        x = yield node.gossip(number(node), missing=stand_in, deadline_s=0.5)
        node.report(x=x)

    record = each_way(body, n=2, graph="path", network=LATE)
    assert (record.final["x"][0] == expected).all()
    assert (record.final["x"][1] == 1.5).all()
    assert ends(record) == [0.5, 0.375]


def test_stale_is_the_last_that_had_arrived_and_late_ones_replace_it() -> None:
    def body(node: Node) -> Program:
        found = []
        for t in range(5):
            y = yield node.gossip(number(node) * 10.0**t, missing="stale", deadline_s=0.5)
            yield node.wait(0.5)
            found.append(y)
        node.report(x=y, y=torch.stack(found)[:, 0])

    # node 1 sends at 0, 0.875, 1.75, ...; each arrives at node 0 after 1.25 s. Node 0 leaves at 0.5, 1.5, 2.5, ...
    x = each_way(body, n=2, graph="path", network=LATE).final["y"][0]
    mine, theirs = [10.0**t for t in range(5)], [2 * 10.0**t for t in range(5)]
    heard = [None, 0, 1, 2, 3]  # at 1.5 the message of 0.875 is still on its way, that of 0 has come at 1.25
    expected = [mine[0]] + [(mine[t] + theirs[heard[t]]) / 2 for t in range(1, 5)]  # type: ignore[index]
    assert x.tolist() == expected


def test_two_stale_gossips_on_one_line_keep_their_own() -> None:
    def body(node: Node) -> Program:
        a, b = number(node), -number(node)
        how: Any = {"missing": "stale", "deadline_s": 0.5}
        for _ in range(3):
            y, z = yield node.gossip(a, **how), node.gossip(b, **how)
            yield node.wait(2.0)
        node.report(x=y, z=z)

    final = each_way(body, n=2, graph="path", network=LATE).final
    assert (final["x"] == 1.5).all()
    assert (final["z"] == -1.5).all()


def test_when_is_a_sample_a_mask_or_a_value() -> None:
    def body(node: Node) -> Program:
        x = number(node)
        a = yield node.gossip(x, when=[True, True, False])
        b = yield node.gossip(x, when=x[0] < 4)
        chosen = node.sample(k=2)
        c = yield node.gossip(x, when=chosen)
        node.report(x=a, b=b, c=c, m=chosen.mask + 0.0)

    record = each_way(body, graph="complete")
    # weights 1/3 each; who takes part hears its own value where the third would have been
    third = 1 / 3
    expected = [1 * 2 * third + 2 * third, 2 * 2 * third + 1 * third, 4]
    np.testing.assert_allclose(record.final["x"][:, 0], expected, rtol=1e-7)
    np.testing.assert_allclose(record.final["b"][:, 0], expected, rtol=1e-7)
    away = int(np.flatnonzero(record.final["m"] == 0)[0])
    assert (record.final["c"][away] == 2.0**away).all()
    assert record.summary["messages"] == 3 * 2 * 2  # those taking part send to all neighbours, those away do not


def test_nobody_waits_for_one_who_is_known_to_be_away() -> None:
    def body(node: Node) -> Program:
        yield node.wait(1.0)
        x = yield node.gossip(number(node), when=[True, False])
        node.report(x=x)

    record = each_way(body, n=2, graph="path")
    assert ends(record) == [1.0, 1.0]


def test_weights_of_the_sender_split_what_is_sent() -> None:
    def body(node: Node) -> Program:
        x, w = yield node.gossip(number(node), node.zeros(()) + 1.0, weights="sender")
        node.report(x=x, w=w)

    final = each_way(body, graph=nx.DiGraph([(0, 1), (0, 2), (1, 2), (2, 0)]), mixing="row_stochastic").final
    np.testing.assert_allclose(final["x"].sum(0), 7.0, rtol=1e-15)
    np.testing.assert_allclose(final["w"], [1 / 3 + 1 / 2, 1 / 3 + 1 / 2, 1 / 3 + 1 / 2 + 1 / 2], rtol=1e-7)


def test_exchange_gives_one_row_per_in_neighbour_in_node_order() -> None:
    def body(node: Node) -> Program:
        rows, ones = yield node.exchange(number(node), node.index + 0.0)
        node.report(x=torch.sum(rows, 0), r=rows, s=ones)

    record = go(base(Does(body), network={"nodes": 4, "graph": "star"}, rounds=1))
    assert record.final["r"][:, :, 0].tolist() == [[2, 4, 8], [1, 0, 0], [1, 0, 0], [1, 0, 0]]  # padded with zeros
    assert record.final["s"].tolist() == [[1, 2, 3], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert record.summary["wire_bytes"] == 6 * (12 + 4)


def test_exchange_can_send_each_neighbour_a_row_of_its_own() -> None:
    def body(node: Node) -> Program:
        rows = yield node.exchange(number(node))  # (in, d), as many as out-neighbours in an undirected graph
        back = yield node.exchange(100.0 * rows + number(node))
        node.report(x=torch.sum(back, 0))

    x = each_way(body, n=4, graph="star").final["x"][:, 0]
    # node j sends i the row 100 x (what i sent) + its own number
    assert x.tolist() == [300 + 14, 200 + 1, 400 + 1, 800 + 1]


@pytest.mark.parametrize("missing", ["self", "zero", "stale"])
def test_a_missing_row(missing: str) -> None:
    def body(node: Node) -> Program:
        rows = yield node.exchange(number(node), missing=missing, deadline_s=0.5)
        back = yield node.exchange(10.0 * rows, missing=missing, deadline_s=0.5)
        node.report(x=torch.sum(rows, 0), back=torch.sum(back, 0))

    final = each_way(body, n=2, graph="path", network=LATE).final
    assert final["x"][:, 0].tolist() == [0.0 if missing == "zero" else 1.0, 1.0]
    # node 0 heard nothing and sends back what stood for it; its own row for node 1 stands in for that too
    own = 0.0 if missing == "zero" else 10.0
    assert final["back"][:, 0].tolist() == [own, own]


def test_a_value_for_missing_rows_may_differ_by_neighbour() -> None:
    def body(node: Node) -> Program:
        rows = yield node.exchange(number(node))
        filled = yield node.exchange(number(node), missing=-rows, deadline_s=0.001)
        node.report(x=torch.sum(filled, 0))

    assert each_way(body, n=4, graph="star").final["x"][:, 0].tolist() == [-14, -1, -1, -1]


def test_started_verbs_travel_while_the_node_computes() -> None:
    def body(node: Node) -> Program:
        x = number(node)
        first = node.start(node.gossip(x))
        second = node.start(node.exchange(x))
        third = node.start(node.average(x))
        g = yield node.gradient(x)
        rows = yield second
        mixed, mean = yield (first, third)
        node.report(x=mixed, rows=torch.sum(rows, 0), mean=mean, g=g)

    final = each_way(body, n=3).final
    np.testing.assert_allclose(final["mean"], 7 / 3, rtol=1e-15)
    np.testing.assert_array_equal(final["rows"][:, 0], [6, 5, 3])
    np.testing.assert_allclose(final["x"], 7 / 3, rtol=1e-7)


def test_a_pending_handle_gives_its_result_once() -> None:
    def body(node: Node) -> Program:
        pending = node.start(node.gossip(node.initial("x")))
        yield pending
        yield pending

    with pytest.raises(ProgramError, match="gives its result once"):
        each_way(body, ways=WAYS[:1])


# ---- averages ----------------------------------------------------------------------------------------------------


def test_average_among_some_to_all_to_them_or_to_others() -> None:
    def body(node: Node) -> Program:
        x = number(node)
        whole = yield node.average(x)
        some = [True, False, True, False]
        to_all = yield node.average(x, among=some)
        to_them = yield node.average(x, among=some, to="among")
        to_others = yield node.average(x, among=some, to=[False, True, True, False])
        node.report(x=whole, a=to_all, b=to_them, c=to_others)

    record = each_way(body, n=4, collective={"server": 0})
    final = {k: v[:, 0].tolist() for k, v in record.final.items()}
    assert final["x"] == [3.75] * 4
    assert final["a"] == [2.5] * 4
    assert final["b"] == [2.5, 2, 2.5, 8]
    assert final["c"] == [1, 2.5, 2.5, 8]
    up, down = 3 + 1 + 1 + 1, 3 + 3 + 1 + 2
    assert record.summary["messages"] == up + down
    # on the ring of four, host 2 is two links from the server: ups, then downs, of each average
    assert record.summary["wire_bytes"] == 16 * ((4 + 4) + (2 + 4) + (2 + 2) + (2 + 3))


def test_a_node_outside_both_does_not_wait() -> None:
    def body(node: Node) -> Program:
        x = yield node.average(number(node), among=[True, True, False], to="among")
        node.report(x=x)

    record = each_way(body, graph="star", collective={"server": 0})
    assert ends(record) == [0.375, 0.75, 0.0]


def test_several_averages_are_one_message_and_reliable() -> None:
    def body(node: Node) -> Program:
        x, y = yield node.average(number(node), node.zeros((2,)) + node.index)
        node.report(x=x, y=y)

    network = {"policy": "drop", "links": [{"between": [0, 1], "loss": 0.6}]}
    record = each_way(body, graph="star", network=network, collective={"server": 0})
    np.testing.assert_allclose(record.final["y"], 1.0)
    assert record.summary["messages"] == 4
    assert record.summary["lost_messages"] == 0
    assert record.summary["bytes_by_kind"]["payload"] == 4 * 24
    symmetric = {"policy": "symmetric", "link": {**LINK, "loss": 0.5}}
    assert each_way(body, graph="star", network=symmetric, collective={"server": 0}).summary["messages"] == 4


def test_all_gather_gives_every_row_to_everybody() -> None:
    def body(node: Node) -> Program:
        rows = yield node.all_gather(number(node))
        node.report(x=torch.sum(rows, 0), rows=rows)

    record = each_way(body, graph="star", collective={"server": 0})
    for rows in record.final["rows"]:
        assert rows[:, 0].tolist() == [1, 2, 4]
    assert record.summary["wire_bytes"] == 2 * 16 + 2 * 3 * 16


def test_a_number_that_all_hold_can_be_read() -> None:
    record = agree([go(base(Sums()), *way) for way in WAYS])
    assert record.outcome == "finished"


def test_a_number_that_differs_cannot_be_read() -> None:
    def body(node: Node) -> Program:
        yield node.read(node.index + 0.0)

    for way in WAYS[:3]:
        with pytest.raises(ProgramError, match="equal at all nodes"):
            each_way(body, ways=[way])


def test_a_program_of_its_own_numbers_runs_node_by_node() -> None:
    @dataclass(frozen=True)
    class Branches(Does):
        synchronous: ClassVar[bool] = False

        def program(self, node: Node) -> Program:
            x = node.initial("x")
            for _ in node.rounds():
                mine = yield node.read(node.index + 0.0)
                yield node.wait(1.0 if mine > 1 else 2.0)
                node.report(x=x)

    record = go(base(Branches(), network={"nodes": 4, "graph": "ring"}, rounds=2))
    assert record.summary["tier"] == "processes"
    assert ends(record) == [4.0, 4.0, 2.0, 2.0]


# ---- single messages and roles -----------------------------------------------------------------------------------


def test_server_and_clients() -> None:
    def server(node: Node) -> Program:
        x = node.zeros() + 1.0
        for _ in node.rounds():
            chosen = node.sample("client", 2)
            yield node.send(x, to=chosen)
            rows = yield node.gather(chosen)
            x = torch.mean(rows, 0)
            node.report(x=x)

    def client(node: Node) -> Program:
        for _ in node.rounds():
            x = yield node.receive("server")
            yield node.wait(0.5)
            yield node.send(x + node.index + 1.0, to="server")

    record = roles(server, client, rounds=3)
    assert record.nodes["role"].tolist() == ["server", "client", "client", "client"]
    assert record.final["x"].shape == (1, 4)
    # each round: 0.25 and 0.5 on the server's port, 0.125 there, 0.5, and 0.375 back for the later of the two
    assert record.rounds["sim_time_s"].tolist() == [1.5, 3.0, 4.5]
    assert record.rounds["messages"].tolist() == [4, 8, 12]
    assert record.summary["wire_bytes"] == 12 * 16


def test_scatter_gives_each_its_row_and_gather_brings_them_in_order() -> None:
    def server(node: Node) -> Program:
        rows = torch.stack([node.zeros() + 10.0 * k for k in range(3)])
        yield node.scatter(rows, to="client")
        back, numbers = yield node.gather("client")
        node.report(x=torch.sum(back, 0), back=back[:, 0], numbers=numbers)

    def client(node: Node) -> Program:
        row = yield node.receive("server")
        yield node.gradient(row)
        yield node.send(row + node.index, node.index + 0.0, to="server")

    record = roles(server, client)
    assert record.final["back"].tolist() == [[0, 11, 22]]
    assert record.final["numbers"].tolist() == [[0, 1, 2]]
    assert record.summary["wire_bytes"] == 3 * 16 + 3 * 20


def test_receives_take_the_sends_of_a_pair_in_order() -> None:
    def server(node: Node) -> Program:
        found = []
        yield node.wait(10.0)
        for _ in range(3):
            found.append(torch.sum((yield node.gather("client")), 0))
        node.report(x=torch.stack(found)[:, 0] + 0.0 * node.zeros((3,)), y=node.zeros())

    def client(node: Node) -> Program:
        for t in range(3):
            yield node.send(node.zeros() + 10.0**t, to="server")

    final = roles(server, client, n=3, problem={"name": "Quadratic", "dim": 3}).final
    assert final["x"].tolist() == [[2, 20, 200]]


def test_broadcast_reaches_everybody_else() -> None:
    def body(node: Node) -> Program:
        yield node.broadcast(number(node))
        node.report(x=node.zeros())

    record = each_way(body, n=4, graph="complete")
    assert record.summary["messages"] == 12
    assert ends(record) == [0.0] * 4  # done when handed to the port


def test_any_takes_the_earliest() -> None:
    def server(node: Node) -> Program:
        order = []
        for _ in range(3):
            v = yield node.receive("any")
            order.append(v[0])
        node.report(x=node.zeros(), order=torch.stack(order))

    def client(node: Node) -> Program:
        g = yield node.gradient(node.zeros())
        yield node.send(node.zeros() + node.index + 0.0 * g, to="server")

    nodes = {"step": 0.5, "groups": [{"nodes": [1], "step": 4.0}, {"nodes": [2], "step": 2.0}]}
    record = roles(server, client, nodes=nodes)
    assert record.final["order"].tolist() == [[2, 1, 0]]
    assert record.nodes["finish_s"][0] == 4.375
    tie = roles(server, client)
    assert tie.final["order"].tolist() == [[0, 1, 2]]  # in one instant: node order


def test_a_receive_that_times_out_gives_none_and_the_message_can_still_be_taken() -> None:
    seen: list[Any] = []

    def server(node: Node) -> Program:
        first = yield node.receive([1], timeout_s=1.0)
        seen.append(first)
        second = yield node.receive([1])
        node.report(x=second)

    def client(node: Node) -> Program:
        yield node.gradient(node.zeros())
        yield node.send(node.zeros() + 5.0, to="server")

    record = roles(server, client, n=2, nodes={"step": 2.0})
    assert seen == [None, None]  # once in each way
    assert (record.final["x"] == 5).all()
    assert record.nodes["finish_s"][0] == 2.375
    exact = roles(server, client, n=2, nodes={"step": 0.625})  # it arrives at 1.0, with the timeout
    assert seen[2] is not None
    assert exact.outcome.startswith("starved")


def test_a_timeout_in_a_larger_role_needs_a_stand_in() -> None:
    def server(node: Node) -> Program:
        yield node.wait(3.0)
        yield node.send(node.zeros() + 9.0, to="client")
        node.report(x=node.zeros())

    def client(node: Node) -> Program:
        x = yield node.receive("server", timeout_s=1.0, missing=node.zeros() - 1.0)
        y = yield node.receive("server", timeout_s=100.0, missing=node.zeros() - 1.0)
        node.report(x=x + y)

    record = roles(server, client, kind=BothReport)
    assert record.final["x"].tolist() == [[0] * 4] + [[8] * 4] * 3

    def forgets(node: Node) -> Program:
        yield node.receive("server", timeout_s=1.0)

    scenario = base(Roles(server, forgets), network={"nodes": 3, "graph": "star"})
    with pytest.raises(ProgramError, match="needs missing="):
        simnet.run(scenario)


def test_an_unreliable_message_may_be_lost() -> None:
    got: list[bool] = []

    def server(node: Node) -> Program:
        for _ in node.rounds():
            v = yield node.receive([1])
            got.append(v is not None)
            node.report(x=node.zeros() if v is None else v)

    def client(node: Node) -> Program:
        for _ in node.rounds():
            yield node.wait(1.0)
            yield node.send(node.zeros() + 1.0, to="server", reliable=False)

    record = roles(server, client, n=2, rounds=20, network={"policy": "drop", "link": {**LINK, "loss": 0.5}})
    first, second = got[:20], got[20:]
    assert first == second
    assert 3 < sum(first) < 17
    assert record.summary["lost_messages"] == 20 - sum(first)
    got.clear()
    reliable = roles(server, client, n=2, rounds=20, network={"link": {**LINK, "loss": 0.5}})
    assert all(got)
    assert reliable.summary["lost_messages"] == 0


def test_a_lost_message_in_a_larger_role_needs_a_stand_in() -> None:
    def server(node: Node) -> Program:
        for _ in range(8):
            yield node.send(node.zeros() + 1.0, to="client", reliable=False)
            yield node.wait(1.0)
        node.report(x=node.zeros())

    def client(node: Node) -> Program:
        total = node.zeros()
        for _ in range(8):
            total = total + (yield node.receive("server", missing=node.zeros() + 100.0))
        node.report(x=total)

    lossy = {"policy": "drop", "link": {**LINK, "loss": 0.5}}
    totals = roles(server, client, kind=BothReport, network=lossy).final["x"][1:, 0]
    assert ((totals - 8) % 99 == 0).all()
    assert len(set(totals.tolist())) > 1

    def forgets(node: Node) -> Program:
        for _ in range(8):
            yield node.receive("server")

    with pytest.raises(ProgramError, match="missing="):
        roles(server, forgets, network=lossy)


@pytest.mark.parametrize("by_row", [False, True])
def test_a_gather_with_a_timeout_fills_row_by_row(by_row: bool) -> None:
    def server(node: Node) -> Program:
        stand_in = node.zeros((3, 4)) - 1.0 if by_row else node.zeros() - 1.0
        rows = yield node.gather("client", timeout_s=1.0, missing=stand_in)
        node.report(x=torch.sum(rows, 0), rows=rows[:, 0])

    def client(node: Node) -> Program:
        g = yield node.gradient(node.zeros())
        yield node.send(node.zeros() + 5.0 + 0.0 * g, to="server")

    nodes = {"step": 0.5, "groups": [{"nodes": [2], "step": 4.0}]}
    record = roles(server, client, nodes=nodes)
    assert record.final["rows"].tolist() == [[5, -1, 5]]
    assert record.nodes["finish_s"][0] == 1.0


def test_roles_are_given_or_found() -> None:
    def server(node: Node) -> Program:
        yield node.send(node.zeros() + 1.0, to="client")
        node.report(x=node.zeros())

    def client(node: Node) -> Program:
        yield node.receive("server")

    network = {"nodes": 5, "graph": "path"}
    found = go(base(Roles(server, client), network=network, rounds=1))
    assert found.nodes["role"].tolist() == ["client", "client", "server", "client", "client"]
    given = go(base(Roles(server, client), network=network, rounds=1, roles={"server": [4]}))
    assert given.nodes["role"].tolist() == ["client"] * 4 + ["server"]
    for wrong, says in (
        ({"boss": [0]}, "server, client"),
        ({"server": [0], "client": [1]}, "has no role"),
        ({"server": [9]}, "no such host"),
        ({"server": list(range(5))}, "no host is left"),
    ):
        with pytest.raises(ScenarioError, match=says):
            go(base(Roles(server, client), network=network, roles=wrong))


def test_a_lockstep_program_may_send_too() -> None:
    def body(node: Node) -> Program:
        yield node.send(number(node), to=[0])
        node.report(x=node.zeros())

    with pytest.raises(ProgramError, match="sends a message to itself"):
        each_way(body, ways=WAYS[:1])


def test_no_route_is_an_error_that_names_both() -> None:
    def body(node: Node) -> Program:
        x = yield node.average(node.initial("x"))
        node.report(x=x)

    with pytest.raises(TopologyError, match="no route from host"):
        each_way(body, ways=WAYS[:1], graph="edgeless", collective={"server": 0})


def test_nothing_at_all_may_come() -> None:
    def server(node: Node) -> Program:
        rows = yield node.gather("client", timeout_s=0.5, missing=node.zeros() - 1.0)
        one, two = yield node.receive([1], timeout_s=0.5, missing=(node.zeros() + 3.0, node.zeros(()) + 4.0))
        node.report(x=torch.sum(rows, 0) + one + two)

    def client(node: Node) -> Program:
        yield node.wait(100.0)

    assert (roles(server, client).final["x"] == -3 + 3 + 4).all()


def test_all_to_all_by_broadcast_and_gather_leaves_oneself_out() -> None:
    def body(node: Node) -> Program:
        yield node.broadcast(number(node))
        rows = yield node.gather("node")
        node.report(x=torch.sum(rows, 0))

    record = each_way(body, n=4, graph="complete")
    assert record.final["x"][:, 0].tolist() == [14, 13, 11, 7]


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


class Chatter(Algorithm):
    """Host 1 sends to host 0 without being sure; host 0 takes whatever comes."""

    roles = ("hub", "leaf")

    def hub(self, node: Node) -> Program:
        x = node.initial("x")
        for _ in node.rounds():
            x = yield node.receive("any")
            node.report(x=x)

    def leaf(self, node: Node) -> Program:
        x = node.initial("x")
        while True:
            g = yield node.gradient(x)
            x = x - 0.1 * g
            yield node.send(x, to="hub", reliable=False)


@pytest.mark.parametrize("executor", ["batched", "one_by_one"])
def test_a_lost_message_does_not_hide_those_behind_it(executor: str) -> None:
    network = {"nodes": 2, "link": {"loss": 0.5}, "policy": "drop", "loss_unit": "message"}
    scenario = base(Chatter(), network=network, rounds=12, evaluate_every=1)
    record = simnet.run(scenario, set={"execution.executor": executor})
    assert record.outcome == "finished"
    assert record.summary["lost_messages"] > 0
    assert (np.diff(record.rounds["sim_time_s"]) > 0).all()


def test_messages_that_were_taken_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    from simnet.timeplane.mail import Mail

    mails: list[Mail] = []
    settle = Mail.settle
    monkeypatch.setattr(Mail, "settle", lambda self: (mails.append(self), settle(self))[1])
    simnet.run(base("FedAvg", rounds=20))  # type: ignore[arg-type]
    assert sum(len(queue) for queue in mails[0].sent.values()) == 0


class OneStaysAway(Algorithm):
    """Node 0 waits for a message that nobody sends; the others average."""

    synchronous = False

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        me = yield node.read(node.index)
        for _ in node.rounds():
            if me == 0:
                yield node.receive([1])
            x = yield node.average(x)
            node.report(x=x)


@pytest.mark.parametrize("pattern", ["server", "ring", "tree"])
def test_an_average_that_somebody_never_gets_to_starves(pattern: str) -> None:
    record = simnet.run(base(OneStaysAway(), collective={"pattern": pattern}))
    assert record.outcome.startswith("starved: node 0 waits for ever in round 0: it wants a message from 1")
