"""The reproduction of bilevel optimisation: its runs in small, its rules, its figures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from simnet.analysis.reproduce import bilevel, bilevel_data
from simnet.analysis.reproduce.bilevel_runs import QUADRATIC, Found, S, columns, go, megabytes, steps
from simnet.analysis.reproduce.engine import SYSTEMS


@pytest.fixture(scope="module")
def found() -> Found:
    given = columns(steps(S, 0.05, 0.05, 0.05), 100, 10)
    return Found(json.loads(json.dumps(given)))  # as it comes from a worker


def test_bytes_and_gossip_rounds_are_read_off_the_first_row_at_a_tolerance(found: Found) -> None:
    spent = found.until("stationarity_gap", 2e-3)
    first = 16 * 4 * 25
    assert spent == (first + 79 * 2 * first, 80)
    assert found.until("stationarity_gap", 1e-8) is None and megabytes(None) == np.inf
    assert sum(found.by_variable.values()) == found.last("wire_bytes")


def test_a_floor_is_the_mean_of_the_last_third(found: Found) -> None:
    assert bilevel._floor(found) == pytest.approx(found.rounds["stationarity_gap"][6:].mean())


def test_equal_nodes_under_complete_averaging_are_one() -> None:
    assert bilevel._from_centralised(S) < 1e-13
    assert bilevel._from_centralised({**S, "order": "alternating"}) < 1e-13


def test_the_hypergradient_holds() -> None:
    result = bilevel.hypergradients(True, lambda text: None)
    assert all(claim.holds for claim in result.claims) and len(result.claims) == 6


def test_every_run_of_the_tables_can_be_begun() -> None:
    tiled = {**QUADRATIC, "noise": 0.3, "batch": 1, "tiles": 2}
    assert go(steps(S, 0.02, 0.03, 0.03), 1, 1, tiled, nodes=16, graph="complete").ended.value == "finished"
    for name, (section, *_) in bilevel.TABLE.items():
        assert go(section, 1, 1).ended.value == "finished", name
    for problem, runs in ((bilevel_data.COEFFICIENTS, bilevel_data.COEFFICIENT_RUNS),
                          (bilevel_data.CLEANING, bilevel_data.CLEANING_RUNS)):  # fmt: skip
        for name, (section, *_) in runs.items():
            assert go(section, 1, 1, problem).ended.value == "finished", name


def test_figures_can_be_drawn() -> None:
    curves = {"S, no loss": [[1, 2], [1.0, 0.1]], "S, 1% lost, retry": [[1, 2], [1.0, 0.1]]}
    shares = {"S": {"x": 1, "trackers": 2}, "JHIP 5, 10": {"matrices": 3}}
    cases = [
        (bilevel.draw_correctness, {"curves": {"S": [[1, 2], [1.0, 0.1]], "A": [[1, 2], [1.0, 0.1]]}}),
        (bilevel.draw_heterogeneity, {"het": [0, 1], "gap": {name: [1e-14, 1e-3] for name in bilevel.NAMES}}),
        (bilevel.draw_variance, {"floors": {"1": [1e-3, 2e-3]}, "copies": {"8": [1e-3], "32": [2e-4]}}),
        (bilevel.draw_bytes, {"curves": {name: [[1, 2], [1.0, 0.1]] for name in shares}, "by_variable": shares}),
        (bilevel.draw_losses, {"curves": curves, "residuals": curves}),
        (bilevel_data.draw_coefficients, {"curves": {"S": [[1, 2], [0.3, 0.2]]}}),
        (
            bilevel_data.draw_cleaning,
            {"wrong": [True, False], "nodes": 2, "weights": {"S": [0.1, 0.9], "LOCAL": [0.5, 0.5]}},
        ),
    ]
    for draw, content in cases:
        figure = Figure()
        draw(figure, content)
        assert figure.axes
        figure.canvas.draw()


def test_noise_is_of_the_instance_and_draws_of_the_seed() -> None:
    noisy = {**QUADRATIC, "noise": 0.3, "batch": 1}
    one, again, other = (go(steps(S, 0.02, 0.03, 0.03), 3, 3, noisy, seed=seed).final["y"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)


def test_it_is_a_system_of_the_command() -> None:
    assert SYSTEMS["bilevel"] == bilevel.__name__
    assert [each.name for each in bilevel.EXPERIMENTS] == ["E0", "E1", "E2", "E3", "E4", "E5", "E6", "L"]
