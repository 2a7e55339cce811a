"""A CUDA device computes what the CPU computes, from the same draws, and is never waited for within a round."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest
import torch

import simnet
from simnet import registry, streams
from simnet.valueplane import draws
from tests.programs import PROGRAMS, Averages, Tuples, base, tiny_data

gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
ALGORITHMS = sorted(registry.shipped("algorithms"))
NEEDS: dict[str, dict[str, Any]] = {
    "RelaySGD": {"network": {"nodes": 7, "graph": "tree"}},
    "SGP": {"mixing": "column_stochastic"},
    "PushDIGing": {"mixing": "column_stochastic"},
    "FedAvg": {"network": {"nodes": 7, "graph": "star"}},
    "SCAFFOLD": {"network": {"nodes": 7, "graph": "star"}},
}


def lossy(name: str, **more: Any) -> dict[str, Any]:
    """Twelve rounds of an algorithm on digits in float32, a fifth of the messages lost."""
    scenario: dict[str, Any] = {
        "seed": 3,
        "network": {"nodes": 7, "graph": "complete"},
        "nodes": {"step": "10 ms"},
        "problem": {"name": "Softmax", "data": "digits", "batch": 8},
        "algorithm": {"name": name} | ({} if name == "ChocoGossip" else {"eta": 0.05}),
        "rounds": 12,
        "evaluate_every": 6,
    }
    scenario |= NEEDS.get(name, {}) | more
    scenario["network"] = {**scenario["network"], "policy": "drop", "link": {"loss": 0.2}, "loss_unit": "message"}
    return scenario


def same(cpu: simnet.Record, cuda: simnet.Record, tolerance: float) -> None:
    """Clocks, bytes and the log to the last bit; states and metrics to a tolerance relative to their size."""
    assert cuda.header["device"].startswith("cuda")
    assert cuda.outcome == cpu.outcome
    assert cuda.summary["log_hash"] == cpu.summary["log_hash"]
    assert cuda.final.keys() == cpu.final.keys() and cpu.final
    for name, x in cpu.final.items():
        np.testing.assert_allclose(cuda.final[name], x, rtol=0, atol=tolerance * float(np.abs(x).max()), err_msg=name)
    for name in ("objective", "accuracy", "validation_loss"):
        if name in cpu.rounds:
            np.testing.assert_allclose(cuda.rounds[name], cpu.rounds[name], rtol=10 * tolerance, err_msg=name)


def both(scenario: dict[str, Any], tolerance: float, **set: Any) -> None:
    dotted = {name.replace("__", "."): value for name, value in set.items()}
    cpu, cuda = (simnet.run(scenario, set={"execution.device": d, **dotted}) for d in ("cpu", "cuda"))
    same(cpu, cuda, tolerance)


@pytest.mark.parametrize("name", [pytest.param(name, marks=gpu) for name in ALGORITHMS])
def test_every_algorithm_gives_the_same_on_both_devices(name: str) -> None:
    both(lossy(name), 1e-4)


@pytest.mark.parametrize("problem", [pytest.param(p, marks=gpu) for p in ("MLP", "CNN", "Logistic", "Transformer")])
@pytest.mark.parametrize("kernels", ("closed", "vmap"))
def test_every_model_gives_the_same_on_both_devices(problem: str, kernels: str) -> None:
    data = {"Logistic": "heart_scale", "Transformer": "sample_text"}.get(problem, "digits")
    both(lossy("DPSGD", problem={"name": problem, "data": data, "batch": 8}), 1e-4, execution__kernels=kernels)


def lossy_program(program: Any, missing: str, problem: str) -> dict[str, Any]:
    """A program of the tests with lost and late messages, and two zeroth-order nodes where it asks for no more."""
    zo = [] if program is Tuples else [{"count": 2, "oracle": "zo"}]
    return base(
        program(missing=missing, deadline_s=0.02),
        network={"nodes": 6, "graph": "complete", "policy": "drop", "link": {"latency": "5 ms", "loss": 0.3}},
        nodes={"step": "10 ms", "jitter": 0.4, "groups": zo},
        problem={"name": problem, "data": tiny_data(), "batch": 3},
    )


@pytest.mark.parametrize("missing", [pytest.param(m, marks=gpu) for m in ("self", "zero", "stale", "value")])
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_verb_gives_the_same_on_both_devices(program: Any, missing: str) -> None:
    scenario = lossy_program(program, missing, "Softmax")
    for executor in ("batched", "one_by_one"):
        both(scenario, 1e-9, execution__executor=executor)


# ---- draws ----------------------------------------------------------------------------------------------------------


def keys(count: int = 9) -> np.ndarray:
    return streams.keys(streams.key(7, "draw", 2), np.arange(count))


def test_bits_in_signed_integers_are_those_of_splitmix64() -> None:
    raw = draws.bits(torch.from_numpy(keys().view(np.int64)), 50, start=11)
    np.testing.assert_array_equal(raw.numpy().view(np.uint64), streams.bits(keys(), 50, start=11))


def test_a_normal_through_the_nearer_tail_is_that_of_the_host() -> None:
    u = streams.uniform(keys(), 5000)
    u[0, :3] = 0.0, 0.5, 1.0 - 2.0**-53
    found = draws._normal(torch.from_numpy(u)).numpy()
    np.testing.assert_allclose(found, streams._normal_quantile(u + 2.0**-54), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("law", [pytest.param(law, marks=gpu) for law in draws.LAWS])
def test_a_draw_is_the_same_on_both_devices(law: str) -> None:
    here, there = (draws.draw(law, keys(), 333, torch.device(d), start=5).cpu() for d in ("cpu", "cuda"))
    if law == "normal":
        torch.testing.assert_close(there, here, rtol=1e-13, atol=1e-15)
    else:
        assert torch.equal(there, here)


@pytest.mark.parametrize("replace", [pytest.param(r, marks=gpu) for r in (True, False)])
def test_a_minibatch_is_the_same_on_both_devices(replace: bool) -> None:
    rows = np.array([5, 9, 40, 7, 5, 1000, 6, 12, 8])
    here, there = (draws.samples(keys(), rows, 5, replace, torch.device(d)).cpu() for d in ("cpu", "cuda"))
    assert torch.equal(there, here)


# ---- nobody waits for the device ------------------------------------------------------------------------------------


@contextmanager
def no_waiting() -> Iterator[None]:
    """Any operation that waits for the device raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the mode calls itself a prototype
        try:
            torch.cuda.set_sync_debug_mode("error")
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("missing", [pytest.param(m, marks=gpu) for m in ("self", "zero", "stale", "value")])
@pytest.mark.parametrize("program", [p for p in PROGRAMS if p is not Averages])
def test_no_round_waits_for_the_device(program: Any, missing: str) -> None:
    from simnet.prepare import prepare
    from simnet.recording import Recording
    from simnet.scenario import Scenario
    from simnet.timeplane.account import Account
    from simnet.timeplane.arrays import ArraysPlane
    from simnet.valueplane import make_values, settle_device

    scenario = lossy_program(program, missing, "MLP") | {"execution": {"device": "cuda"}, "evaluate_every": 1}
    plan = prepare(Scenario.of(scenario))
    device, dtype = settle_device(plan.scenario, plan)
    plan.problem.prepare(device, dtype)
    seen: list[torch.Tensor] = []

    class Hooks:
        def __init__(self, values: Any, watched: ExitStack | None) -> None:
            self.values, self.watched, self.reporting = values, watched, []

        def reported(self, recording: Recording, index: int, times: np.ndarray) -> bool:
            report = recording.reports[index]
            self.values.catch_up(recording, report.mark)
            seen.append(self.values.value(recording, report.values["x"].id).clone())
            report.values = {}
            if index == 0 and self.watched is not None:  # first points and weights have been brought
                self.watched.enter_context(no_waiting())
            return False

    for warm in (True, False):  # the first run loads kernels, which may wait
        book = plan.book()
        values = make_values(plan.scenario, book, device, dtype, "lockstep")
        recording = Recording(book, "node", book.members["node"], plan.algorithm.program)
        with ExitStack() as watched:
            hooks = Hooks(values, None if warm else watched)
            gc.collect()
            ArraysPlane(book, recording, Account(book, timeline=False), values, hooks).run()
    first, second = seen[: plan.scenario.rounds], seen[plan.scenario.rounds :]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
