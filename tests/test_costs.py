"""Where the durations of oracle calls come from, and both clocks of a record."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import simnet
from simnet.algorithm import Algorithm, Program
from simnet.calibration import Calibration, MeasuredCall, calibrate
from simnet.cli import app
from simnet.costs import Timing
from simnet.device_profile import CONV, GEMM, POINTWISE, VIEW, DeviceProfile, Operators
from simnet.errors import InputError, ScenarioError
from simnet.node import Node
from simnet.record import Record
from simnet.valueplane.operators import operators
from simnet.valueplane.stopwatch import Stopwatch


def scenario(**over: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "network": {"nodes": 4, "graph": "ring"},
        "problem": {"name": "Softmax", "data": "digits", "batch": 16},
        "algorithm": {"name": "DPSGD", "eta": 0.1},
        "rounds": 6,
        "execution": {"device": "cpu"},
    }
    return base | over


# ---- both clocks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["batched", "one_by_one"])
def test_a_record_holds_the_host_seconds_of_tensor_work_by_oracle_and_by_round(executor: str) -> None:
    record = simnet.run(scenario(execution={"device": "cpu", "executor": executor}))
    assert record.summary["oracle_calls"] == {"gradient": 4 * 6}
    spent = record.rounds["host_tensor_s"]
    assert (np.diff(spent) > 0).all() and spent[0] > 0
    assert 0 < record.summary["oracle_host_s"]["gradient"] < record.summary["host_tensor_s"]
    assert record.summary["host_tensor_s"] >= spent[-1]


@pytest.mark.parametrize("algorithm", [{"name": "FedAvg", "eta": 0.1}, {"name": "ADPSGD", "eta": 0.1}])
def test_tensor_work_is_counted_for_messages_and_for_partners_by_time(algorithm: dict[str, Any]) -> None:
    record = simnet.run(scenario(algorithm=algorithm, network={"nodes": 4, "graph": "complete"}))
    assert record.summary["oracle_calls"]["gradient"] >= 6
    assert record.summary["host_tensor_s"] >= record.summary["oracle_host_s"]["gradient"] > 0


def test_an_estimate_has_no_tensor_work() -> None:
    assert "host_tensor_s" not in simnet.estimate(scenario()).summary


def test_nested_work_counts_once() -> None:
    watch = Stopwatch(torch.device("cpu"))
    with watch.working(), watch.working():
        sum(range(10_000))
    assert watch.calls == {"all": 1}


# ---- calibrated ----------------------------------------------------------------------------------------------------


def test_a_calibrated_run_charges_every_call_the_median() -> None:
    record = simnet.run(scenario(nodes={"durations": "calibrated"}))
    (found,) = record.header["calibration"]
    assert found["oracle"] == "gradient" and found["rows"] == 16 and found["samples"] >= 15
    np.testing.assert_allclose(record.nodes["compute_s"], 6 * found["median_s"], rtol=1e-12)
    assert record.header["cost_source"] == "calibrated"


def test_full_batches_of_unequal_size_are_measured_by_size() -> None:
    problem = {"name": "Softmax", "data": "digits", "split": {"name": "dirichlet", "alpha": 1.0}}
    record = simnet.run(scenario(nodes={"durations": "calibrated"}, problem=problem, rounds=2))
    rows = np.array(record.header["rows_per_node"])
    median = {c["rows"]: c["median_s"] for c in record.header["calibration"]}
    assert sorted(median) == sorted(set(rows.tolist()))
    np.testing.assert_allclose(record.nodes["compute_s"], [2 * median[r] for r in rows.tolist()], rtol=1e-12)


def test_speed_divides_what_was_measured_and_a_group_may_be_absolute() -> None:
    groups = [{"nodes": [1], "speed": 4.0}, {"nodes": [2], "compute": 1e9}, {"nodes": [3], "step": 0.25}]
    record = simnet.run(scenario(nodes={"durations": "calibrated", "speed": 2.0, "groups": groups}, rounds=1))
    (found,) = record.header["calibration"]
    flop = simnet.run(scenario(nodes={"compute": 1e9}, rounds=1)).nodes["compute_s"][2]
    expected = [found["median_s"] / 2, found["median_s"] / 4, flop, 0.25]
    np.testing.assert_allclose(record.nodes["compute_s"], expected, rtol=1e-12)


def test_an_estimate_may_be_calibrated_too() -> None:
    record = simnet.estimate(scenario(nodes={"durations": "calibrated"}))
    (found,) = record.header["calibration"]
    np.testing.assert_allclose(record.nodes["compute_s"], 6 * found["median_s"], rtol=1e-12)


def test_zo_nodes_are_measured_apart() -> None:
    nodes = {"durations": "calibrated", "groups": [{"nodes": [0], "oracle": "zo", "estimator": {"rv": 3}}]}
    record = simnet.run(scenario(nodes=nodes, rounds=1))
    found = {c["zo"]: c for c in record.header["calibration"]}
    assert found[True]["estimator"] == 1 and found[False]["estimator"] == -1
    expected = [found[True]["median_s"], *3 * [found[False]["median_s"]]]
    np.testing.assert_allclose(record.nodes["compute_s"], expected, rtol=1e-12)


def test_a_wide_spread_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simnet.valueplane.meter.timed", lambda calls, device, between=None: Timing(1e-3, 0.4, 15))
    record = simnet.run(scenario(nodes={"durations": "calibrated"}, rounds=1))
    assert any("spread by 40 %" in note for note in record.header["notes"])


# ---- measured, and replayed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "network"),
    [
        ({"name": "DPSGD", "eta": 0.1}, {"nodes": 4, "graph": "ring"}),
        ({"name": "DPSGD", "eta": 0.1}, {"nodes": 4, "graph": "ring", "policy": "drop", "link": {"loss": 0.2}}),
        ({"name": "GradientTracking", "eta": 0.05}, {"nodes": 4, "graph": "complete", "model": "maxmin"}),
        ({"name": "FedAvg", "eta": 0.1}, {"nodes": 4, "graph": "complete"}),
        ({"name": "ADPSGD", "eta": 0.1}, {"nodes": 4, "graph": "complete"}),
    ],
)
def test_a_measured_run_is_replayed_with_the_same_event_log(
    algorithm: dict[str, Any], network: dict[str, Any], tmp_path: Path
) -> None:
    ours = scenario(algorithm=algorithm, network=network)
    measured = simnet.run(ours | {"nodes": {"durations": "measured", "jitter": 0.1}}, out=tmp_path / "measured")
    assert measured.summary["tier"] == "processes"
    calls = measured.durations
    assert len(calls["seconds"]) == measured.summary["oracle_calls"]["gradient"] and (calls["seconds"] > 0).all()
    nodes = {"durations": {"replay": str(tmp_path / "measured")}, "jitter": 0.1}
    replayed = simnet.run(ours | {"nodes": nodes})
    assert replayed.summary["log_hash"] == measured.summary["log_hash"]
    np.testing.assert_array_equal(replayed.nodes["compute_s"], measured.nodes["compute_s"])
    estimated = simnet.estimate(ours | {"nodes": nodes}, full=True)
    assert estimated.summary["log_hash"] == measured.summary["log_hash"]


def test_a_measured_run_has_the_values_of_any_other() -> None:
    plain, measured = simnet.run(scenario()), simnet.run(scenario(nodes={"durations": "measured"}))
    np.testing.assert_allclose(measured.final["x"], plain.final["x"], atol=1e-6)


def test_a_replay_refuses_what_was_not_measured(tmp_path: Path) -> None:
    simnet.run(scenario(nodes={"durations": "measured"}), out=tmp_path / "measured")
    replay = {"durations": {"replay": str(tmp_path / "measured")}}
    with pytest.raises(ScenarioError, match="no duration of call 7 at node 0"):
        simnet.run(scenario(nodes=replay, rounds=7))
    simnet.run(scenario(), out=tmp_path / "counted")
    with pytest.raises(ScenarioError, match="no durations to replay: its durations are 'flops'"):
        simnet.run(scenario(nodes={"durations": {"replay": str(tmp_path / "counted")}}))
    with pytest.raises(ScenarioError, match=r"nodes\.durations\.replay.*no record"):
        simnet.run(scenario(nodes={"durations": {"replay": str(tmp_path / "nowhere")}}))


def test_a_killed_measured_run_keeps_the_durations_of_its_rows(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(event: dict[str, Any]) -> None:
        if event["round"] >= 1:
            raise Stopped

    ours = scenario(nodes={"durations": "measured"}, rounds=40, evaluate_every=1)
    with pytest.raises(Stopped):
        simnet.run(ours, out=tmp_path / "killed", progress=stop)
    assert set(Record.load(tmp_path / "killed").durations["call"][:4].tolist()) == {0}


# ---- device profiles -----------------------------------------------------------------------------------------------

TRUE = DeviceProfile(
    device="made up", call={"loss": 1e-5, "gradient": 1e-4, "hvp": 2e-4},
    per_operator={"loss": 2e-6, "gradient": 5e-6, "hvp": 6e-6}, products=1e-6, convolutions=5e-5, gemm=5e10, conv=3e10,
    pointwise=1e10, read=4e10, write=1e10,
)  # fmt: skip


def some_calls(count: int = 120) -> list[Operators]:
    rng = np.random.default_rng(0)
    calls = []
    for k in range(count):
        rows = []
        for _ in range(int(rng.integers(20, 200))):
            kind = int(rng.choice([GEMM, CONV, POINTWISE, VIEW], p=[0.2, 0.05, 0.5, 0.25]))
            size = 10 ** rng.uniform(2, 6)
            flop = {GEMM: size * 10 ** rng.uniform(0, 3), CONV: size * 100, POINTWISE: size, VIEW: 0.0}[kind]
            moved = (0.0, 0.0) if kind == VIEW else (8 * size, 4 * size * rng.uniform(0.1, 1.5))
            rows.append((kind, flop, *moved))
        calls.append(Operators(("loss", "gradient", "hvp")[k % 3], np.array(rows, np.float64)))
    return calls


def test_a_fit_to_seconds_of_a_profile_finds_that_profile() -> None:
    calls = some_calls()
    seconds = [TRUE.seconds(call) for call in calls]
    found = DeviceProfile.fitted(calls, seconds, TRUE.pointwise, "found")
    again = [found.seconds(call) for call in calls]
    np.testing.assert_allclose(again, seconds, rtol=2e-3)
    for name in ("gemm", "conv", "read", "write"):
        assert getattr(found, name) == pytest.approx(getattr(TRUE, name), rel=0.1), name


def test_a_calls_seconds_are_overheads_and_the_larger_of_arithmetic_and_memory() -> None:
    rows = np.array([[GEMM, 1e9, 1e3, 1e3], [POINTWISE, 10.0, 4e7, 0.0], [VIEW, 0, 0, 0]], np.float64)
    expected = 1e-4 + 3 * 5e-6 + 1e-6 + 1e9 / 5e10 + 4e7 / 4e10
    assert TRUE.seconds(Operators("gradient", rows)) == pytest.approx(expected, rel=1e-12)


def test_a_profile_file_gives_the_profile_back(tmp_path: Path) -> None:
    path = tmp_path / "made_up.yaml"
    path.write_text(TRUE.model_copy(update={"held_out_error": {"mlp": 0.0834}}).text())
    read = DeviceProfile.load(path)
    assert read.model_copy(update={"held_out_error": {}}) == TRUE
    assert read.held_out_error == {"mlp": pytest.approx(0.0834)}


def test_the_operators_of_a_product_and_its_backward_pass_are_counted() -> None:
    a, x = torch.ones(8, 5, dtype=torch.float32), torch.ones(5, dtype=torch.float32)
    counted = operators("gradient", lambda: torch.func.grad(lambda v: ((a @ v[:, None]) ** 2).sum())(x))
    products = counted.rows[counted.rows[:, 0] == GEMM]
    assert products[:, 1].tolist() == [2 * 8 * 5, 2 * 8 * 5]  # a v, and a' times what came back
    assert (counted.rows[counted.rows[:, 0] == VIEW][:, 1:] == 0).all()


def test_a_scenario_names_a_profile_and_is_told_its_error(tmp_path: Path) -> None:
    (tmp_path / "made_up.yaml").write_text(TRUE.model_copy(update={"held_out_error": {"mlp": 0.09}}).text())
    profile = str(tmp_path / "made_up.yaml")
    one = simnet.run(scenario(nodes={"device": profile}, rounds=1))
    twice = simnet.estimate(scenario(nodes={"device": profile, "speed": 2.0}, rounds=1))
    assert (one.nodes["compute_s"] > 1e-4).all()
    np.testing.assert_allclose(twice.nodes["compute_s"], one.nodes["compute_s"] / 2, rtol=1e-12)
    assert any("9 % (mlp)" in note for note in one.header["notes"])
    assert one.header["cost_source"] == "profile" and profile in one.header["device_profiles"]


def test_plain_arithmetic_is_charged_at_the_devices_rate_of_products(tmp_path: Path) -> None:
    (tmp_path / "works.py").write_text(
        "from dataclasses import dataclass\n"
        "from simnet.algorithm import Algorithm\n"
        "@dataclass(frozen=True)\n"
        "class Works(Algorithm):\n"
        "    def program(self, node):\n"
        "        x = node.initial('x')\n"
        "        for _ in node.rounds():\n"
        "            yield node.work(5e9)\n"
        "            node.report(x=x)\n"
    )
    (tmp_path / "made_up.yaml").write_text(TRUE.text())
    works = {"algorithm": f"{tmp_path / 'works.py'}:Works", "rounds": 1}
    record = simnet.run(scenario(nodes={"device": str(tmp_path / "made_up.yaml")}, **works))
    np.testing.assert_allclose(record.nodes["compute_s"], 5e9 / TRUE.gemm, rtol=1e-12)
    assert (simnet.run(scenario(nodes={"durations": "calibrated"}, **works)).nodes["compute_s"] > 0).all()


@dataclass(frozen=True)
class Works(Algorithm):
    """A gradient, and arithmetic that is no oracle's."""

    mixing: ClassVar[str | None] = None
    connected: ClassVar[bool] = False

    def program(self, node: Node) -> Program:
        x = node.initial("x")
        for _ in node.rounds():
            x = x - 0.1 * (yield node.gradient(x))
            yield node.work(1e6)
            node.report(x=x)


def test_plain_arithmetic_is_replayed_at_the_rate_that_was_measured(tmp_path: Path) -> None:
    ours = scenario(algorithm=Works())
    measured = simnet.run(ours | {"nodes": {"durations": "measured"}}, out=tmp_path / "measured")
    assert measured.header["work_flop_per_s"] > 0
    replayed = simnet.run(ours | {"nodes": {"durations": {"replay": str(tmp_path / "measured")}}})
    assert replayed.summary["log_hash"] == measured.summary["log_hash"]
    np.testing.assert_array_equal(replayed.nodes["compute_s"], measured.nodes["compute_s"])


@pytest.mark.parametrize("durations", ["measured", {"replay": "a_record"}])
def test_a_groups_profile_is_not_quietly_passed_over(durations: Any) -> None:
    groups = [{"nodes": [1], "device": "made_up.yaml"}]
    with pytest.raises(ScenarioError, match=r"nodes\.groups\.0\.device.*those of each call"):
        simnet.run(scenario(nodes={"durations": durations, "groups": groups}))


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ({"device": "nowhere.yaml"}, "no device profile 'nowhere.yaml'"),
        ({"durations": "calibrated", "compute": 1e9}, "say `speed`"),
        ({"durations": "guessed"}, "nodes.durations"),
        ({"speed": 2.0}, "with FLOP counts say `compute`"),
        ({"speed": 0.0, "durations": "calibrated"}, "nodes.speed"),
    ],
)
def test_bad_durations_are_refused_by_field(nodes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match="nodes") as caught:
        simnet.run(scenario(nodes=nodes))
    assert words in str(caught.value)


def test_measured_durations_cannot_be_estimated() -> None:
    with pytest.raises(ScenarioError, match="use 'simnet run'"):
        simnet.estimate(scenario(nodes={"durations": "measured"}))


def test_a_profile_with_an_unknown_unit_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(TRUE.text().replace("gemm: 50 GFLOP/s", "gemm: 50 GFLOPS"))
    with pytest.raises(InputError, match=r"bad\.yaml:\d+:\d+ gemm: '50 GFLOPS' has the unknown unit"):
        simnet.run(scenario(nodes={"device": str(path)}))


# ---- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def few_models(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {
        "mlp": [({"hidden": [8]}, (1, 16), False), ({"hidden": [16]}, (8,), False), ({"hidden": [12]}, (8,), True)]
    }
    monkeypatch.setattr("simnet.calibration._SIZES", sizes)
    monkeypatch.setattr("simnet.calibration._SWEEPS", 1)
    monkeypatch.setattr("simnet.valueplane.meter._LONG_ENOUGH_S", 0.0)


def test_calibrate_holds_models_out_and_writes_a_profile_that_a_scenario_names(
    few_models: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("simnet.calibration.TOO_WIDE", 10.0)  # other work on this machine is no concern here
    shown = CliRunner().invoke(app, ["calibrate", "--out", "here.yaml", "--json"])
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    held = [call for call in found["calls"] if call["held_out"]]
    assert {call["oracle"] for call in held} == {"loss", "gradient", "hvp"}
    errors = [abs(call["predicted_s"] / call["median_s"] - 1) for call in held]
    assert found["profile"]["held_out_error"]["mlp"] == pytest.approx(np.mean(errors))
    again = CliRunner().invoke(app, ["calibrate", "--out", "here.yaml"])
    assert again.exit_code == 2 and "already there" in again.stderr
    assert (simnet.run(scenario(nodes={"device": "here.yaml"}, rounds=1)).nodes["compute_s"] > 0).all()


def test_calibrate_tries_the_scenarios_own_problem(few_models: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simnet.calibration.TOO_WIDE", 10.0)
    told: list[str] = []
    found = calibrate(
        simnet.Scenario(**scenario()), progress=lambda done, of, label: told.append(f"{done}/{of} {label}")
    )
    mine = [call for call in found.calls if call.model == "Softmax"]
    assert len(mine) == 3 and all(call.held_out and call.batch == 16 for call in mine)
    assert told[-1] == "4/5 Softmax"


def test_a_calibration_whose_spread_is_too_large_says_what_to_do(
    few_models: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simnet.valueplane.meter.timed", lambda calls, device, between=None: Timing(1e-3, 0.9, 15))
    with pytest.raises(InputError, match="differ by 90 %.*Close it and calibrate again"):
        calibrate()
    call = MeasuredCall("mlp", "mlp", "loss", 1, Timing(1e-3, 0.2, 15), some_calls(1)[0], True)
    assert "Close what else" in Calibration(TRUE, [call]).notes()[0]
