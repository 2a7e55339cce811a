"""Bandwidth that changes with time: what files say, and that a flow gets exactly what the rate lets through."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simnet.errors import DataError, InputError
from simnet.network.flows.case import Case, Transfers
from simnet.network.flows.links import Links
from simnet.network.flows.report import as_json, text
from simnet.network.flows.traces import Trace, read_changes
from simnet.network.flows.transfers import TransferTimes, transfer_times
from tests.shared import shared_dir


def read_trace(file: Path, at_end: Literal["wrap", "hold"] = "wrap") -> Trace:
    made = read_changes(file, at_end)
    assert made.bandwidth is not None and made.latency is made.loss is None
    return made.bandwidth


def trace(times: list[float], rates: list[float], before: float = 0.0, period_s: float = math.inf) -> Trace:
    return Trace(np.array(times), np.array(rates), before, period_s)


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    steps = draw(st.lists(st.integers(1, 8), min_size=1, max_size=6))
    rates = draw(st.lists(st.integers(0, 5), min_size=len(steps), max_size=len(steps)))
    rates[-1] += not any(rates)
    times = np.cumsum([draw(st.integers(0, 3)), *steps[:-1]]).astype(float)
    period = draw(st.sampled_from([math.inf, float(times[-1] - times[0] + steps[-1])]))
    return Trace(times, np.array(rates, float), float(draw(st.integers(0, 5))), period)


@given(traces(), st.floats(0, 60))
def test_bytes_until_is_the_integral_of_the_rate(made: Trace, end: float) -> None:
    total, now, rate = 0.0, 0.0, made.at(0.0)
    for t, after in itertools.takewhile(lambda change: change[0] < end, made.changes()):
        assert rate == made.at((now + t) / 2)
        total, now, rate = total + rate * (t - now), t, after
    assert made.bytes_until(end) == pytest.approx(total + rate * (end - now), rel=1e-12, abs=1e-9)


def over(made: Trace, bytes_: list[float], start_s: list[float]) -> TransferTimes:
    links = Links(np.array([made.mean]), np.zeros(1), np.zeros(1, bool), np.zeros(1), np.zeros((1, 3)),
                  np.full(1, np.inf), ("l",))  # fmt: skip
    n = len(bytes_)
    t = Transfers(np.zeros(n, int), np.ones(n, int), np.array(bytes_), np.array(start_s), np.zeros(n), [()] * n)
    return transfer_times(Case("x", ("a", "b"), links, {(0, 1): (0,)}, t, traces={0: made}), "maxmin")


@settings(deadline=None)
@given(traces(), st.floats(0.5, 40), st.integers(0, 9))
def test_a_flow_ends_when_its_bytes_have_been_let_through(made: Trace, bytes_: float, start: int) -> None:
    finish = float(over(made, [bytes_], [float(start)]).finish_s[0])
    if math.isinf(finish):
        assert made.period_s == math.inf and made.rates[-1] == 0
        assert made.bytes_until(1e3) - made.bytes_until(start) <= bytes_
    else:
        assert made.bytes_until(finish) - made.bytes_until(start) == pytest.approx(bytes_, rel=1e-9)


@settings(deadline=None)
@given(traces(), st.lists(st.floats(0.5, 10), min_size=2, max_size=5))
def test_flows_that_share_get_together_what_the_rate_lets_through(made: Trace, bytes_: list[float]) -> None:
    times = over(made, bytes_, [0.0] * len(bytes_))
    last = times.finish_s.max()
    if math.isfinite(last):
        assert made.bytes_until(last) == pytest.approx(sum(bytes_), rel=1e-9)
        assert times.utilisation[0] == pytest.approx(1.0, rel=1e-9)
    for first, size in zip(times.finish_s, bytes_, strict=True):  # while all are there, each has an equal share
        if size == min(bytes_) and math.isfinite(first):
            assert made.bytes_until(first) == pytest.approx(size * len(bytes_), rel=1e-9)


def test_a_rate_of_zero_stops_a_flow_and_a_wrapped_trace_goes_on() -> None:
    made = trace([0, 1, 3], [10, 0, 5], period_s=4)
    # 10 bytes by 1 s, nothing until 3, 5 by 4, 10 by 5, nothing until 7, 5 by 8
    assert over(made, [28], [0]).finish_s == pytest.approx([7.6])
    held = trace([0, 1], [10, 0])
    assert over(held, [10], [0]).finish_s == pytest.approx([1.0])
    assert np.isinf(over(held, [11], [0]).finish_s[0])


@pytest.mark.parametrize("model, second", [("maxmin", 8.0), ("tcp", None)])  # acknowledgements go over the dead link
def test_over_a_link_that_stays_closed_a_transfer_never_ends(tmp_path: Path, model: str, second: float | None) -> None:
    (tmp_path / "t").write_text("0 10\n1 0\n")
    (tmp_path / "p.yaml").write_text(
        "hosts: {a: , b: }\n"
        "links: [{from: a, to: b, trace: {file: t, at_end: hold}}, {from: b, to: a, bandwidth: 1 Mbit/s}]\n"
        "flows:\n  - {from: a, to: b, bytes: 10 MB}\n  - {from: b, to: a, bytes: 1 MB}\n"
        "  - {from: a, to: b, bytes: 1 B, after: [0]}\n"
    )
    made = transfer_times(tmp_path / "p.yaml", model)
    assert (made.finish_s[0], made.finish_s[2], made.start_s[2]) == (np.inf,) * 3
    assert made.bottleneck(0) == made.bottleneck(2) == "a->b"
    said = json.loads(as_json(made), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (said["start"], said["finish"], said["makespan"]) == ([0.0, 0.0, None], [None, second, None], None)
    assert made.mean_rate[0] == made.carried_bytes[0] == 0.0
    out = text(made)
    assert f"note: transfers 0, {'' if second else '1, '}2 never end, over links that stand still for good" in out
    assert ("the last ends at 8 s" if second else "none ends") in out


def test_a_follower_starts_where_a_transfer_ended_at_the_moment_of_a_change(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("time_s,mbit_per_s\n0,8\n1,16\n2,8\n")
    (tmp_path / "p.yaml").write_text(
        "hosts: {a: , b: }\nlinks: [{from: a, to: b, trace: {file: t.csv, at_end: hold}}]\n"
        "flows: [{from: a, to: b, bytes: 1 MB}, {from: a, to: b, bytes: 2 MB, after: [0]}]\n"
    )
    assert transfer_times(tmp_path / "p.yaml", "maxmin").finish_s == pytest.approx([1.0, 2.0], rel=1e-12)


# ---- files ----------------------------------------------------------------------------------------------------------


def test_two_columns_are_seconds_and_mbit_per_s(tmp_path: Path) -> None:
    file = tmp_path / "t"
    file.write_text("10.0 8\n11.0 0.8\n13.5 80\n")
    made = read_trace(file)
    assert made.times_s.tolist() == [0, 1, 3.5]
    assert made.rates.tolist() == [1e6, 1e5, 1e7]
    assert made.period_s == 6.0
    assert (made.at(6.5), made.at(7.0), read_trace(file, "hold").at(1e9)) == (1e6, 1e5, 1e7)


def test_a_mahimahi_line_lets_one_packet_through(tmp_path: Path) -> None:
    file = tmp_path / "t"
    file.write_text("0\n100\n100\n250\n")
    made = read_trace(file)
    assert made.period_s == 0.25
    assert made.rates.tolist() == pytest.approx([3 * 15000.0, 0.0, 1500 / 0.05])
    assert made.bytes_until(0.25 * 7) == pytest.approx(4 * 1500 * 7)


@pytest.mark.parametrize("name", ["ATT-LTE-driving-2016.down", "Verizon-LTE-short.up", "TMobile-UMTS-driving.up"])
def test_real_packet_delivery_traces_let_all_their_packets_through(name: str) -> None:
    file = shared_dir() / "data" / "mahimahi" / name
    lines = file.read_text().split()
    made = read_trace(file)
    assert made.period_s == int(lines[-1]) / 1000
    assert made.bytes_until(made.period_s) == pytest.approx(1500 * len(lines), rel=1e-12)


def test_real_two_column_traces_load() -> None:
    files = [f for f in sorted((shared_dir() / "data" / "bandwidth_traces").rglob("*")) if f.is_file()]
    assert len(files) > 30
    for file in files:
        made = read_trace(file)
        last = file.read_text().splitlines()[-1].split()
        assert made.rates[-1] == float(last[1]) * 125_000
        assert made.mean > 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "an empty trace"),
        ("# only words\n", "an empty trace"),
        ("0 1\n2 1\n1 1\n", "line 3: time 1 is out of order, after 2"),
        ("0 1\n0 2\n", "line 2: time 0 is out of order"),
        ("5\n4\n", "line 2: time 4 is out of order"),
        ("0 -1\n", "line 1: -1 is below 0"),
        ("0 1\nx y\n", "line 2: 'x y' is no line of numbers"),
        ("0 1\n1\n", "line 2: '1': a trace has one column"),
        ("0 1 2\n", "line 1: '0 1 2': a trace has one column"),
        ("0 nan\n", "line 1: '0 nan'"),
        ("0 0\n1 0\n", "lets nothing through"),
        ("0 5\n", "cannot wrap: say at_end: hold"),
        ("0\n0\n", "all packets pass at time 0"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(DataError) as caught:
        read_trace(tmp_path / "t.txt")
    assert said in str(caught.value) and "t.txt" in str(caught.value)


@pytest.mark.parametrize(
    ("times", "rates", "period_s", "said"),
    [
        ([], [], math.inf, "at least one time"),
        ([1, 1], [1, 2], math.inf, "must rise"),
        ([-1], [1], math.inf, "must rise from 0"),
        ([0], [-1], math.inf, "rates must be at least 0"),
        ([0, 5], [1, 2], 5, "cannot repeat after 5 s"),
    ],
)
def test_a_trace_that_cannot_be_is_refused(times: list[float], rates: list[float], period_s: float, said: str) -> None:
    with pytest.raises(DataError, match=said):
        trace(times, rates, period_s=period_s)


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("{from: a, to: b}", "either `bandwidth`"),
        ("{from: a, to: b, bandwidth: 1 Mbit/s, trace: t}", "t has a column of bandwidth: leave `bandwidth` out"),
        ("{from: a, to: b, trace: u}", "u has no column of bandwidth: give the link one"),
        ("{from: a, to: b, bandwidth: 1 Mbit/s, trace: u}", "link a->b: has a loss of 1 in its trace"),
        ("{from: a, to: b, trace: no}", "links.0.trace: .*there is no such file"),
        ("{from: a, to: b, trace: {file: t, at_end: stop}}", "at_end"),
        ("{from: a, to: b, trace: {file: t, bin: 0 s}}", "trace.bin = '0 s': must be above"),
    ],
)
def test_a_bad_trace_of_a_link_is_refused_with_its_field(tmp_path: Path, link: str, said: str) -> None:
    (tmp_path / "t").write_text("0 1\n1 2\n")
    (tmp_path / "u").write_text("time_s,loss\n0,0\n1,1\n")
    (tmp_path / "p.yaml").write_text(f"hosts: {{a: , b: }}\nlinks: [{link}]\nflows: []\n")
    with pytest.raises(InputError, match=said):
        transfer_times(tmp_path / "p.yaml")


def test_a_fatpipe_has_one_bandwidth(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("0 1\n1 2\n")
    (tmp_path / "p.yaml").write_text(
        "hosts: {a: , b: }\nlinks: [{from: a, to: b, trace: t, fatpipe: true}]\nflows: []\n"
    )
    with pytest.raises(InputError, match="a->b: a link that does not share"):
        transfer_times(tmp_path / "p.yaml")
