"""Node profiles: durations by FLOP or by step, mean-1 jitter, stragglers, and draws that do not depend on the call."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simnet.errors import ScenarioError, UnknownName
from simnet.profile import LAWS, Profiles, jitter_factor

TEN_GFLOP = {"compute": 1e10}


def test_seconds_are_flop_over_speed() -> None:
    profiles = Profiles.of({"compute": 1e10}, 3)
    np.testing.assert_array_equal(profiles.seconds("gradient", 2e9, 0, 0), np.full(3, 0.2))
    np.testing.assert_array_equal(profiles.seconds("gradient", np.array([1e10, 2e10, 5e9]), 0, 0), [1.0, 2.0, 0.5])


def test_a_step_stands_for_the_call_whatever_its_flop() -> None:
    profiles = Profiles.of({"compute": 1e10, "step": {"gradient": 0.01, "loss": 0.003}}, 2)
    np.testing.assert_array_equal(profiles.seconds("gradient", np.nan, 0, 0), [0.01, 0.01])
    np.testing.assert_array_equal(profiles.seconds("loss", 0.0, 0, 0), [0.003, 0.003])
    np.testing.assert_array_equal(profiles.seconds("hvp", 1e10, 0, 0), [1.0, 1.0])


def test_one_step_serves_every_oracle_but_not_work() -> None:
    profiles = Profiles.of({"compute": 1e10, "step": 0.01}, 2)
    np.testing.assert_array_equal(profiles.seconds("hvp", np.nan, 0, 0), [0.01, 0.01])
    np.testing.assert_array_equal(profiles.seconds("work", 1e10, 0, 0), [1.0, 1.0])
    np.testing.assert_array_equal(profiles.seconds("work", 0.0, 0, 0), [0.0, 0.0])


def test_a_zo_node_pays_two_losses_per_direction() -> None:
    section = {
        "compute": 1e10,
        "step": {"gradient": 0.01, "loss": 0.003},
        "groups": [{"nodes": [1], "oracle": "zo", "estimator": {"rv": 5, "nu": 1e-4}}],
    }
    profiles = Profiles.of(section, 2)
    np.testing.assert_allclose(profiles.seconds("gradient", np.nan, 0, 0), [0.01, 10 * 0.003], rtol=1e-15)
    chosen = [profiles.estimators[number] for number in profiles.estimator_N]
    assert [(each.rv, each.nu) for each in chosen] == [(10, 1e-3), (5, 1e-4)]  # type: ignore[attr-defined]


def test_an_explicit_zero_step_is_allowed() -> None:
    assert Profiles.of({"compute": 1e10, "step": 0.0}, 1).seconds("gradient", np.nan, 0, 0) == [0.0]


@pytest.mark.parametrize(
    ("section", "flop", "says"),
    [
        ({"compute": 1e10}, 0.0, "its cost in FLOP is 0 at node 0"),
        ({"compute": 1e10}, np.nan, "its cost in FLOP is unknown at node 0"),
        ({"compute": 1e10}, np.inf, "its cost in FLOP is inf at node 0"),
        ({"step": {"loss": 0.1}}, 1e9, "node 0 has no `compute`"),
    ],
)
def test_an_unknown_duration_is_refused_and_says_what_would_do(section: dict[str, Any], flop: float, says: str) -> None:
    with pytest.raises(ScenarioError, match="step: {gradient: 10 ms}") as caught:
        Profiles.of(section, 2).seconds("gradient", flop, 0, 0)
    assert says in str(caught.value)
    assert caught.value.field == "nodes.step"


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"compute": 0.0}, "nodes.compute = 0.0: a node needs a positive speed"),
        ({**TEN_GFLOP, "step": -1.0}, "nodes.step = -1.0"),
        ({**TEN_GFLOP, "jitter": 1.0}, "uniform law is at least 0 and below 1"),
        ({**TEN_GFLOP, "jitter": {"law": "exponential", "spread": 1.5}}, "at most 1"),
        ({**TEN_GFLOP, "straggler": {"probability": 1.2, "slowdown": 2}}, "probability lies in"),
        ({**TEN_GFLOP, "straggler": {"probability": 0.2, "slowdown": 0.5}}, "slowdown is at least 1"),
        ({**TEN_GFLOP, "groups": [{"oracle": "zo"}]}, "nodes.groups.0: a group says who is in it"),
        ({**TEN_GFLOP, "groups": [{"count": 5}]}, "5 hosts asked for, 4 are in no group"),
    ],
)
def test_a_number_out_of_range_is_refused_with_its_place(section: dict[str, Any], says: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        Profiles.of(section, 4)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"jitter": {"law": "lognorml", "spread": 0.1}}, "did you mean 'lognormal'?"),
        ({"oracle": "first"}, "known are fo, zo"),
        ({"groups": [{"nodes": ["Chicgo"]}]}, "did you mean 'Chicago'?"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(section: dict[str, Any], says: str) -> None:
    with pytest.raises(UnknownName) as caught:
        Profiles.of(section, ["Chicago", "Denver"])
    assert says in str(caught.value)


def test_groups_take_nodes_by_name_or_from_the_end_and_later_ones_win() -> None:
    section = {
        "compute": 1.0,
        "step": 0.5,
        "groups": [
            {"nodes": ["b", "f"], "compute": 2.0},
            {"count": 2, "compute": 4.0},
            {"fraction": 0.2, "compute": 8.0},
            {"nodes": ["f"], "oracle": "zo"},
        ],
    }
    profiles = Profiles.of(section, list("abcdef"))
    np.testing.assert_array_equal(profiles.compute_N, [1, 2, 8, 4, 4, 2])
    np.testing.assert_array_equal(profiles.seconds("gradient", 8.0, 0, 0), [0.5, 4.0, 1.0, 2.0, 2.0, 4.0])
    assert profiles.oracle_N.tolist() == ["fo"] * 5 + ["zo"]


FROZEN = ["0x1.6a45f395eb0f7p-1", "0x1.3ede17b135dc4p+0", "0x1.47f9835c321c0p-1", "0x1.8c9be16b65b0dp-1"]
SPREADS = {"uniform": 0.5, "exponential": 0.7, "lognormal": 0.4, "pareto": 0.3}


@pytest.mark.parametrize("law", LAWS)
def test_every_law_has_mean_one(law: str) -> None:
    n, s = 200_000, SPREADS[law]
    profiles = Profiles.of({**TEN_GFLOP, "jitter": {"law": law, "spread": s}}, n)
    factor = profiles.seconds("gradient", 1e10, 3, seed=1)
    a = 1 + 1 / s
    deviation = {
        "uniform": s / np.sqrt(3),
        "exponential": s,
        "lognormal": np.sqrt(np.exp(s * s) - 1),
        "pareto": 1 / np.sqrt(a * (a - 2)),
    }[law]
    assert factor.min() > 0
    assert abs(factor.mean() - 1) < 5 * deviation / np.sqrt(n)
    assert factor.std() == pytest.approx(deviation, rel=0.02 if law != "pareto" else 0.1)


def test_pareto_has_the_tail_its_shape_says() -> None:
    s, n = 0.5, 400_000
    factor = jitter_factor((np.arange(n) + 0.5) / n, np.full(n, LAWS.index("pareto")), np.full(n, s))
    a, least = 1 + 1 / s, 1 / (1 + s)
    assert factor.min() >= least
    for x in (1.0, 3.0, 10.0):
        assert np.mean(factor > x) == pytest.approx((least / x) ** a, abs=2 / n)


def test_stragglers_come_as_often_and_as_slow_as_told() -> None:
    n = 100_000
    profiles = Profiles.of({**TEN_GFLOP, "straggler": {"probability": 0.1, "slowdown": 5}}, n)
    seconds = profiles.seconds("gradient", 1e10, 0, seed=4)
    assert set(seconds.tolist()) == {1.0, 5.0}
    assert abs(np.mean(seconds == 5) - 0.1) < 5 * np.sqrt(0.09 / n)


@given(seed=st.integers(0, 2**63), occurrence=st.integers(0, 10**6), subset=st.sets(st.integers(0, 19), min_size=1))
def test_a_node_draws_the_same_whatever_part_of_the_nodes_is_asked(
    seed: int, occurrence: int, subset: set[int]
) -> None:
    section = {
        **TEN_GFLOP,
        "straggler": {"probability": 0.3, "slowdown": 3},
        "groups": [{"count": 5, "jitter": {"law": law, "spread": SPREADS[law]}} for law in LAWS],
    }
    profiles = Profiles.of(section, 20)
    flop_N = np.linspace(1e9, 2e9, 20)
    who = np.array(sorted(subset))
    whole = profiles.seconds("gradient", flop_N, occurrence, seed)
    part = profiles.seconds("gradient", flop_N[who], occurrence, seed, who)
    np.testing.assert_array_equal(part, whole[who])


def test_the_seed_the_occurrence_and_the_node_each_change_the_draw() -> None:
    profiles = Profiles.of({**TEN_GFLOP, "jitter": 0.5}, 50)
    draws = [profiles.seconds("gradient", 1e10, k, seed) for k in range(3) for seed in range(3)]
    assert len(np.unique(np.concatenate(draws))) == 450


def test_times_are_frozen_to_the_last_bit() -> None:
    """These bits must be the same on every processor; a change here changes every recorded run."""
    section = {**TEN_GFLOP, "groups": [{"count": 1, "jitter": {"law": law, "spread": 0.5}} for law in LAWS]}
    seconds = Profiles.of(section, 4).seconds("gradient", 1e10, 7, seed=3)
    assert [t.hex() for t in seconds.tolist()] == FROZEN


def test_profiles_need_no_torch() -> None:
    code = "import sys, simnet.profile, simnet.record; assert not {'torch', 'numba', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
