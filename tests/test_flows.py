"""The flow engine: SimGrid's finish times, a plain solver's, and what must hold exactly."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simnet.errors import InputError, ScenarioError, TopologyError, UnknownName
from simnet.network.flows import transfers
from simnet.network.flows.case import Transfers
from simnet.network.flows.links import Links
from simnet.network.flows.models import MODELS, Model, RouteTable, route_table
from simnet.network.flows.moves import add, advance, next_time, set_capacity, taken
from simnet.network.flows.state import (
    BOUND,
    DONE_S,
    DONE_TAG,
    FLOWING,
    PENALTY,
    PHASE,
    TAG,
    WAIT_S,
    loads_of,
    make_engine,
    rates_of,
)
from simnet.network.flows.transfers import TransferTimes, run_transfers, transfer_times
from tests.shared import ROOT
from tests.waterfill import finish_times

SIMGRID = sorted((ROOT / "tests" / "reference" / "simgrid").glob("*.json"))
TCP = sorted((ROOT / "tests" / "reference" / "real_tcp").glob("*.json"))
SIMGRID_MODELS = ("maxmin", "cm02", "lv08", "lv08_noxt")


# ---- SimGrid ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SIMGRID, ids=lambda path: path.stem)
def test_every_finish_time_is_simgrids(path: Path) -> None:
    case = json.loads(path.read_text())
    for model in SIMGRID_MODELS:
        ours = transfer_times(path, model)
        np.testing.assert_allclose(ours.finish_s, case["simgrid"][model]["finish"], rtol=1e-9, err_msg=model)
        np.testing.assert_allclose(ours.start_s, case["simgrid"][model]["start"], rtol=1e-9, atol=1e-12)


def test_all_cases_are_there() -> None:
    assert len(SIMGRID) == 42


# ---- the plain solver -----------------------------------------------------------------------------------------------


@st.composite
def platforms(draw: st.DrawFn) -> tuple[RouteTable, Transfers, np.ndarray]:
    """Links, routes over them (some under cross traffic), and flows that come and go."""
    links, routes = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    bandwidth = np.array(draw(st.lists(st.sampled_from([1.0, 2.0, 3.0, 10.0]), min_size=links, max_size=links)))
    latency = np.array(draw(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.5]), min_size=links, max_size=links)))
    way = st.lists(st.integers(0, links - 1), min_size=1, max_size=4, unique=True)
    forward, backward = (
        draw(st.lists(way, min_size=routes, max_size=routes)),
        draw(st.lists(way, min_size=routes, max_size=routes)),
    )
    model = Model(
        1.0, draw(st.sampled_from([1.0, 0.97])), draw(st.sampled_from([None, 0.0, 1.0])),
        draw(st.sampled_from([np.inf, 3.0])), draw(st.sampled_from([0.0, 0.05])),
    )  # fmt: skip
    fatpipe = np.array(draw(st.lists(st.sampled_from([False, False, True]), min_size=links, max_size=links)))
    made = Links(bandwidth, latency, fatpipe, np.zeros(links), np.zeros((links, 3)), np.full(links, np.inf), ())
    table = route_table(made, forward, backward, model)
    flows = draw(st.integers(1, 12))
    route = np.array(draw(st.lists(st.integers(0, routes - 1), min_size=flows, max_size=flows)), np.int64)
    size = np.array(draw(st.lists(st.sampled_from([0.5, 1.0, 4.0, 30.0]), min_size=flows, max_size=flows)))
    start = np.array(draw(st.lists(st.sampled_from([0.0, 0.0, 1.0, 2.25, 7.0]), min_size=flows, max_size=flows)))
    nobody = np.zeros(flows, np.int64)
    return table, Transfers(nobody, nobody, size, start, np.zeros(flows), [()] * flows), route


def usage_of(table: RouteTable, r: int) -> dict[int, float]:
    where = slice(table.route_start[r], table.route_start[r + 1])
    return dict(zip(table.route_link[where].tolist(), table.route_share[where].tolist(), strict=True))


@settings(max_examples=300)
@given(platforms())
def test_finish_times_are_those_of_plain_water_filling(made: tuple[RouteTable, Transfers, np.ndarray]) -> None:
    table, flows, route = made
    finish = run_transfers(table, route, flows).finish_s
    rows = table.route[route]
    plain = finish_times(
        table.capacity.tolist(), [usage_of(table, r) for r in route.tolist()], rows[:, PENALTY].tolist(),
        rows[:, BOUND].tolist(), rows[:, WAIT_S].tolist(), (flows.bytes / rows[:, 3]).tolist(),
        flows.start_s.tolist(),
    )  # fmt: skip
    np.testing.assert_allclose(finish, plain, rtol=1e-9)


# ---- what must hold -------------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(platforms())
def test_no_link_carries_more_than_it_can_and_all_that_enters_leaves(
    made: tuple[RouteTable, Transfers, np.ndarray],
) -> None:
    table, flows, route = made
    n = len(route)
    engine = make_engine(*table, n)
    order = np.argsort(flows.start_s, kind="stable")
    carried, gone, t, begun = np.zeros(len(table.capacity)), np.zeros(n), 0.0, 0
    ended: dict[int, float] = {}
    while len(ended) < n:
        due = next_time(engine)
        if begun < n:
            due = min(due, flows.start_s[order[begun]])
        live = np.nonzero(engine.slot[:, PHASE] == FLOWING)[0]
        carried += loads_of(engine) * (due - t)
        gone[engine.slot[live, TAG]] += rates_of(engine)[live] * (due - t)
        assert (loads_of(engine) <= table.capacity * (1 + 1e-9)).all()
        t = due
        for k in range(advance(engine, t)):
            ended[int(engine.slot[k, DONE_TAG])] = engine.flow[k, DONE_S]
        taken(engine)
        while begun < n and flows.start_s[order[begun]] <= t:
            i = int(order[begun])
            add(engine, t, route[i], flows.bytes[i], i)
            begun += 1
    work = flows.bytes / table.route[route, 3]
    np.testing.assert_allclose(gone, work, rtol=1e-9)
    expected = np.zeros(len(table.capacity))
    for i in range(n):
        for link, share in usage_of(table, int(route[i])).items():
            expected[link] += share * work[i]
    np.testing.assert_allclose(carried, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(loads_of(engine), 0.0, atol=1e-12)


def one_link(model: str = "maxmin", **more: Any) -> dict[str, Any]:
    """Two hosts, a link of 100 bytes/s and 1 s each way."""
    return {
        "hosts": 2, "links": [[100.0, 1.0], [100.0, 1.0]], "routes": [[0, 1, [0]], [1, 0, [1]]],
        "flows": [[0, 1, 1000, 0, 0, []]],
    } | more  # fmt: skip


def test_one_flow_takes_latency_and_bytes_over_bandwidth() -> None:
    assert transfer_times(one_link(), "maxmin").finish_s.tolist() == [11.0]


def test_two_flows_share_and_the_longer_then_has_all() -> None:
    case = one_link(flows=[[0, 1, 1000, 0, 0, []], [0, 1, 400, 0, 0, []]])
    assert transfer_times(case, "maxmin").finish_s.tolist() == [15.0, 9.0]


def test_a_flow_starts_after_those_it_waits_for_and_its_delay() -> None:
    case = one_link(flows=[[0, 1, 1000, 0, 0, []], [1, 0, 100, 3, 0.5, [0]], [1, 0, 100, 30, 0.5, [0, 1]]])
    made = transfer_times(case, "maxmin")
    assert made.start_s.tolist() == [0.0, 11.5, 30.5]
    assert made.finish_s.tolist() == [11.0, 13.5, 32.5]


def test_a_fatpipe_caps_every_flow_and_is_not_shared() -> None:
    case = one_link(flows=[[0, 1, 1000, 0, 0, []]] * 3, fatpipe=[1, 0])
    made = transfer_times(case, "maxmin")
    assert made.finish_s.tolist() == [11.0] * 3
    assert made.bottleneck(0) == "0"


def test_the_engine_grows_while_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    path = next(p for p in SIMGRID if p.stem == "gnp_rounds_ring")
    whole = transfer_times(path, "lv08")
    monkeypatch.setattr(transfers, "FIRST_ROOM", 1)
    grown = transfer_times(path, "lv08")
    assert grown.finish_s.tolist() == whole.finish_s.tolist()


def test_a_link_may_change_its_capacity_and_stand_still() -> None:
    links = Links(
        np.array([100.0]), np.zeros(1), np.zeros(1, bool), np.zeros(1), np.zeros((1, 3)), np.full(1, np.inf), ("a",)
    )
    engine = make_engine(*route_table(links, [[0]], [[]], MODELS["maxmin"]), 2)
    add(engine, 0.0, 0, 1000.0, 7)
    assert next_time(engine) == 10.0
    set_capacity(engine, 4.0, 0, 0.0)
    assert next_time(engine) == np.inf
    set_capacity(engine, 9.0, 0, 50.0)
    assert next_time(engine) == 21.0
    set_capacity(engine, 11.0, 0, 500.0)
    assert next_time(engine) == 12.0
    assert advance(engine, 12.0) == 1
    assert engine.slot[0, DONE_TAG] == 7


def test_the_same_source_runs_without_numba() -> None:
    program = (
        "import sys; sys.modules['numba'] = None\n"
        "from simnet.network.flows.transfers import transfer_times\n"
        "for name in sys.argv[1:]:\n"
        "    for model in ('lv08', 'tcp'):\n"
        "        print([x.hex() for x in transfer_times(name, model, 3).finish_s.tolist()])\n"
    )
    names = [str(p) for p in SIMGRID if p.stem in ("star_ring_1MB", "gnp_rounds_ring", "fattree_ring_100MB")]
    names += [str(p) for p in TCP if p.stem.startswith(("loss3", "ge1", "loss1_bn4"))]
    done = subprocess.run([sys.executable, "-c", program, *names], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ours = [
        [x.hex() for x in transfer_times(name, model, 3).finish_s.tolist()]
        for name in names
        for model in ("lv08", "tcp")
    ]
    assert done.stdout.splitlines() == [str(each) for each in ours]


# ---- platform files -------------------------------------------------------------------------------------------------

PLATFORM = """\
hosts: {a: {up: 10 MB/s}, b: {}, c: {down: 1 MB/s}}
routers: [r, s]
links:
  - {between: [a, r], bandwidth: 100 MB/s, latency: 1 ms}
  - {between: [r, s], bandwidth: 5 MB/s, latency: 1 ms}
  - {between: [s, b], bandwidth: 100 MB/s, latency: 1 ms}
  - {between: [r, b], bandwidth: 100 MB/s, latency: 9 ms}
  - {from: s, to: c, bandwidth: 100 MB/s, latency: 1 ms}
  - {from: c, to: s, bandwidth: 100 MB/s, latency: 1 ms}
flows:
  - {from: a, to: b, bytes: 10 MB}
  - {from: a, to: c, bytes: 1 MB, start: 1 s}
"""


def platform(tmp_path: Path, text: str = PLATFORM) -> TransferTimes:
    (tmp_path / "net.yaml").write_text(text)
    return transfer_times(tmp_path / "net.yaml", "maxmin")


def test_a_platform_file_routes_by_latency_and_knows_ports(tmp_path: Path) -> None:
    made = platform(tmp_path)
    names = made.case.links.names
    assert [names[k] for k in made.case.routes[0, 1]] == ["a up", "a->r", "r->s", "s->b"]
    assert [names[k] for k in made.case.routes[0, 2]] == ["a up", "a->r", "r->s", "s->c", "c down"]
    # 5 MB/s until 1.003 s, then 4 beside the other's 1 (its port) until 2.003 s, then 5 again
    np.testing.assert_allclose(made.finish_s, [2.203, 2.003], rtol=1e-12)
    assert made.bottleneck(0) == "r->s"
    assert made.bottleneck(1) == "c down"


def test_a_given_route_is_taken(tmp_path: Path) -> None:
    made = platform(tmp_path, PLATFORM + "routes: [{from: a, to: b, via: [a, r, b]}]\n")
    assert made.finish_s[0] == pytest.approx(10 / 9 + 0.01 - 0.013 / 9, abs=0.2)
    assert [made.case.links.names[k] for k in made.case.routes[0, 1]] == ["a up", "a->r", "r->b"]


# ---- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (("to: b, bytes", "to: bb, bytes"), ScenarioError, "net.yaml:11:19 flows.0.to: there is no host 'bb'; did you"),
        (("to: b, bytes", "to: r, bytes"), ScenarioError, "there is no host 'r'"),
        (("bandwidth: 5 MB/s", "bandwidth: 0 MB/s"), ScenarioError, "must be above 0 bytes/s"),
        (("bandwidth: 5 MB/s", "bandwidth: -5"), ScenarioError, "must be above 0 bytes/s"),
        (("[s, b]", "[s, x]"), ScenarioError, "links.2: there is no host or router 'x'"),
        (("latency: 9 ms", "latencyy: 9 ms"), UnknownName, "did you mean 'latency'"),
        (("flows:", "routes: [{from: a, to: b, via: [a, b]}]\nflows:"), TopologyError, "there is no link from a to b"),
        (("  - {from: s, to: c, bandwidth: 100 MB/s, latency: 1 ms}\n", ""), TopologyError, "no route leads from"),
        (("start: 1 s", "after: [1]"), InputError, "waits for itself"),
        (("start: 1 s", "after: [7]"), InputError, "waits for flow 7, which is not there"),
    ],
)  # fmt: skip
def test_a_bad_platform_is_refused(tmp_path: Path, change: tuple[str, str], error: type[Exception], said: str) -> None:
    with pytest.raises(error) as raised:
        platform(tmp_path, PLATFORM.replace(*change))
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"links": [[0.0, 1.0], [1.0, 1.0]]}, "link 0: bandwidth = 0: must be above 0"),
        ({"links": [[-1.0, 1.0], [1.0, 1.0]]}, "link 0: bandwidth = -1"),
        ({"links": [[1.0, -1.0], [1.0, 1.0]]}, "link 0: latency = -1"),
        ({"links": [[1.0], [1.0, 1.0]]}, "links must be a list of lists of 2 numbers"),
        ({"routes": [[0, 1, [2]], [1, 0, [1]]]}, "goes through link 2, which is not there"),
        ({"routes": [[1, 0, [1]]]}, "no route leads from host 0 to host 1"),
        ({"flows": [[0, 5, 1000, 0, 0, []]]}, "there is no host 5"),
        ({"flows": [[0, 0, 1000, 0, 0, []]]}, "to itself"),
        ({"flows": [[0, 1, -1, 0, 0, []]]}, "bytes = -1"),
        ({"flows": [[0, 1]]}, "flows.0: must be [source, target, bytes"),
        ({"loss": [0.0]}, "loss must be a list of 2 numbers"),
        ({"loss": [0.0, 1.2]}, "link 1: loss = 1.2"),
        ({"cc": "vegas"}, "cc = 'vegas'"),
        ({"lnks": []}, "did you mean 'links'"),
    ],
)
def test_a_bad_case_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as raised:
        transfer_times(one_link(**change), "maxmin")
    assert said in str(raised.value)


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'cm02'"):
        transfer_times(one_link(), "cm2")
