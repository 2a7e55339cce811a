"""The reproduction of SAVIC: its parts are what they say, what is exact holds, and every experiment draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from simnet.analysis.reproduce import savic, savic_digits, savic_exact
from simnet.analysis.reproduce.engine import SYSTEMS
from simnet.analysis.reproduce.savic_parts import Network, Regression, Scaled
from simnet.dataset import Parts
from simnet.models.datasets.shipped import digits


def test_parts_are_what_their_descriptions_say() -> None:
    problem = Scaled(4, condition=100, apart=0.5)
    a, b = problem.arrays
    assert a.shape == b.shape == (4, 100)
    plain = Scaled(4, condition=100).arrays[0]
    assert plain.min() == 1.0 and plain.max() == pytest.approx(100.0) and (plain == plain[0]).all()
    assert np.abs(np.log(a / plain)).max() <= 0.5
    assert problem.size == pytest.approx(float((((a * b).mean(0) / a.mean(0)) ** 2).sum()))
    common = Scaled(4, condition=100, common=True, repeats=3)
    assert common.dim == 300 and (common.arrays[1] == common.arrays[1][0]).all()
    assert [int((common.arrays[0][0] == value).sum()) for value in np.unique(plain)] == [3] * 100
    for kind, dim in ((Regression, 650), (Network, 2410)):
        made = kind(Parts(digits(), [np.arange(9)]), 1)
        first = made.initial_point("x")
        assert made.dim == dim and first.std() == pytest.approx(1 / 8, rel=0.1)
        assert not np.array_equal(first, kind(Parts(digits(), [np.arange(9)]), 2).initial_point("x"))
    assert Network(Parts(digits(), [np.arange(9)])).kink == ""


def test_identities_and_bytes_hold() -> None:
    for experiment in (savic_exact.identities, savic_exact.bytes_of_a_round):
        assert [claim for claim in experiment(True, lambda text: None).claims if not claim.holds] == []


def test_a_level_that_is_not_reached_counts_as_one_round_more() -> None:
    assert savic_digits._reached([0.5, 0.31, 0.3]) == 3 and savic_digits._reached([0.5, 0.4]) == 3
    assert savic_exact._first_at([2.0, 1.0], 1.0) == 2 and savic_exact._first_at([2.0], 1.0) == math.inf


def test_every_experiment_draws() -> None:
    assert SYSTEMS["savic"] == savic.__name__
    curve = {"loss": [2.0, 1.0], "bytes": [10, 20]}
    given = {
        "R1": {"plain": {"10": 11.0, "100": 102.0}, "scaled": {"10": 2.0, "100": 2.0}},
        "R2": {"bias": {"global": {"1": 0.0, "5": 1e-3}, "local_sync": {"1": 1e-2, "5": 1e-2}}},
        "R3": {"pairs": {"M=1, gamma=0.1, H=1": [0.5, 0.51]}},
        "R4": {"curves": {f"{name}, 0.7": curve for name in savic_digits.METHODS}},
    }
    for each in savic.EXPERIMENTS:
        if each.draw is not None:
            figure = Figure()
            each.draw(figure, given.get(each.name, {"loss": {"a, b": [1.0, 2.0], "c": [2.0]}}))
            assert figure.axes and figure.axes[0].has_data()
