"""The benchmark's own code runs, so that it is there when numbers are wanted; its numbers are no test."""

from __future__ import annotations

import json
import math

import pytest

from simnet import bench
from simnet.benches import bilevel, common, compressors, estimators, kernels, optex, scalings, time, values
from simnet.prepare import prepare


@pytest.mark.parametrize("tier", ["arrays", "compiled", "events"])
def test_the_time_plane_is_walked_alone(tier: str) -> None:
    if tier == "compiled":
        pytest.importorskip("numba")
    plan = prepare(time.time_scenario(20, 3, 0.05, policy="drop", link={"loss": 0.05}))
    assert time.walked(plan, tier) > 0.0


@pytest.mark.parametrize("features", [64, 20])
def test_the_common_job_learns_what_its_floor_learns(features: int) -> None:
    row = common.measure(common.Job(8, features=features, hidden=8, rounds=30), repeats=1)
    assert row["parameters"] == 8 * features + 8 + 10 * 8 + 10
    accuracy = row["accuracy"]
    assert set(accuracy) == {"simnet", "floor", "loop"}
    assert max(accuracy.values()) - min(accuracy.values()) < 0.25 and min(accuracy.values()) > 0.3
    assert row["to_floor"] > 0 and row["us_per_node_step"] == pytest.approx(1e3 * row["ms_per_round"] / 8)


def test_made_up_rows_make_the_large_model() -> None:
    job = common.Job(6, features=784, hidden=128)
    assert sum(job.sizes) == prepare(job.scenario()).problem.dim == 101_770


def test_every_compressor_is_measured_beside_a_copy_and_a_loop() -> None:
    for name in compressors.SETTINGS:
        row = compressors.measure(name, 5, 1, "cpu", d=40)
        assert min(row["ms"], row["to_copy"], row["loop_to_simnet"]) > 0
    assert "loop_to_simnet" not in compressors.measure("sign", 65, 1, "cpu", d=40)


def test_kernels_are_compared_where_they_exist() -> None:
    softmax, cnn = (kernels.measure(name, kernels.MODELS[name], 5, 1, "cpu") for name in ("Softmax", "CNN"))
    assert {"vmap_to_closed", "loop_to_closed"} <= softmax.keys()
    assert "closed_ms" not in cnn and cnn["loop_to_vmap"] > 0


def test_every_job_of_scattered_values_has_its_floor() -> None:
    for name, (scenario, floor) in values.JOBS.items():
        row = values.measure(name, scenario, floor, 6, 1, "cpu")
        assert math.isfinite(row["to_floor"]) and row["one_by_one_to_simnet"] > 0


def test_a_part_prints_one_json_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    bench.main(["values", "--nodes", "4", "5", "--repeats", "1", "--json"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["nodes"] for row in rows] == [4, 5]


def test_every_estimator_is_measured_beside_a_loop_and_a_copy() -> None:
    for name in estimators.NAMES:
        row = estimators.measure(name, 4, 1, "cpu")
        assert row["job"] == f"estimators, {name}" and row["to_copy"] > 0 and row["loop_to_simnet"] > 0
    assert "loop_to_simnet" not in estimators.measure("fwd_grad_fast", 65, 1, "cpu")


def test_every_scaling_is_measured_beside_plain_steps() -> None:
    for problem in scalings.PROBLEMS:
        row = scalings.measure(problem, 3, 1, "cpu", rounds=2)
        assert row["plain_us_per_step"] > 0
        assert min(row[f"{name}_to_plain"] for name in scalings.SCALINGS if name != "plain") > 0


def test_the_coordinator_of_optex_is_measured_beside_a_gradient() -> None:
    row = optex.measure(6, 4, 1, "cpu", features=8, hidden=3)
    assert row["parameters"] == 8 * 3 + 3 + 3 * 10 + 10 and (row["T0"], row["N"]) == (6, 4)
    parts = ("fit", "fresh_fit", "proxy")
    assert min(row[f"{name}_ms"] for name in (*parts, "gradient")) > 0
    assert all(math.isfinite(row[f"{name}_to_gradient"]) for name in parts)


def test_bilevel_oracles_are_measured_beside_closed_forms_and_a_loop() -> None:
    for name in bilevel.PROBLEMS:
        row = bilevel.measure(name, 3, 1, "cpu")
        assert row["job"] == f"bilevel, {name}" and min(row["to_closed"], row["loop_to_stacked"]) > 0
    assert "loop_to_stacked" not in bilevel.measure("quadratic", 65, 1, "cpu")
