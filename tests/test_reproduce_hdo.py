"""The reproduction of HDO: its closed forms are those of the specification, its rules decide as they say."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from simnet.analysis.reproduce import hdo, hdo_digits
from simnet.analysis.reproduce.engine import SYSTEMS
from simnet.analysis.reproduce.hdo_closed import ROWS, _contraction, predicted
from simnet.analysis.reproduce.hdo_parts import Apart, UniformMLP, standard_digits
from simnet.analysis.reproduce.workers import side_by_side
from simnet.dataset import Parts

TABLE = {  # FO, ZO, rv: a and Gamma, by another program
    (4, 0, 4): (6.410e-3, 8.939e-4), (0, 16, 4): (2.306e-2, 2.719e-2), (4, 16, 4): (1.485e-2, 2.276e-2),
    (2, 0, 4): (1.282e-2, 0.0), (0, 30, 4): (1.221e-2, 2.953e-2), (2, 30, 4): (1.075e-2, 2.791e-2),
    (0, 16, 25): (4.907e-3, 5.786e-3), (4, 16, 25): (3.392e-3, 5.200e-3),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_noise_floors_are_predicted_as_in_the_table(row: tuple[int, int, int]) -> None:
    np.testing.assert_allclose(predicted(*row), TABLE[row], rtol=3e-4, atol=0)


def test_one_exchange_contracts_as_in_closed_form() -> None:
    for n, pairwise in ((6, True), (5, False)):
        expected, measured = _contraction(n, pairwise, 20)
        assert measured == pytest.approx(expected, rel=0.02)


def test_rules_about_means_count_standard_errors() -> None:
    near, far = [1.0, 1.1, 0.9], [2.0, 2.1, 1.9]
    assert hdo_digits.parted("apart", near, far).holds and not hdo_digits.parted("apart", far, near).holds
    assert not hdo_digits.parted("apart", near, [1.05, 1.15, 0.95]).holds
    assert hdo_digits.tied("level", near, [1.01, 1.11, 0.91], 0.02).holds
    assert not hdo_digits.tied("level", near, far, 0.5).holds
    assert hdo_digits.no_worse("below", near, far).holds and not hdo_digits.no_worse("above", far, near).holds


def test_parts_are_what_their_descriptions_say() -> None:
    data = standard_digits()
    assert abs(data.train_x.mean()) < 1e-12 and data.train_x.std() == pytest.approx(1.0)
    mlp = UniformMLP(Parts(data, [np.arange(9)]), 0, hidden=32)
    first = mlp.initial_point("x")
    assert mlp.dim == 2410
    for name, width in (("layer1.weight", 64), ("layer1.bias", 64), ("layer2.weight", 32), ("layer2.bias", 32)):
        part = first[mlp.slices[name]]
        assert np.abs(part).max() <= width**-0.5 and len(np.unique(part)) == len(part)
    assert np.abs(first[mlp.slices["layer1.weight"]]).max() > 0.99 / 8
    assert np.abs(Apart(7, 1, dim=3).arrays[1].mean(0)).max() < 1e-15


def test_tasks_run_side_by_side_in_order_and_a_failure_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    tasks = [[fo, zo, rv] for fo, zo, rv in ROWS]
    assert list(side_by_side(predicted, tasks)) == [list(predicted(*row)) for row in ROWS]
    with pytest.raises(RuntimeError, match=r"predicted\(1, 0\) failed in its worker"):
        list(side_by_side(predicted, [[1, 0]]))
    assert "predicted() missing 1 required" in capfd.readouterr().err


def test_every_experiment_draws() -> None:
    assert SYSTEMS["hdo"] == hdo.__name__
    numbers = {"1 FO": [0.3, 0.2], "1 FO + 15 ZO": [0.1, 0.2]}
    times = {"curves": {"1 FO": {"t": [1, 2], "loss": [2, 1]}, "15 ZO, 4": {"t": [1, 2], "loss": [3, 2]}}}
    row = {"a": 1.0, "Gamma": 2.0, "a0": 1.0, "Gamma0": 2.0}
    given = {"R1": {"bars": {"pair": (1, 1)}, "variance": {"fwd_grad": (41, 42)}}, "R2": {"rows": {"4 FO, rv 4": row}},
             "R3b": {"loss": {"0.1": [1.0, 2.0]}}, "R5": times, "R6": {"accuracy": numbers}}  # fmt: skip
    for each in hdo.EXPERIMENTS:
        figure = Figure()
        assert each.draw is not None
        each.draw(figure, given.get(each.name, {"loss": numbers}))
        assert figure.axes and figure.axes[0].has_data()
