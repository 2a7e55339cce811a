"""What a user gets wrong, from a scenario file to the message that says what, where and how to cure it."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

import simnet
import simnet.valueplane
from simnet import registry
from simnet.algorithm import Algorithm
from simnet.errors import (
    DataError,
    InputError,
    Interrupted,
    MemoryTooSmall,
    Outcome,
    ProgramError,
    ScenarioError,
    TopologyError,
    UnitError,
    UnknownName,
)
from simnet.prepare import make_algorithm
from simnet.record import Record
from simnet.scenario import Scenario
from tests.programs import Gossips, base

GOOD = """\
network:
  nodes: 6
  graph: ring
  link: {bandwidth: 1 Mbit/s, latency: 5 ms, loss: 0}
nodes:
  compute: 10 GFLOP/s
problem: {name: Softmax, data: digits, batch: 8}
algorithm: {name: DPSGD, eta: 0.1}
rounds: 2
"""


def run(folder: Path, old: str = "", new: str = "", more: str = "") -> Record:
    """The good scenario with one thing changed, run from its file; nothing may be written by a refused one."""
    assert old in GOOD
    file = folder / "try.yaml"
    file.write_text(GOOD.replace(old, new) + more)
    try:
        return simnet.run(file, out=folder / "record")
    except InputError:
        assert not (folder / "record").exists()
        raise


def test_the_good_one_runs(tmp_path: Path) -> None:
    assert run(tmp_path).outcome == "finished"


CASES: list[tuple[str, str, str, type[Exception], str]] = [
    # old, new, more, error, message
    ("rounds:", "round:", "", UnknownName, r"try\.yaml:9:1 .*round.*did you mean 'rounds'"),
    ("latency:", "latancy:", "", UnknownName, r"try\.yaml:4:\d+ .*latancy.*did you mean 'latency'"),
    ("name: DPSGD", "name: DPSDG", "", UnknownName, r"try\.yaml:8:\d+ .*DPSDG.*did you mean 'DPSGD'"),
    ("graph: ring", "graph: rign", "", UnknownName, r"try\.yaml:3:\d+ .*rign.*did you mean 'ring'"),
    ("data: digits", "data: digit", "", UnknownName, r"did you mean 'digits'"),
    ("eta: 0.1", "etta: 0.1", "", UnknownName, r"DPSGD has no parameter 'etta'; did you mean 'eta'"),
    ("name: DPSGD", "nmae: DPSGD", "", ScenarioError, r"algorithm: needs a `name`; did you mean 'name' by 'nmae'\?"),
    ("eta: 0.1", "eta: 0.1, nam: D2", "", UnknownName, r"algorithm\.nam: DPSGD has no .* 'nam'; did you mean 'name'\?"),
    ("batch:", "bach:", "", UnknownName, r"problem\.bach: \w+ has no parameter 'bach'; did you mean 'batch'\?"),
    ("eta: 0.1", "eta: fast", "", ScenarioError, r"eta = 'fast'"),
    ("eta: 0.1", "eta: -0.1", "", ScenarioError, r"^try\.yaml:8:\d+ algorithm\.eta = -0\.1: a step size is above 0"),
    ("10 GFLOP/s", "10 GFLOP/s\n  slow: {nodes: [0], periods: [[2, 1]], factor: 2}", "", ScenarioError,
     r"^try\.yaml:7:\d+ nodes\.slow\.periods\.0: is from 2 s to 1 s"),
    ("10 GFLOP/s", "10 GFLOP/s\n  absence: {nodes: [9], away: [[1, 2]]}", "", UnknownName,
     r"^try\.yaml:7:\d+ nodes\.absence\.nodes.*no such host"),
    ("10 GFLOP/s", "10 GFLOP/s\n  absence: [{nodes: [9], away: [[1, 2]]}]", "", UnknownName,
     r"^try\.yaml:7:\d+ nodes\.absence\.0\.nodes.*no such host"),
    ("1 Mbit/s", "1 MHz", "", UnitError, r"try\.yaml:4:\d+ network\.link\.bandwidth.*MHz"),
    ("1 Mbit/s", "5 ms", "", UnitError, r"network\.link\.bandwidth: '5 ms' is a duration\. Expected a bandwidth"),
    ("5 ms", "5 parsecs", "", UnitError, r"network\.link\.latency: '5 parsecs' has the unknown unit"),
    ("loss: 0", "loss: 1.2", "", ScenarioError, r"network\.link\.loss = 1\.2.*below 1"),
    ("loss: 0", "loss: 1", "", ScenarioError, r"policy: retry.*send for ever"),
    ("graph: ring", "graph: edgeless", "", TopologyError, r"DPSGD needs a connected topology.*falls into parts"),
    ("rounds: 2", "rounds: 2\ntopology: exponential", "", TopologyError, r"needs an undirected graph"),
    ("rounds: 2", "rounds: 2\ntopology: star\nmixing: uniform", "", TopologyError, r"needs a regular graph.*use metro"),
    ("rounds: 2", "rounds: 2\nmixing: row_stochastic\ntopology: star", "", TopologyError, r"needs a doubly stochastic"),
    ("batch: 8", "batch: 2000, replace: false", "", ScenarioError, r"node 3 has 239 rows, fewer than a batch drawn"),
    ("batch: 8", "batch: 0", "", ScenarioError, r"at least 1, or `full`"),
    ("10 GFLOP/s", "0 FLOP/s", "", ScenarioError, r"nodes\.compute.*above 0 FLOP/s.*step: 10 ms"),
    ("data: digits", "data: {name: csv, path: nowhere.csv, target: y}", "", DataError,
     r"^try\.yaml:7:\d+ problem\.data: .*nowhere\.csv"),
    ("data: digits", "data: {name: csv, path: ragged.csv}", "", DataError,
     r"^try\.yaml:7:\d+ problem\.data: .*ragged\.csv, line 3: 1 fields where"),
    ("data: digits", "data: {name: libsvm, path: broken.txt}", "", DataError, r"broken\.txt.*line 2"),
    ("rounds: 2", "rounds: 2\ntarget: {acuracy: 0.9}", "", UnknownName, r"no such metric; did you mean 'accuracy'"),
    ("nodes: 6", "nodes: six", "", ScenarioError, r"try\.yaml:2:\d+ network\.nodes"),
    ("graph: ring", "graph: hypercube", "", TopologyError, r"hypercube: 6 nodes; needs a power of 2"),
    ("rounds: 2", "rounds: 2\ncollective: {server: 17}\n", "", ScenarioError, r"no such host"),
    ("name: Softmax", "name: Quadratic", "", ScenarioError, r"problem\.data.*Quadratic takes no data"),
    ("rounds: 2", "rounds: 2\nexecution: {device: tpu}", "", ScenarioError, r"no such device here.*use 'cpu' or"),
    ("network:\n", "network\n", "", ScenarioError, r"try\.yaml:"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "more", "error", "says"), CASES, ids=[case[1][:40] for case in CASES])
def test_what_is_wrong_is_told_with_its_place_and_cure(
    tmp_path: Path, old: str, new: str, more: str, error: type[Exception], says: str
) -> None:
    (tmp_path / "broken.txt").write_text("1 1:0.5 2:0.25\n0 1:0.5 two:0.25\n")
    (tmp_path / "ragged.csv").write_text("1,2\n3,4\n5\n")
    with pytest.raises(error, match=says):
        run(tmp_path, old, new, more)


def test_a_torn_npz_file_is_named(tmp_path: Path) -> None:
    good = tmp_path / "data.npz"
    np.savez(good, train_x=np.zeros((40, 3)), train_y=np.arange(40) % 2)
    good.write_bytes(good.read_bytes()[:200])
    with pytest.raises(DataError, match=r"data\.npz"):
        run(tmp_path, "data: digits", "data: {name: npz, path: data.npz}")


def test_a_directed_network_cannot_fail_both_ways_together() -> None:
    scenario = base(Gossips(), network={"graph": nx.DiGraph([(0, 1), (1, 2), (2, 0)]), "policy": "symmetric",
                                        "link": {"loss": 0.1}}, mixing="row_stochastic")  # fmt: skip
    with pytest.raises(TopologyError, match="policy symmetric fails both directions"):
        simnet.run(scenario)


# ---- programs ----------------------------------------------------------------------------------------------------

PROGRAM = """\
from dataclasses import dataclass
from simnet.algorithm import Algorithm

@dataclass(frozen=True)
class Mine(Algorithm):
    def program(self, node):
        x = node.initial("x")
        for _ in node.rounds():
            g = yield node.gradient(x)
            {line}
            node.report(x=x)
"""


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("if g[0] > 0: x = x - g", r"a Value has no truth yet: use torch\.where.*when=.*node\.read"),
        ("x = x - float(g[0]) * g", r"a Value is no number yet"),
        ("x = x - 0.1 * sum(g)", r"a Value cannot be iterated"),
        ("x = x - 0.1 * g.norm()", r"write torch\.norm\(x, \.\.\.\)"),
        ("x = node.gossip(x - g)", r"used before it is there: write 'yield node\.gossip"),
        ("x = yield x - g", r"'yield' takes a verb"),
    ],
)
def test_a_program_that_misuses_a_value(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "mine.py").write_text(PROGRAM.format(line=line))
    with pytest.raises(ProgramError, match=says):
        run(tmp_path, "name: DPSGD, eta: 0.1", "name: 'mine.py:Mine'")


def test_the_traceback_of_a_programs_error_ends_in_the_program(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(PROGRAM.format(line="if g[0] > 0: x = x - g"))
    with pytest.raises(ProgramError) as caught:
        run(tmp_path, "name: DPSGD, eta: 0.1", "name: 'mine.py:Mine'")
    lines, error = [], caught.value
    while error is not None:
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename.endswith("mine.py"):
                lines.append(trace.tb_lineno)
            trace = trace.tb_next
        error = error.__cause__  # type: ignore[assignment]
    assert 10 in lines


@pytest.mark.parametrize("name", ["mine.py:Yours", "nowhere.py:Mine", "mine.py:Number"])
def test_a_name_that_leads_nowhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "mine.py").write_text("class Number(float): pass\n" + PROGRAM.format(line="pass"))
    with pytest.raises(InputError, match=name.split(":")[0 if "nowhere" in name else 1]):
        run(tmp_path, "name: DPSGD, eta: 0.1", f"name: '{name}'")


# ---- too large ---------------------------------------------------------------------------------------------------


def test_more_memory_than_there_is_is_found_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simnet.valueplane, "free_memory", lambda: 10_000)
    with pytest.raises(
        MemoryTooSmall, match=r"6 nodes with 650 parameters each need .* 10 kB are free.*simnet estimate"
    ):
        run(tmp_path, "nodes: 6", "nodes: 6", more="execution: {device: cpu}\n")
    simnet.estimate(tmp_path / "try.yaml")


def test_a_graph_larger_than_the_memory_is_found_before_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(MemoryTooSmall, match=r"a graph of 1000000000000 nodes needs at least .* are free"):
        run(tmp_path, "nodes: 6", "nodes: 1000000000000")


def test_running_out_of_memory_is_a_named_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(simnet.valueplane.Batched, "catch_up", full)
    record = simnet.run(base(Gossips()))
    assert record.ended is Outcome.TOO_LARGE
    assert record.outcome == "too large: out of memory"


# ---- interrupted -------------------------------------------------------------------------------------------------

CHILD = """
import sys
import simnet

simnet.run({
    "network": {"nodes": 8, "graph": "ring"}, "problem": {"name": "Quadratic", "dim": 5}, "rounds": 10**6,
    "algorithm": {"name": "DPSGD", "eta": 0.1}, "evaluate_every": 1,
    "execution": {"tier": sys.argv[2], "device": "cpu"},
}, out=sys.argv[1])
"""


def rows_of(directory: Path) -> int:
    """Rounds in a record that may not be there yet."""
    try:
        return len(Record.load(directory).rounds["round"])
    except DataError:
        return 0


@pytest.mark.parametrize("tier", ["arrays", "events", "processes"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_leaves_a_record_that_says_where(tmp_path: Path, how: signal.Signals, tier: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(tmp_path / "run"), tier]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and rows_of(tmp_path / "run") <= 5:
            time.sleep(0.05)
        child.send_signal(how)
        _, said = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode != 0, said
    assert how is signal.SIGKILL or "Interrupted: interrupted: stopped by the user" in said
    record = Record.load(tmp_path / "run")
    last = int(record.rounds["round"][-1])
    assert last > 5
    np.testing.assert_array_equal(record.rounds["round"], np.arange(1, last + 1))
    assert np.isfinite(record.rounds["objective"]).all()
    assert record.ended is Outcome.INTERRUPTED
    reason = "stopped by the user" if how is signal.SIGINT else "killed"
    assert record.outcome == f"interrupted: {reason} after round {last}"
    assert ("x" in record.final) == ("sim_time_s" in record.summary) == (how is signal.SIGINT)


def interrupted(scenario: dict[str, Any]) -> Record:
    """The record of a run in whose 20th round, or a later one, Ctrl-C is pressed."""

    def press(event: dict[str, Any]) -> None:
        if event["round"] >= 20:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(Interrupted) as caught:
            simnet.run(scenario, progress=press)
    finally:
        signal.signal(signal.SIGINT, before)
    record: Record = caught.value.record
    return record


PLAIN: dict[str, Any] = {
    "network": {"nodes": 8, "graph": "ring"},
    "problem": {"name": "Quadratic", "dim": 5},
    "rounds": 10**6,
}


@pytest.mark.parametrize(
    ("tier", "algorithm", "every"),
    [("arrays", "DPSGD", 1), ("arrays", "DPSGD", 10**5), ("compiled", "DPSGD", 10**5), ("events", "DPSGD", 10**5),
     ("processes", "DPSGD", 7), ("events", "FedAvg", 7), ("events", "ADPSGD", 7), ("compiled", "ADPSGD", 7)],
)  # fmt: skip
def test_control_c_leaves_the_record_of_a_run_that_was_to_end_there(tier: str, algorithm: str, every: int) -> None:
    """Its last row, states, bytes and seconds are those of a run of so many rounds, or so many seconds."""
    scenario = {**PLAIN, "algorithm": {"name": algorithm, "eta": 0.1}, "evaluate_every": every,
                "nodes": {"step": "3 ms", "jitter": 0.5, "groups": [{"nodes": [2], "step": "11 ms"}]},
                "execution": {"tier": tier, "device": "cpu"}}  # fmt: skip
    cut = interrupted(scenario)
    last = int(cut.rounds["round"][-1])
    assert last >= 20
    assert cut.outcome == f"interrupted: stopped by the user after round {last}"
    end = {"rounds": last}
    if algorithm == "ADPSGD":
        end = {"stop": {"sim_time": cut.summary["sim_time_s"]}}
    whole = simnet.run({**scenario, **end})
    assert whole.rounds["round"][-1] == last
    np.testing.assert_array_equal(cut.final["x"], whole.final["x"])
    for name in ("sim_time_s", "rounds", "wire_bytes", "messages", "objective", "nominal_bits", "bytes_by_kind"):
        assert cut.summary[name] == whole.summary[name], name
    reporting = whole.nodes["reports"] > 0
    np.testing.assert_array_equal(cut.nodes["finish_s"][reporting], whole.nodes["finish_s"][reporting])
    for name in ("reports", "sent_bytes", "received_bytes"):
        np.testing.assert_array_equal(cut.nodes[name], whole.nodes[name], err_msg=name)
    for name in ("compute_s", "exposed_comm_s", "idle_s"):  # what goes on at the cut is a difference of other sums
        np.testing.assert_allclose(cut.nodes[name], whole.nodes[name], rtol=0, atol=1e-12 * cut.summary["sim_time_s"])
    np.testing.assert_array_equal(cut.links["wire_bytes"], whole.links["wire_bytes"])


def test_control_c_twice_ends_at_once() -> None:
    def twice(event: dict[str, Any]) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            simnet.run({**PLAIN, "algorithm": "DPSGD"}, progress=twice)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not isinstance(caught.value, Interrupted)


DROPPED = """
import os, signal, sys
from dataclasses import dataclass
import simnet
from simnet.algorithm import Algorithm

class Noisy:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)  # an exception that is raised in here is printed and forgotten

@dataclass(frozen=True)
class Mine(Algorithm):
    def program(self, node):
        x = node.initial("x")
        for t in node.rounds():
            g = yield node.gradient(x)
            x = x - 0.1 * g
            if t == 6:
                Noisy()
            node.report(x=x)

simnet.run({"network": {"nodes": 2}, "nodes": {"step": "1 ms"}, "problem": "Quadratic", "algorithm": Mine(),
            "rounds": 100, "evaluate_every": 1}, out=sys.argv[1])
"""


def test_an_interrupt_that_python_drops_still_ends_the_run(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", DROPPED, str(tmp_path / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "Interrupted: interrupted: stopped by the user" in done.stderr
    record = Record.load(tmp_path / "run")
    assert record.outcome == "interrupted: stopped by the user after round 7"
    assert record.final["x"].shape == (2, 10)


def test_a_program_without_a_report_is_told_so() -> None:
    class Silent(Algorithm):
        def program(self, node: Any) -> Any:
            x = node.initial("x")
            for _ in node.rounds():
                x = yield node.gossip(x)

    with pytest.raises(ProgramError, match=r"Silent ended without a report: end each round with node\.report\(x=x\)"):
        simnet.run(base(algorithm=Silent(), rounds=3))


class Wrong(Algorithm):
    """A program with one wrong line."""

    def __init__(self, line: Any) -> None:
        self.line = line

    def program(self, node: Any) -> Any:
        x = node.initial("x")
        for _ in node.rounds():
            x = yield node.gossip(x)
            self.line(node, x)
            node.report(x=x)


def reports_for_ever(node: Any, x: Any) -> None:
    while True:
        node.report(x=x)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (lambda node, x: node.report(y=1), r"node\.report\(y=\.\.\.\) takes a Value or a tuple of Values, not 1"),
        (lambda node, x: node.coin(1.5), r"node\.coin takes a probability between 0 and 1, not 1\.5"),
        (reports_for_ever, r"10000 reports without a verb between them"),
    ],
)
def test_calls_that_mean_nothing_are_refused(line: Any, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        simnet.run(base(Wrong(line)))


def tell(node: Any, x: Any) -> None:
    node.report(x=x)


class Helped(Algorithm):
    """Two roles, one of which reports through a function of the module."""

    roles = ("hub", "leaf")

    def hub(self, node: Any) -> Any:
        x = node.initial("x")
        for _ in node.rounds():
            x = torch.mean((yield node.gather("leaf")), 0)
            tell(node, x)

    def leaf(self, node: Any) -> Any:
        x = node.initial("x")
        for _ in node.rounds():
            g = yield node.gradient(x)
            x = x - 0.1 * g
            yield node.send(x, to="hub")


def test_a_role_may_report_through_a_function_and_a_server_has_no_objective_of_its_own() -> None:
    scenario = base(Helped(), network={"nodes": 2, "graph": "ring"})  # as many hubs as leaves
    Helped.data_roles = ("leaf",)
    record = simnet.run(scenario)
    assert record.rounds["round"].tolist() == [2, 4, 6]
    assert "objective" in record.rounds and "node_objective_mean" not in record.rounds


STEPS_OF_THEIR_OWN = {"OptEx", "OptExReplicated"}  # a part has the step size, and refuses it: test_gaussian_process


@pytest.mark.parametrize("name", sorted(set(registry.shipped("algorithms")) - STEPS_OF_THEIR_OWN))
@pytest.mark.parametrize("eta", (0, -0.1, float("inf"), float("nan")))
def test_a_step_size_that_is_none_is_refused_by_its_field(name: str, eta: float) -> None:
    kind = registry.find("algorithms", name)
    field = kind.step_sizes[0]
    assert field in inspect.signature(kind).parameters
    for algorithm in ({"name": name, field: eta}, kind(**{field: eta})):
        with pytest.raises(ScenarioError, match="a step size is above 0 and finite") as caught:
            make_algorithm(Scenario(network={"nodes": 4}, problem="Quadratic", algorithm=algorithm))
        assert caught.value.field == f"algorithm.{field}"
