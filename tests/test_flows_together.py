"""Many flows behind one link: the engine settles them at once, and a plain solver says whether that is right."""

from __future__ import annotations

import numpy as np
import pytest

from simnet.network.flows.case import Transfers
from simnet.network.flows.links import Links
from simnet.network.flows.models import Model, RouteTable, route_table
from simnet.network.flows.state import BOUND, FACTOR, PENALTY, WAIT_S
from simnet.network.flows.together import MANY
from simnet.network.flows.transfers import run_transfers
from tests.waterfill import finish_times


def two_sides(
    rng: np.random.Generator, hosts: int, flows: int, model: Model, core: float
) -> tuple[RouteTable, Transfers, np.ndarray]:
    """Hosts on both sides of a link each way; flows within a side and across, of few sizes and starts."""
    capacity = np.concatenate(([core, core * rng.choice([1.0, 1.0, 1.5])], rng.choice([5.0, 10.0, 20.0], 2 * hosts)))
    latency = np.concatenate((np.full(2, 0.1), rng.choice([0.0, 0.1, 0.2], 2 * hosts)))
    n = len(capacity)
    names = tuple(map(str, range(n)))
    links = Links(
        capacity, latency, np.zeros(n, bool), np.zeros(n), np.zeros((n, 3)), np.full(n, np.inf), names
    )  # fmt: skip
    a = rng.integers(0, hosts, flows)
    b = (a + rng.integers(1, hosts, flows)) % hosts

    def way(i: int, j: int) -> list[int]:
        middle = [] if i % 2 == j % 2 else [i % 2]
        return [2 + i, *middle, 2 + hosts + j]

    ends = list(zip(a.tolist(), b.tolist(), strict=True))
    table = route_table(links, [way(i, j) for i, j in ends], [way(j, i) for i, j in ends], model)
    nobody = np.zeros(flows, np.int64)
    size, start = rng.choice([1.0, 4.0, rng.uniform(2, 8)], flows), rng.choice([0.0, 0.0, 1.0, 2.5], flows)
    return table, Transfers(nobody, nobody, size, start, np.zeros(flows), [()] * flows), np.arange(flows)


def plainly(table: RouteTable, flows: Transfers) -> np.ndarray:
    """When each flow ends, by the plain solver; flow r takes route r."""
    usage = [
        dict(zip(table.route_link[start:end].tolist(), table.route_share[start:end].tolist(), strict=True))
        for start, end in zip(table.route_start, table.route_start[1:], strict=False)
    ]
    rows = table.route
    return finish_times(
        table.capacity.tolist(), usage, rows[:, PENALTY].tolist(), rows[:, BOUND].tolist(), rows[:, WAIT_S].tolist(),
        (flows.bytes / rows[:, FACTOR]).tolist(), flows.start_s.tolist(),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_finish_times_behind_one_link_are_those_of_plain_water_filling(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = Model(
        1.0, 1.0, rng.choice([None, 0.0, 1.0]), rng.choice([np.inf, 0.3]), rng.choice([0.0, 0.05])
    )  # fmt: skip
    table, flows, route = two_sides(rng, 12, 4 * MANY, model, rng.choice([2.0, 8.0]))
    np.testing.assert_allclose(run_transfers(table, route, flows).finish_s, plainly(table, flows), rtol=1e-9)
