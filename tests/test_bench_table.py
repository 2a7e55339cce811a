"""The table of `simnet bench`: its floors do the same arithmetic as what they are measured beside."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import pytest
import torch

from simnet.benches import table
from simnet.benches.common import node_rows, prepared


@pytest.mark.parametrize("case", table.CASES, ids=lambda case: f"{case.label} {case.problem.get('hidden', '')}")
def test_the_floors_gradient_is_the_problems(case: table.Case) -> None:
    plan, device, _ = prepared(table.scenario(case, 5, "cpu"))
    features, labels = node_rows(plan, device)
    make: Any = table._by_hand if case.by_hand else table._automatic
    gradient_of = make(case, plan, features, labels, device) if case.by_hand else make(plan, features, labels)
    state = plan.problem.initial("x").repeat(5, 1) + 0.1 * torch.randn(5, plan.problem.dim)
    picked = torch.randint(table.ROWS, (5, table.BATCH))
    ours = plan.problem.gradients(state, torch.arange(5), picked)
    torch.testing.assert_close(gradient_of(state, slice(0, 5), picked), ours, atol=2e-5, rtol=1e-4)


def test_a_line_has_every_ratio_and_says_on_what_it_was_measured() -> None:
    case = table.CASES[0]
    plan, device, dtype = prepared(table.scenario(case, 8, "cpu").with_values({"rounds": 2, "evaluate_every": 2}))
    row = table.measure(case, plan, device, dtype, 1)
    ratios = ("to_floor", "loop_to_simnet", "node_run_to_loop", "mixing_to_copy")
    assert all(row[name] > 0 for name in ratios)
    assert row["parameters"] == 248 and row["threads"] == 1 and row["torch"] == torch.__version__


def test_states_that_would_not_fit_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "CASES", table.CASES[:1])
    monkeypatch.setattr(table, "LARGEST_BYTES", 1.0)
    assert list(table.rows(Namespace(nodes=[8], device="cpu", repeats=1))) == []
