"""Figures are drawn for every record that a run can leave, however short, exact, diverged or large."""

from __future__ import annotations

import dataclasses
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from simnet.analysis.plot import _accuracy, _consensus, _timeline, compare, save_plots
from simnet.errors import InputError, Outcome
from simnet.record import Record, RecordWriter


def run(nodes: int = 16, rows: int = 50, sim_time_s: float = 14.0, spans: bool = True, accuracy: bool = True) -> Record:
    """A record shaped as a run leaves it, some nodes slower than others."""
    writer = RecordWriter(None, {"name": "digits on a ring", "seed": 0}, "")
    r = np.unique(np.linspace(1, 200, rows).astype(int))
    columns = {"round": r, "sim_time_s": sim_time_s * r / 200, "host_time_s": 0.01 * r, "wire_bytes": 416_000 * r}
    columns |= {"messages": 2 * nodes * r, "objective": 0.25 + 2 * np.exp(-r / 30), "consensus_distance": 3.0 / r}
    columns |= {"stationarity_gap": np.exp(-r / 20)}
    if accuracy:
        columns |= {"accuracy": 0.94 - 0.8 * np.exp(-r / 25), "accuracy_mean_model": 0.95 - 0.8 * np.exp(-r / 25)}
    writer.rounds(columns)
    compute_s = np.linspace(0.2, 0.4, nodes) * sim_time_s
    idle_s = np.zeros(nodes)
    writer.nodes({"node": np.arange(nodes), "compute_s": compute_s, "idle_s": idle_s,
                  "exposed_comm_s": sim_time_s - compute_s})  # fmt: skip
    if spans:
        step_s = sim_time_s / 20
        node, step = (grid.ravel() for grid in np.meshgrid(np.arange(nodes), np.arange(20), indexing="ij"))
        for kind, start, end in (("compute", 0.0, 0.3), ("send", 0.3, 0.6), ("wait", 0.3, 1.0)):
            begin = (step + start) * step_s
            writer.spans({"node": node, "kind": np.full(node.size, kind), "start_s": begin,
                          "end_s": (step + end) * step_s, "round": step})  # fmt: skip
    end = {"targets": {"accuracy": {"target": 0.9, "round": 80, "wire_bytes": 3e7, "sim_time_s": 5.0}, "loss": None}}
    writer.finish(Outcome.FINISHED, end, {})
    return writer.record()


def size_of(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", head[16:24])
    return width, height


def changed(record: Record, **columns: np.ndarray) -> Record:
    return dataclasses.replace(record, rounds={**record.rounds, **columns})


def test_a_run_gives_four_figures_wide_enough_to_read(tmp_path: Path) -> None:
    paths = save_plots(run(), tmp_path / "plots")
    assert [path.name for path in paths] == ["objective.png", "accuracy.png", "consensus.png", "timeline.png"]
    for path in paths:
        width, height = size_of(path)
        assert width >= 1200
        assert 400 <= height <= 1200


def test_what_the_record_has_not_is_not_drawn(tmp_path: Path) -> None:
    paths = save_plots(run(spans=False, accuracy=False), tmp_path)
    assert [path.name for path in paths] == ["objective.png", "consensus.png"]
    assert save_plots(RecordWriter(None, {}, "").record(), tmp_path) == []


def test_one_servers_model_has_no_consensus_to_draw(tmp_path: Path) -> None:
    widths = []
    for reports in (np.full(16, 200), np.where(np.arange(16) == 0, 200, 0)):
        record = dataclasses.replace(run(spans=False), nodes={**run().nodes, "reports": reports})
        paths = save_plots(record, tmp_path / str(reports[1]))
        assert [path.name for path in paths] == ["objective.png", "accuracy.png", "consensus.png"]
        widths.append(size_of(paths[2])[0])
    assert widths[1] < 0.6 * widths[0]
    bare = {name: column for name, column in record.rounds.items() if name != "stationarity_gap"}
    assert len(save_plots(dataclasses.replace(record, rounds=bare), tmp_path / "bare")) == 2


@pytest.mark.parametrize(("header", "says"), [({}, "rounds"), ({"rows_by_time": True}, "rounds of the slowest node")])
def test_rows_on_a_grid_of_time_are_drawn_against_time(header: dict[str, bool], says: str) -> None:
    record = dataclasses.replace(run(), header=header)
    figure = _consensus(record, ["consensus_distance"], "")
    assert figure.axes[0].get_xlabel() == ("simulated time (s)" if header else "rounds")
    assert figure.axes[0].lines[0].get_xdata()[-1] == (14.0 if header else 200)
    assert _accuracy(record, "").axes[0].get_xlabel() == says


def test_shares_of_time_are_those_of_the_whole_run() -> None:
    record = run(nodes=2)
    half = {
        name: np.where(np.arange(2) == 1, 0.5, 1.0) * record.nodes[name] for name in ("compute_s", "exposed_comm_s")
    }
    figure = _timeline(dataclasses.replace(record, nodes={**record.nodes, **half}), "")
    ends = [max(bar.get_x() + bar.get_width() for bar in bars) for bars in zip(*figure.axes[1].containers, strict=True)]
    np.testing.assert_allclose(ends, [1.0, 0.5])


def test_the_timeline_of_many_nodes_stays_as_high_as_that_of_24(tmp_path: Path) -> None:
    heights = []
    for nodes in (24, 300):
        record = dataclasses.replace(run(nodes), rounds={})
        heights.append(size_of(*save_plots(record, tmp_path / str(nodes)))[1])
    assert heights[0] == heights[1]


@pytest.mark.parametrize("case", ["one row", "exact consensus", "diverged", "all nan", "gap below zero", "no time"])
def test_odd_runs_are_drawn_without_a_warning(case: str, tmp_path: Path) -> None:
    record = run(nodes=2, spans=False, accuracy=False)
    count = len(record.rounds["round"])
    far = np.logspace(0, 308, count)
    far[-1] = np.inf
    record = {
        "one row": dataclasses.replace(record, rounds={k: v[:1] for k, v in record.rounds.items()}),
        "exact consensus": changed(record, consensus_distance=np.zeros(count)),
        "diverged": changed(record, objective=far, consensus_distance=far),
        "all nan": changed(record, consensus_distance=np.full(count, np.nan)),
        "gap below zero": changed(record, objective_gap=np.cos(np.arange(count)) * 1e-9),
        "no time": changed(record, sim_time_s=np.zeros(count), wire_bytes=np.zeros(count)),
    }[case]
    assert save_plots(record, tmp_path)


def test_records_are_compared_over_rounds_bytes_and_time(tmp_path: Path) -> None:
    records = {f"run {i}": run(sim_time_s=3.0**i, spans=False) for i in range(9)}
    width, height = size_of(compare(records, tmp_path / "both.png", y="accuracy"))
    assert width > 2 * height


def test_a_comparison_of_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'ring' has no column 'accuracy'"):
        compare({"ring": run(accuracy=False, spans=False)}, tmp_path / "x.png", y="accuracy")
    with pytest.raises(InputError, match="nothing to compare"):
        compare({}, tmp_path / "x.png")


def test_drawing_needs_no_display_and_leaves_no_global_state() -> None:
    code = "import sys, simnet.analysis.plot; assert 'matplotlib.pyplot' not in sys.modules, 'pyplot'"
    subprocess.run([sys.executable, "-c", code], check=True)
