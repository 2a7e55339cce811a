"""The model `tcp` against real TCP, and what follows from its rules exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import simnet
from simnet.cli import app
from simnet.errors import TopologyError
from simnet.network.flows.draws import cube_root, packets_to_loss, uniform
from simnet.network.flows.measured import Score, medians, score
from simnet.network.flows.models import burst_events, loss_events, lost_by
from simnet.network.flows.tcp import MSS, PACKET
from simnet.network.flows.transfers import transfer_times
from simnet.streams import GOLDEN, bits, uniform1
from tests.shared import ROOT

MEASURED = sorted((ROOT / "tests" / "reference" / "real_tcp").glob("*.json"))
RATE, LATENCY = 1.25e6, 0.01
RTT = 2 * LATENCY + (PACKET + 60) / RATE


def path_case(bytes_: float, **more: Any) -> dict[str, Any]:
    """One flow over a link of 10 Mbit/s and 10 ms each way."""
    return {
        "hosts": 2, "links": [[RATE, LATENCY], [RATE, LATENCY]], "routes": [[0, 1, [0]], [1, 0, [1]]],
        "flows": [[0, 1, bytes_, 0, 0, []]],
    } | more  # fmt: skip


# ---- measurements ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scores() -> dict[str, list[Score]]:
    return {model: [score(path, model, 15) for path in MEASURED] for model in ("tcp", "lv08")}


def test_all_measured_cases_are_there() -> None:
    assert len(MEASURED) == 26


def test_without_loss_it_is_near_real_tcp_and_nearer_than_lv08(scores: dict[str, list[Score]]) -> None:
    ours, theirs = (medians([s for s in scores[model] if not s.lossy]) for model in ("tcp", "lv08"))
    assert all(error <= bar for error, bar in zip(ours, (0.08, 0.05, 0.07), strict=True)), ours
    assert all(a < b for a, b in zip(ours, theirs, strict=True)), (ours, theirs)


def test_with_loss_it_is_nearer_than_lv08(scores: dict[str, list[Score]]) -> None:
    ours, theirs = (medians([s for s in scores[model] if s.lossy]) for model in ("tcp", "lv08"))
    assert all(a < b for a, b in zip(ours, theirs, strict=True)), (ours, theirs)


def test_with_loss_seeds_and_repetitions_overlap(scores: dict[str, list[Score]]) -> None:
    for each in scores["tcp"]:
        if each.lossy and "bbr" not in each.case:
            assert each.makespan_s[0] < each.measured_s[2], each
            assert each.makespan_s[2] > each.measured_s[0], each


# ---- rules ----------------------------------------------------------------------------------------------------------


def test_one_window_costs_handshake_and_bytes() -> None:
    cold = transfer_times(path_case(5 * MSS), "tcp").finish_s[0]
    warm = transfer_times(path_case(5 * MSS, warm=True), "tcp").finish_s[0]
    assert warm == pytest.approx(LATENCY + 5 * PACKET / RATE, rel=1e-12)
    assert cold - warm == pytest.approx(RTT, rel=1e-12)


def test_a_second_window_waits_for_the_round_trip() -> None:
    fast = path_case(30 * MSS, links=[[1.25e9, LATENCY]] * 2, warm=True)
    rtt = 2 * LATENCY + (PACKET + 60) / 1.25e9
    assert transfer_times(fast, "tcp").finish_s[0] == pytest.approx(LATENCY + rtt + 20 * PACKET / 1.25e9, rel=1e-12)


def test_a_long_transfer_has_the_link_less_its_headers() -> None:
    made = transfer_times(path_case(1e8), "tcp")
    assert made.mean_rate[0] == pytest.approx(RATE * MSS / PACKET, rel=1e-3)


def test_same_seed_same_times_and_another_seed_others() -> None:
    lossy = path_case(1e6, loss=[0.02, 0.0])
    one, again, other = (transfer_times(lossy, "tcp", seed).finish_s for seed in (1, 1, 2))
    assert one.tolist() == again.tolist()
    assert one.tolist() != other.tolist()


@pytest.mark.parametrize("control", ["cubic", "reno", "bbr"])
def test_what_is_lost_is_sent_again_and_lost_as_often_as_drawn(control: str) -> None:
    loss, size = 0.02, 4e5
    case = path_case(size, loss=[loss, 0.0], cc=control)
    runs = [transfer_times(case, "tcp", seed) for seed in range(200)]
    packets = sum(size / MSS + run.lost_packets[0] for run in runs)
    lost = sum(run.lost_packets[0] for run in runs)
    assert lost / packets == pytest.approx(loss, rel=0.1)
    for run in runs:
        carried = (size + run.lost_packets[0] * MSS) * PACKET / MSS
        assert run.carried_bytes[0] == pytest.approx(carried, rel=1e-12)


def test_a_packet_lost_on_a_link_is_not_on_those_behind() -> None:
    loss, size = [0.03, 0.0, 0.01, 0.0], 4e6
    links = [[RATE, LATENCY]] * 4
    case = path_case(size, links=links, routes=[[0, 1, [0, 1, 2]], [1, 0, [3]]], loss=loss)
    made = transfer_times(case, "tcp", 1)
    lost = made.lost_packets[0] * PACKET
    assert lost > 0
    first = 0.03 / (0.03 + 0.97 * 0.01)  # of what is lost, the first link's share
    behind = size * PACKET / MSS + lost * (1 - first)
    assert made.carried_bytes[:3] == pytest.approx([size * PACKET / MSS + lost, behind, behind], rel=1e-12)


@given(st.lists(st.sampled_from((0.0, 0.001, 0.02, 0.5, 0.9)), min_size=1, max_size=6))
def test_losses_are_shared_out_over_the_links_that_lose(events: list[float]) -> None:
    by = lost_by(events)
    assert by[-1] == 1.0 and (np.diff(by) >= -1e-15).all()
    if any(events):
        got_there = np.cumprod([1.0, *(1 - p for p in events[:-1])])
        each = got_there * events
        np.testing.assert_allclose(np.diff(by, prepend=0.0), each / each.sum(), atol=1e-15)


def test_a_bad_state_that_is_never_left_loses_packets_each_on_its_own() -> None:
    assert burst_events(0.1, 0.0, 0.2) == 0.2
    assert loss_events(0.0, (0.1, 0.0, 0.2)) == loss_events(0.2, (0.0, 0.0, 0.0))


def test_loss_slows_reno_more_than_cubic_and_bbr_least() -> None:
    def typical(control: str) -> float:
        case = path_case(4e6, links=[[6.25e6, 0.01]] * 2, loss=[0.01, 0.0], cc=control)
        return float(np.median([transfer_times(case, "tcp", seed).finish_s[0] for seed in range(31)]))

    reno, cubic, bbr = map(typical, ("reno", "cubic", "bbr"))
    assert reno > cubic > 2 * bbr


@given(st.floats(0, 1, exclude_max=True), st.floats(1e-4, 0.9))
def test_packets_to_loss_inverts_the_geometric_law(u: float, p: float) -> None:
    n = packets_to_loss(u, p)
    assert n >= 1
    assert (1 - p) ** n <= (1 - u) * (1 + 1e-9)
    assert (1 - p) ** (n - 1) >= (1 - u) * (1 - 1e-9)


@given(st.floats(1e-6, 1e9))
def test_cube_roots(x: float) -> None:
    assert cube_root(x) ** 3 == pytest.approx(x, rel=1e-12)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 10**6), st.integers(0, 100))
def test_draws_are_those_of_the_streams(key: int, who: int, counter: int) -> None:
    mask = (1 << 64) - 1
    mine = int(bits(np.array([(key + GOLDEN * (who + 1)) & mask], np.uint64), 1)[0, 0])
    assert uniform(key, who, counter) == uniform1((mine + GOLDEN * (counter + 1)) & mask, 1)[0]


def test_bursts_are_counted_as_a_chain_makes_them() -> None:
    to_bad, to_good, loss = 0.02, 0.2, 0.4
    rng = np.random.default_rng(5)
    bad, events, hit, packets = False, 0, False, 400_000
    for turn, draw in zip(rng.random(packets), rng.random(packets), strict=True):
        was = bad
        bad = turn < to_bad if not bad else turn >= to_good
        hit = False if bad and not was else hit
        if bad and draw < loss:
            events += not hit
            hit = True
    assert burst_events(to_bad, to_good, loss) == pytest.approx(events / packets, rel=0.05)


def test_acknowledgements_need_a_way_back() -> None:
    with pytest.raises(TopologyError, match="no route leads back"):
        transfer_times(path_case(1e3, routes=[[0, 1, [0]]]), "tcp")


# ---- the command ----------------------------------------------------------------------------------------------------


def invoke(*words: str) -> Any:
    return CliRunner().invoke(app, ["transfers", *words])


def test_json_has_the_times_in_the_order_of_the_flows() -> None:
    path = next(p for p in MEASURED if p.stem.startswith("loss1_bn4"))
    said = json.loads(invoke(str(path), "--seed", "3", "--json").output)
    made = simnet.transfer_times(path, "tcp", 3)
    assert said["start"] == made.start_s.tolist()
    assert said["finish"] == made.finish_s.tolist()
    assert set(said) >= {"mean_rate", "bottleneck", "utilisation"}


def test_the_table_names_the_bottleneck(tmp_path: Path) -> None:
    (tmp_path / "case.json").write_text(json.dumps(path_case(1e6)))
    said = invoke(str(tmp_path / "case.json"), "--model", "maxmin").output
    assert "0.81 s  9.877 Mbit/s           0" in said
    assert "98.8 %" in said


@pytest.mark.parametrize("key, value", (("loss", 0.02), ("ge", [0.005, 0.25, 0.5])))
def test_a_loss_that_the_model_leaves_out_is_told(tmp_path: Path, key: str, value: Any) -> None:
    """Only of links that a transfer crosses: here link 0 of two, both of which lose packets."""
    lossy = path_case(1e6) | {key: [value, value]}
    (tmp_path / "case.json").write_text(json.dumps(lossy))
    note = "note: lv08 draws no losses; the loss of 0 is left out (--model tcp has it)"
    for model, links in (("lv08", ["0"]), ("tcp", [])):
        said = invoke(str(tmp_path / "case.json"), "--model", model).output
        assert (note in said) == bool(links), said
        assert json.loads(invoke(str(tmp_path / "case.json"), "-m", model, "--json").output)["ignored_loss"] == links
    (tmp_path / "case.json").write_text(json.dumps(path_case(1e6)))
    assert "note" not in invoke(str(tmp_path / "case.json"), "--model", "lv08").output


def test_bad_input_is_one_message(tmp_path: Path) -> None:
    said = invoke(str(tmp_path / "none.json"))
    assert said.exit_code == 2
    assert "there is no file" in said.output
    (tmp_path / "case.json").write_text("{")
    assert "this is no JSON" in invoke(str(tmp_path / "case.json")).output
    (tmp_path / "case.json").write_text(json.dumps(path_case(1.0)))
    assert "model = 'tpc'" in invoke(str(tmp_path / "case.json"), "--model", "tpc").output


@pytest.mark.parametrize("size", (100, 1333, 1448, 2000, 5 * 1448))
def test_a_message_is_lost_as_often_as_one_of_its_packets_however_short_the_last(size: int) -> None:
    p, count = 0.2, 4000
    flows = [[0, 1, size, 10.0 * i, 0, []] for i in range(count)]
    case = {"name": "short", "seed": 0, "hosts": 2, "links": [[1e9, 0.001], [1e9, 0.001]],
            "routes": [[0, 1, [0]], [1, 0, [1]]], "flows": flows, "loss": [p, 0.0]}  # fmt: skip
    times = simnet.transfer_times(case, "tcp", seed=1)
    hit = (times.lost_packets > 0).mean()
    expected = 1 - (1 - p) ** -(-size // 1448)
    assert abs(hit - expected) < 4 * (expected * (1 - expected) / count) ** 0.5
