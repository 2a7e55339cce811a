"""Averages, all_gather and read: what each gives, what it costs, what it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

import simnet
from simnet.algorithm import Algorithm, Program
from simnet.errors import ProgramError
from simnet.node import Node
from tests.programs import Sums, base, go
from tests.verbs import LINK, WAYS, Does, agree, each_way, ends, number


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
