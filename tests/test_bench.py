"""The benchmark's own code runs in every tier, so that it is there when numbers are wanted; its numbers are no test."""

from __future__ import annotations

import pytest

from simnet.bench import _walked, time_scenario
from simnet.prepare import prepare


@pytest.mark.parametrize("tier", ["arrays", "compiled", "events"])
def test_the_time_plane_is_walked_alone(tier: str) -> None:
    if tier == "compiled":
        pytest.importorskip("numba")
    plan = prepare(time_scenario(20, 3, 0.05, policy="drop", link={"loss": 0.05}))
    assert _walked(plan, tier) > 0.0
