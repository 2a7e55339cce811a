"""Transfers over links whose latency and loss change: each has those of the moment at which it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import simnet.network.flows.transfers as transfers
from simnet.network.flows.models import MODELS
from simnet.network.flows.transfers import TransferTimes, transfer_times

PATHS = [("a", "m"), ("m", "b")]


def platform(link: dict[str, Any], flows: list[dict[str, Any]], second: dict[str, Any] | None = None) -> dict[str, Any]:
    ends = [{"between": list(pair)} for pair in PATHS]
    return {
        "hosts": {"a": {}, "b": {}}, "routers": ["m"], "links": [ends[0] | link, ends[1] | (second or link)],
        "flows": [{"from": "a", "to": "b", "bytes": 20_000} | flow for flow in flows],
    }  # fmt: skip


def bare(**link: Any) -> dict[str, Any]:
    return {"bandwidth": "10 Mbit/s"} | link


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("model", MODELS)
def test_a_trace_that_says_what_the_link_says_changes_nothing(folder: Path, model: str) -> None:
    (folder / "t.csv").write_text("time_s,latency_ms,loss\n0,20,0.02\n0.05,20,0.02\n")
    flows = [{}, {"start": "0.3 s"}, {"after": [0], "delay": "10 ms"}, {"start": "0.3 s", "bytes": "200 kB"}]
    plain = transfer_times(platform(bare(latency="20 ms", loss="2 %"), flows), model, 3)
    traced = transfer_times(platform(bare(trace="t.csv", latency="9 s", loss="50 %"), flows), model, 3)
    for name in ("start_s", "finish_s", "lost_packets", "carried_bytes"):
        assert getattr(traced, name).tolist() == getattr(plain, name).tolist()
    assert traced.ignored_loss == plain.ignored_loss


@pytest.mark.parametrize("model", ["maxmin", "lv08", "tcp"])
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 60), min_size=2, max_size=5), st.integers(0, 12), st.booleans())
def test_a_transfer_alone_is_as_over_links_that_stay_as_at_its_start(
    folder: Path, model: str, latencies_ms: list[int], start: int, wrap: bool
) -> None:
    rows = "".join(f"{i},{each}\n" for i, each in enumerate(latencies_ms))
    (folder / "t.csv").write_text("time_s,latency_ms\n" + rows)
    trace = {"file": "t.csv", "at_end": "wrap" if wrap else "hold"}
    flow = {"start": start}
    moving = transfer_times(platform(bare(trace=trace), [flow], bare(latency="1 ms")), model)
    i = start % len(latencies_ms) if wrap else min(start, len(latencies_ms) - 1)
    still = transfer_times(platform(bare(latency=latencies_ms[i] * 1e-3), [flow], bare(latency="1 ms")), model)
    assert moving.finish_s.tolist() == still.finish_s.tolist()


def test_a_transfer_under_way_keeps_what_it_began_with(folder: Path) -> None:
    (folder / "t.csv").write_text("time_s,latency_ms\n0,10\n0.5,400\n1,20\n")
    flows = [
        {"bytes": "1 MB"},
        {"start": "0.6 s", "bytes": 1},
        {"start": "1 s", "bytes": 1},
        {"after": [0], "bytes": 1},
    ]
    made = transfer_times(platform(bare(trace={"file": "t.csv", "at_end": "hold"}), flows), "maxmin")
    byte = 1 / 1.25e6
    # 1 MB takes 0.8 s, in which nobody else sends: the second waits for 2 x 400 ms, the third for 2 x 20
    assert made.finish_s[0] == pytest.approx(0.02 + 0.8)
    assert made.finish_s[1:3] == pytest.approx([1.4 + byte, 1.04 + byte])
    assert made.finish_s[3] == pytest.approx(0.82 + 0.8 + byte)  # it starts at 0.82 s


def test_losses_are_those_of_the_start(folder: Path) -> None:
    (folder / "t.csv").write_text("time_s,loss_percent\n0,0\n10,5\n20,0\n")
    link = bare(latency="1 ms", trace={"file": "t.csv", "at_end": "hold"})
    flows = [{"start": 2 * i, "bytes": "300 kB"} for i in range(15)]
    made: TransferTimes = transfer_times(platform(link, flows, bare(latency="1 ms")), "tcp", 1)
    lossy = np.arange(15) // 5 == 1
    assert (made.lost_packets[lossy] > 0).all() and not made.lost_packets[~lossy].any()
    assert transfer_times(platform(link, flows), "lv08").ignored_loss == ["a->m", "m->a", "m->b", "b->m"][::2]


def test_where_nothing_ever_moves_the_clock_stops(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "PATIENCE", 50)
    (folder / "dead.csv").write_text("0 10\n1 0\n")
    (folder / "wrap.csv").write_text("time_s,mbit_per_s,latency_ms\n0,10,5\n1,5,2\n")
    case = platform({"trace": {"file": "dead.csv", "at_end": "hold"}}, [{"bytes": "10 MB"}, {}], {"trace": "wrap.csv"})
    made = transfer_times(case, "maxmin")
    assert np.isinf(made.finish_s[0]) and np.isfinite(made.finish_s[1])
