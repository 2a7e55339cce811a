"""Pools: thousands of flows behind one link as one event, with nothing changed but the work."""

from __future__ import annotations

import numpy as np
import pytest

from simnet.network.flows import state, transfers
from simnet.network.flows.case import Transfers
from simnet.network.flows.links import Links
from simnet.network.flows.models import MODELS, Model, RouteTable, route_table
from simnet.network.flows.moves import add, advance, in_order, next_time, set_capacity, taken
from simnet.network.flows.solve import LAST_STAMP
from simnet.network.flows.state import (
    CONTROL,
    DONE_S,
    DONE_TAG,
    FACTOR,
    FLOWING,
    KEY,
    PHASE,
    SIZE,
    WORK,
    Engine,
    loads_of,
    make_engine,
    rates_of,
    with_longer_routes,
    with_room,
)
from simnet.network.flows.together import MANY
from simnet.network.flows.transfers import run_transfers
from tests.test_flows_together import plainly, two_sides

NEVER = 1 << 40


@pytest.mark.parametrize("seed", range(30))
def test_finish_times_with_small_pools_are_those_of_plain_water_filling(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "FEWEST_POOLED", MANY)
    rng = np.random.default_rng(seed)
    model = Model(
        1.0, 1.0, rng.choice([None, 0.0, 1.0]), rng.choice([np.inf, 0.3, 2.0]), rng.choice([0.0, 0.05, 0.3])
    )  # fmt: skip
    table, flows, route = two_sides(
        rng, int(rng.integers(4, 14)), int(rng.integers(MANY, 6 * MANY)), model, rng.choice([1.0, 2.0, 8.0])
    )  # fmt: skip
    np.testing.assert_allclose(run_transfers(table, route, flows).finish_s, plainly(table, flows), rtol=1e-9)


def across(seed: int, flows: int = 300) -> tuple[RouteTable, Transfers, bool]:
    """Real numbers: two switches, mixed access links, some loss; whether it is TCP."""
    rng = np.random.default_rng(seed)
    hosts = 20
    n = 2 + 2 * hosts
    capacity = np.concatenate((rng.choice([1e7, 2e7], 2), rng.choice([1e7, 3e7, 1e8], 2 * hosts)))
    latency = np.concatenate((np.full(2, 5e-3), rng.choice([0, 1e-3, 1e-2], 2 * hosts)))
    loss = np.zeros(n)
    loss[:2] = rng.choice([0, 1e-3, 1e-2])
    links = Links(
        capacity, latency, np.zeros(n, bool), loss, np.zeros((n, 3)), np.full(n, rng.choice([np.inf, 1e5])),
        tuple(map(str, range(n))),
    )  # fmt: skip
    a = rng.integers(0, hosts, flows)
    b = (a + rng.integers(1, hosts, flows)) % hosts

    def way(i: int, j: int) -> list[int]:
        return [2 + i, *([] if i % 2 == j % 2 else [i % 2]), 2 + hosts + j]

    ends = list(zip(a.tolist(), b.tolist(), strict=True))
    model = MODELS["tcp" if seed % 2 else "lv08"]
    table = route_table(links, [way(i, j) for i, j in ends], [way(j, i) for i, j in ends], model)
    nobody = np.zeros(flows, np.int64)
    size, start = rng.choice([1e4, 3e5, 1e6], flows), rng.uniform(0, 0.5, flows) * (seed % 3 > 0)
    return table, Transfers(nobody, nobody, size, start, np.zeros(flows), [()] * flows), model.tcp


@pytest.mark.parametrize("seed", range(12))
def test_pools_change_no_finish_time_and_no_loss(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    table, flows, tcp = across(seed)
    found = []
    for fewest in (MANY, NEVER):
        monkeypatch.setattr(state, "FEWEST_POOLED", fewest)
        monkeypatch.setattr(transfers, "FIRST_ROOM", 64)  # the engine grows while it has pools
        found.append(run_transfers(table, np.arange(len(flows)), flows, control=int(tcp), draws=7))
    pooled, alone = found
    np.testing.assert_allclose(pooled.finish_s, alone.finish_s, rtol=1e-11)
    np.testing.assert_array_equal(pooled.lost_packets, alone.lost_packets)
    assert pooled.engine.state[WORK] < alone.engine.state[WORK]


def stepped(fewest: int, longer: bool) -> tuple[dict[int, float], int]:
    """When flows end whose middle link changes its capacity, stands still, and goes on; and the largest pool."""
    table, flows, _ = across(2, 200)
    engine: Engine = make_engine(*table, 200)
    engine.state[state.FEWEST], engine.state[CONTROL], engine.state[KEY] = fewest, 0, 0
    changes = [(0.4, 0, 5e6), (0.9, 1, 0.0), (1.4, 1, 3e7), (2.0, 5, 1e6)]
    order = np.argsort(flows.start_s, kind="stable").tolist()
    ended: dict[int, float] = {}
    largest, moved, t = 0, 0.0, 0.0
    while len(ended) < len(flows):
        due = min(next_time(engine), changes[0][0] if changes else np.inf, flows.start_s[order[0]] if order else np.inf)
        live = engine.slot[:, PHASE] == FLOWING
        moved += float(rates_of(engine)[live].sum()) * (due - t)
        assert (loads_of(engine) <= engine.link[:, state.CAPACITY] * (1 + 1e-9) + 1e-6).all()
        largest, t = max(largest, int(engine.chain[:, SIZE].max())), due
        if changes and t == changes[0][0]:
            set_capacity(engine, *changes.pop(0))
            if longer:
                engine = with_longer_routes(with_room(engine, len(engine.flow) + 32), 9)
        for k in range(advance(engine, t)):
            ended[int(engine.slot[k, DONE_TAG])] = engine.flow[k, DONE_S]
        taken(engine)
        while order and flows.start_s[order[0]] <= t:
            add(engine, t, order[0], flows.bytes[order[0]], order.pop(0))
    np.testing.assert_allclose(moved, (flows.bytes / table.route[:, FACTOR]).sum(), rtol=1e-9)
    np.testing.assert_allclose(loads_of(engine), 0.0, atol=1e-6)
    return ended, largest


@pytest.mark.parametrize("longer", [False, True])
def test_pools_go_along_with_changing_capacities_and_what_enters_leaves(longer: bool) -> None:
    pooled, largest = stepped(MANY, longer)
    alone, none = stepped(NEVER, longer)
    assert largest >= MANY and none == 0
    assert pooled.keys() == alone.keys()
    np.testing.assert_allclose([pooled[i] for i in alone], list(alone.values()), rtol=1e-11)


def test_a_thousand_equal_flows_end_in_the_order_in_which_they_began() -> None:
    links = Links(
        np.array([1e6]), np.zeros(1), np.zeros(1, bool), np.zeros(1), np.zeros((1, 3)), np.full(1, np.inf), ("all",)
    )  # fmt: skip
    n = 1000
    table = route_table(links, [[0]] * n, [[0]] * n, MODELS["maxmin"])
    nobody = np.zeros(n, np.int64)
    size = np.full(n, 1e3)
    size[::2] = 2e3
    made = run_transfers(
        table, np.arange(n), Transfers(nobody, nobody, size, np.zeros(n), np.zeros(n), [()] * n)
    )  # fmt: skip
    np.testing.assert_allclose(made.finish_s, np.where(size == 1e3, 1.0, 1.5), rtol=1e-12)
    assert made.engine.state[WORK] < 4 * n  # each flow is settled as it begins, and not again for the others


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 64, 1000])
def test_ended_flows_are_listed_by_their_tags(count: int) -> None:
    slot = np.zeros((count + 1, state.SLOT_COLUMNS), np.int64)
    tags = np.random.default_rng(count).permutation(count) * 3
    slot[:count, DONE_TAG] = tags
    in_order(slot, count)
    np.testing.assert_array_equal(slot[:count, state.DONE_ORDER], np.argsort(tags))


def test_stamps_that_begin_anew_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    table, flows, route = two_sides(rng, 12, 6 * MANY, MODELS["lv08"], 2.0)
    before = run_transfers(table, route, flows).finish_s
    made = transfers.make_engine
    engines: list[Engine] = []

    def late(*given: np.ndarray, **more: int) -> Engine:
        engines.append(made(*given, **more))
        engines[-1].state[state.STAMP] = LAST_STAMP - 20
        return engines[-1]

    monkeypatch.setattr(transfers, "make_engine", late)
    np.testing.assert_array_equal(run_transfers(table, route, flows).finish_s, before)
    assert 0 < engines[0].state[state.STAMP] < LAST_STAMP - 20
