"""Messages between single nodes, and roles. Two tiers that follow programs of several roles agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import simnet
from simnet.algorithm import Algorithm, Program
from simnet.errors import ProgramError, ScenarioError, TopologyError
from simnet.node import Node
from tests.programs import base, go
from tests.verbs import LINK, WAYS, BothReport, Roles, each_way, ends, number, roles


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
