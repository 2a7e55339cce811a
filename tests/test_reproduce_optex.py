"""The reproduction of OptEx: what its rules say, what its runs read off, and that every experiment draws."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from simnet.analysis.reproduce import optex, optex_time
from simnet.analysis.reproduce.engine import SYSTEMS
from simnet.analysis.reproduce.optex_parts import Spectrum
from simnet.analysis.reproduce.optex_runs import errors, race, speedups
from simnet.analysis.reproduce.workers import side_by_side

STIFF = optex.STIFF | {"dim": 40}


def test_a_race_counts_rounds_to_the_level_of_the_plain_method() -> None:
    methods = {"N=5": {}, "zero": {"mode": "zero"}, "last_grad": {"mode": "last_grad"}}
    found = race(STIFF, optex.sgd(0.5), methods, 40, 30, 0)
    assert found["speedup"] == {"N=5": pytest.approx(40 / 10, rel=0.15), "zero": 0.0, "last_grad": 0.0}
    assert found["diverged"] == ["last_grad"]
    assert found["curves"]["N=5"][-1] <= found["curves"]["vanilla"][-1] < found["curves"]["N=5"][-2]
    whole = race(STIFF, optex.sgd(0.5), {"zero": {"mode": "zero"}}, 20, 20, 0)
    assert whole["speedup"] == {"zero": 1.0} and whole["diverged"] == []


def test_rules_decide_as_they_say() -> None:
    runs = [{"speedup": {"N=4": s, "zero": 0.0}, "diverged": d} for s, d in ((2.0, ["zero"]), (4.0, []))]
    assert speedups(runs, "N=4") == [2.0, 4.0]
    assert optex.root_to_n("", 4, runs).holds and not optex.root_to_n("", 9, runs, "N=4").holds
    assert optex.never("", runs, "zero").holds and not optex.never("", runs, "N=4").holds
    assert not optex.diverges("", runs, "zero").holds and optex.diverges("", runs[:1], "zero").holds
    assert optex.listed("", runs, {"N=4": 3.2}).holds and not optex.listed("", runs, {"N=4": 3.4}).holds
    assert optex.spread([1.0, 1.0]) == "1" and optex.spread([1.0, 2.0]) == "1 to 2"


def test_errors_are_those_of_guesses_alone() -> None:
    found = errors(optex.VALLEY | {"dim": 50}, optex.sgd(0.01) | {"T0": 50}, 12, 0)
    assert len(found["error"]) == 10 and len(found["objective"]) == 12
    assert 0 < found["error"][-1] < 0.1 < found["error"][0] < 1


def test_the_spectrum_is_log_spaced_and_its_noise_is_of_the_chosen_variance() -> None:
    problem = Spectrum(3, 1, dim=5, condition=1e4, start="ones", noise=2.0)
    curvatures, centres = problem.arrays
    np.testing.assert_allclose(curvatures, np.tile([1, 0.1, 0.01, 1e-3, 1e-4], (3, 1)))
    assert (centres == 1).all() and problem.samples_N.tolist() == [4096] * 3
    problem.prepare("cpu", torch.float64)
    assert float(problem.objective(torch.zeros(5, dtype=torch.float64))) == pytest.approx(1.1111 / 2)
    assert np.abs(Spectrum(2, 1, dim=500, condition=10.0).arrays[1]).max() <= 1


@pytest.mark.parametrize("port", optex_time.PORTS)
def test_the_simulated_round_is_the_closed_form(port: str) -> None:
    for gradient_s, bits_per_s in ((0.001, 1e9), (0.1, 1e10)):
        expected = optex_time.closed_form(port, gradient_s, bits_per_s)
        assert optex_time.round_s(port, gradient_s, bits_per_s) == pytest.approx(expected, rel=1e-9)


def test_time_to_a_level_is_that_of_the_rounds_alone() -> None:
    one, four = (optex_time.time_to_level("vanilla", 4, 20, rounds) for rounds in (1, 4))
    assert four == pytest.approx(4 * one, rel=1e-9)
    assert one == pytest.approx(0.0129434 + 8 * 2 * 4 * 2410 / 20e6 + 4 * 100e-6, rel=1e-4)


def test_workers_stay_for_the_next_call() -> None:
    first = set(side_by_side(os.getpid, [[], []]))
    made = side_by_side(os.getpid, [[], [], []])
    again = {next(made) for _ in range(3)}  # whoever asks for no more has all the same
    made.close()
    assert again <= first and os.getpid() not in first
    assert set(side_by_side(os.getpid, [[]])) <= first


def test_every_experiment_draws() -> None:
    assert SYSTEMS["optex"] == optex.__name__
    curves = {"vanilla": [4.0, 2.0, 1.0], "N=5": [4.0, 0.5], "last_grad": [4.0, 9.0, float("inf")]}
    given: dict[str, Any] = {
        "R2": {"panels": {"Sphere": curves, "Ackley": curves}}, "R3": {"errors": {"3": [1.0, 0.9], "50": [0.5, 0.1]}},
        "R5": {"ratios": {"2": [1.4, 1.6], "5": [2.4, 2.8]}, "exact": 1.1},
        "R6": {"curves": {"shared, 1": [[0.01, 0.1], [0.5, 2.0]], "serial, 40": [[0.01, 0.1], [1.5, 3.0]]}},
        "R7": {"N": [2, 4], "curves": {"100": [2.0, 1.0], "5": [6.0, 7.0]}, "alone_s": 3.0,
               "controls": {"zero": [4.0, 9.0], "last_grad": [2.0, 8.0]}},
    }  # fmt: skip
    for each in optex.EXPERIMENTS:
        figure = Figure()
        assert each.draw is not None
        each.draw(figure, given.get(each.name, {"title": "curves", "curves": curves}))
        assert figure.axes and all(axes.has_data() for axes in figure.axes)
