"""Gossip and exchange: what each gives, what it costs, what stands in, what is refused."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

from simnet.algorithm import Program
from simnet.errors import ProgramError
from simnet.models.topologies.varying import RandomMatching
from simnet.node import Node
from simnet.topology import StaticTopology
from tests.programs import base, go
from tests.verbs import WAYS, Does, Roles, each_way, ends, number


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
