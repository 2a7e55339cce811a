"""The memory of a run: predicted before the start, and checked after; and states in bfloat16."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import simnet
from simnet.errors import MemoryTooSmall
from simnet.prepare import prepare
from simnet.scenario import Scenario
from simnet.session import followed_bytes
from simnet.valueplane.device import most_on_gpu


def scenario(algorithm: str, **over: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "network": {"nodes": 64, "graph": "ring"},
        "problem": {"name": "MLP", "hidden": [512, 256], "data": "digits", "batch": 2},  # too large to mix in one go
        "algorithm": {"name": algorithm, "eta": 0.1},
        "rounds": 4,
        "execution": {"device": "cpu"},
    }
    return base | over


@pytest.mark.parametrize("algorithm", ["DPSGD", "GradientTracking", "D2", "DIGing", "DSGDm", "SCAFFOLD", "SGP"])
def test_the_states_that_a_run_keeps_are_known_before(algorithm: str) -> None:
    record = simnet.run(scenario(algorithm))
    assert record.summary["states_bytes"] == record.header["states_bytes_predicted"]


def test_a_run_that_evaluates_seldom_keeps_no_more_than_predicted() -> None:
    record = simnet.run(scenario("DPSGD", rounds=6, evaluate_every=6))
    assert record.summary["states_bytes"] <= record.header["states_bytes_predicted"]


def test_following_a_program_makes_no_tensors() -> None:
    ring = {"nodes": 1024, "graph": "ring"}
    declared = {"name": "Declared", "parameters": 10**9}
    plan = prepare(Scenario(**scenario("GradientTracking", network=ring, problem=declared)))
    assert followed_bytes(plan, torch.float32) == 3 * 1024 * 10**9 * 4  # 12 TB, had they been made


def test_programs_that_do_not_go_in_step_are_not_followed() -> None:
    for algorithm in ("FedAvg", "ADPSGD"):
        plan = prepare(Scenario(**scenario(algorithm, network={"nodes": 4, "graph": "complete"})))
        assert followed_bytes(plan, torch.float32) is None


def test_what_does_not_fit_says_how_many_nodes_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simnet.valueplane.free_memory", lambda: 128 << 20)
    with pytest.raises(MemoryTooSmall, match=r"of states \(4 bytes a number.*Take at most \d+ nodes, .*chunk_rows"):
        simnet.run(scenario("GradientTracking"))


def test_pieces_on_a_gpu_follow_its_free_memory() -> None:
    assert most_on_gpu(139 << 30) == 1 << 30
    assert most_on_gpu(4 << 30) == 1 << 28
    assert most_on_gpu(1 << 20) == 1 << 24  # too little for anything: the run says so by itself


# ---- bfloat16 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["batched", "one_by_one"])
@pytest.mark.parametrize("link", [{}, {"loss": 0.3}])
def test_all_ones_stay_all_ones_in_bfloat16(executor: str, link: dict[str, Any]) -> None:
    network = {"nodes": 9, "graph": "torus", "policy": "drop", "link": link}
    execution = {"device": "cpu", "dtype": "bfloat16", "executor": executor}
    record = simnet.run(
        {"network": network, "problem": {"name": "Quadratic", "dim": 5}, "algorithm": "tests.programs:Mixes",
         "rounds": 20, "execution": execution}
    )  # fmt: skip
    np.testing.assert_array_equal(record.final["x"], 1.0)


@pytest.mark.parametrize("algorithm", ["DPSGD", "FedAvg", "ADPSGD"])
def test_bfloat16_follows_float32_as_far_as_its_digits_go(algorithm: str) -> None:
    small = {"network": {"nodes": 4, "graph": "complete"}, "rounds": 20,
             "problem": {"name": "Softmax", "data": "digits", "batch": 16}}  # fmt: skip
    runs = [
        simnet.run(scenario(algorithm, **small, execution={"device": "cpu", "dtype": dtype}))
        for dtype in ("float32", "bfloat16")
    ]
    assert runs[1].final["x"].dtype == np.float32  # numpy has no bfloat16
    np.testing.assert_allclose(runs[1].final["x"], runs[0].final["x"], atol=0.02)
    assert runs[1].header["states_bytes_predicted"] * 2 == runs[0].header["states_bytes_predicted"]
