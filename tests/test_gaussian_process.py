"""The estimator of OptEx and its steps, on plain tensors: exact statements, and the formulas by another program."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from simnet.errors import ScenarioError
from simnet.first_order import SGD, FirstOrderStep
from simnet.gaussian_process import GaussianProcess, History, Kernel, Matern52
from simnet.models.kernels.shipped import RBF
from simnet.models.scalings.shipped import OASIS, AdaHessian, RMSProp
from simnet.models.scalings.shipped import Adam as AdamScaling
from simnet.models.steps.shipped import Adam, Momentum, Scaled
from simnet.preconditioner import Unscaled

KERNELS = (Matern52(), RBF())


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def told(process: GaussianProcess, points_TD: torch.Tensor, gradients_TD: torch.Tensor, *sizes: int) -> History:
    """The history after the pairs came in blocks of these sizes."""
    history, at = History(), 0
    for size in sizes or (len(points_TD),):
        history = process.observed(history, points_TD[at : at + size], gradients_TD[at : at + size])
        at += size
    assert at == len(points_TD)
    return history


def by_hand(kernel: Kernel, ridge: float, scale: float, p_TD: Any, g_TD: Any, z_D: Any) -> tuple[np.ndarray, float]:
    """mu(z) and var(z) from the formulas, distances pair by pair."""

    def k(a: np.ndarray, b: np.ndarray) -> float:
        r = np.sqrt(np.sum((a - b) ** 2)) / scale
        if isinstance(kernel, RBF):
            return float(np.exp(-(r**2) / 2))
        return float((1 + np.sqrt(5) * r + 5 * r**2 / 3) * np.exp(-np.sqrt(5) * r))

    p, g, z = np.asarray(p_TD), np.asarray(g_TD), np.asarray(z_D)
    K = np.array([[k(a, b) for b in p] for a in p]) + ridge * np.eye(len(p))
    k_T = np.array([k(z, a) for a in p])
    return g.T @ np.linalg.solve(K, k_T), 1 - k_T @ np.linalg.solve(K, k_T)


# ---- exact ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS)
def test_without_a_ridge_it_gives_back_what_it_was_told(kernel: Kernel) -> None:
    points, gradients = drawn(12, 30), drawn(12, 30, seed=1)
    process = GaussianProcess(kernel, ridge=0.0, c=1.0)
    fit = process.fit(told(process, points, gradients, 1, 1, 4, 6))
    for z, g in zip(points, gradients, strict=True):
        np.testing.assert_allclose(fit.mean(z), g, atol=1e-9, rtol=0)
        assert abs(float(fit.variance(z))) < 1e-9


@pytest.mark.parametrize("kernel", KERNELS)
def test_far_from_what_it_knows_it_guesses_nothing(kernel: Kernel) -> None:
    process = GaussianProcess(kernel)
    fit = process.fit(told(process, drawn(6, 5), drawn(6, 5, seed=1)))
    far = 1e4 * torch.ones(5, dtype=torch.float64)
    assert float(fit.mean(far).abs().max()) < 1e-300 and float(fit.variance(far)) == 1.0


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("length_scale", [None, 3.5])
def test_mean_and_variance_are_those_of_the_formulas(kernel: Kernel, length_scale: float | None) -> None:
    points, gradients, z = drawn(7, 9), drawn(7, 9, seed=1), drawn(9, seed=2)
    process = GaussianProcess(kernel, ridge=0.1, c=2.0, length_scale=length_scale)
    fit = process.fit(told(process, points, gradients, 3, 4))
    pairs = [float((a - b).norm()) for i, a in enumerate(points) for b in points[:i]]
    mean, variance = by_hand(kernel, 0.1, length_scale or 2.0 * float(np.median(pairs)), points, gradients, z)
    np.testing.assert_allclose(fit.mean(z), mean, rtol=1e-11)
    assert float(fit.variance(z)) == pytest.approx(variance, rel=1e-11)


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_the_length_scale_is_the_median_for_odd_and_even_numbers_of_pairs(count: int) -> None:
    points, process = drawn(count, 3), GaussianProcess(c=0.7)
    pairs = [float((a - b).norm()) for i, a in enumerate(points) for b in points[:i]]
    assert float(process.fit(told(process, points, points)).scale) == pytest.approx(0.7 * np.median(pairs), rel=1e-13)


@pytest.mark.parametrize("sizes", [(1, 1, 4, 4, 4), (3, 3, 3, 3, 2), (14,), (1,) * 14])
def test_rows_that_come_later_give_the_distances_of_a_fresh_start(sizes: tuple[int, ...]) -> None:
    points, gradients, process = drawn(14, 20), drawn(14, 20, seed=1), GaussianProcess(most=6)
    history = told(process, points, gradients, *sizes)
    assert len(history) == 6
    np.testing.assert_allclose(history.squared_TT, torch.cdist(points[8:], points[8:]) ** 2, rtol=1e-11, atol=1e-12)
    np.testing.assert_array_equal(torch.cat(history.points), points[8:])
    np.testing.assert_array_equal(torch.cat(history.gradients), gradients[8:])
    assert (history.squared_TT == history.squared_TT.T).all() and (history.squared_TT.diagonal() == 0).all()


def test_distances_that_are_small_beside_the_points_keep_their_digits() -> None:
    centre, steps = 1e3 * drawn(1, 50).float(), 0.5 * drawn(9, 50, seed=1).float()
    points, process = centre + steps, GaussianProcess()
    exact = torch.cdist(points.double(), points.double()) ** 2
    found = told(process, points, points, 3, 3, 3).squared_TT
    off = ~torch.eye(9, dtype=torch.bool)
    assert float((found / exact)[off].sub(1).abs().max()) < 1e-5
    raw = (points @ points.T).double()
    careless = raw.diagonal()[:, None] + raw.diagonal() - 2 * raw
    assert float((careless / exact)[off].sub(1).abs().max()) > 0.01


def test_drawn_coordinates_are_all_that_distances_look_at() -> None:
    points, gradients, z = drawn(6, 40), drawn(6, 40, seed=1), drawn(40, seed=2)
    process = GaussianProcess(coordinates=8)
    uniform = torch.from_numpy(np.random.default_rng(3).random(8))
    chosen = np.floor(uniform.numpy() * 40).astype(int)
    history = told(process, points, gradients, 2, 4)
    assert history.squared_TT is None
    fit = process.fit(history, uniform)
    mean, _ = by_hand(Matern52(), 1e-3, float(fit.scale), points[:, chosen], gradients, z[chosen])
    np.testing.assert_allclose(fit.mean(z), mean, rtol=1e-11)


def test_one_point_told_twice_needs_a_ridge() -> None:
    point, gradients = drawn(1, 4).repeat(3, 1), drawn(3, 4, seed=1)
    with_it, without = GaussianProcess(ridge=0.5), GaussianProcess(ridge=0.0)
    mean = with_it.fit(told(with_it, point, gradients)).mean(point[0])
    np.testing.assert_allclose(mean, gradients.sum(0) / 3.5, rtol=1e-12)
    assert without.fit(told(without, point, gradients)).mean(point[0]).isnan().all()


def test_cost_counts_new_rows_the_solve_and_two_products_a_guess() -> None:
    process, drawing = GaussianProcess(), GaussianProcess(coordinates=100)
    assert process.fit_flop(20, 4, 1000) == 2 * 4 * 20 * 1000 + 20**3 / 3
    assert process.mean_flop(20, 1000) == 4 * 20 * 1000
    assert drawing.fit_flop(20, 4, 10**6) == 2 * 20**2 * 100 + 20**3 / 3
    assert drawing.mean_flop(20, 10**6) == 2 * 20 * 100 + 2 * 20 * 10**6


@pytest.mark.parametrize(
    ("options", "field"),
    [({"ridge": -1.0}, "ridge"), ({"ridge": float("nan")}, "ridge"), ({"c": 0.0}, "c"), ({"most": 1}, "T0"),
     ({"length_scale": 0.0}, "length_scale"), ({"coordinates": 0}, "coordinates")],
)  # fmt: skip
def test_parameters_that_make_no_sense_are_refused_by_their_names(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ScenarioError, match=rf"^{field} = "):
        GaussianProcess(**options)


# ---- steps ---------------------------------------------------------------------------------------------------------


def walked(step: FirstOrderStep, gradients_TD: torch.Tensor) -> torch.Tensor:
    x = torch.zeros(gradients_TD.shape[1], dtype=gradients_TD.dtype)
    state = step.first(x)
    for g in gradients_TD:
        x, state = step.taken(x, state, g)
    return x


@pytest.mark.parametrize(
    ("step", "reference"),
    [(SGD(0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
     (Momentum(0.1, 0.8), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8)),
     (Adam(0.01), lambda p: torch.optim.Adam(p, lr=0.01))],
    ids=("sgd", "momentum", "adam"),
)  # fmt: skip
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_steps_are_those_of_torch(step: Any, reference: Any, dtype: torch.dtype, tolerance: float) -> None:
    gradients = drawn(25, 6).to(dtype)
    parameter = torch.nn.Parameter(torch.zeros(6, dtype=dtype))
    optimizer = reference([parameter])
    for g in gradients:
        parameter.grad = g.clone()
        optimizer.step()
    np.testing.assert_allclose(walked(step, gradients), parameter.detach(), rtol=0, atol=tolerance)


def test_a_scaling_behind_a_step_is_its_own_recursion() -> None:
    gradients = drawn(12, 6)
    np.testing.assert_array_equal(walked(Scaled(0.1), gradients), walked(SGD(0.1), gradients))
    np.testing.assert_array_equal(
        walked(Scaled(0.1, Unscaled(), 0.8), gradients), walked(Momentum(0.1, 0.8), gradients)
    )
    adam = Adam(0.01, beta1=0.0, beta2=0.97, epsilon=1e-4)
    scaled = Scaled(0.01, AdamScaling(beta=0.97, alpha=1e-4, positivity="add"))
    np.testing.assert_allclose(walked(scaled, gradients), walked(adam, gradients), rtol=1e-12)
    d, x = gradients[0].abs(), torch.zeros(6, dtype=torch.float64)
    rms = RMSProp(beta=0.9, alpha=1e-3)
    for g in gradients:
        d = torch.sqrt(0.9 * d**2 + 0.1 * g**2)
        x = x - 0.01 * g / torch.clamp(d, min=1e-3)
    np.testing.assert_allclose(walked(Scaled(0.01, rms), gradients), x, rtol=1e-12)
    assert Scaled(0.1, AdamScaling()).counts and not Scaled(0.1, rms).counts


@pytest.mark.parametrize("scaling", [OASIS(), AdaHessian()])
def test_a_scaling_that_needs_second_derivatives_is_refused_with_the_reason(scaling: Any) -> None:
    with pytest.raises(ScenarioError, match=r"scaling = .*Hessian-vector products, and a guessed step has none"):
        Scaled(0.1, scaling)


def test_shares_and_step_sizes_out_of_range_are_refused() -> None:
    for make, field in ((lambda: SGD(0.0), "eta"), (lambda: Momentum(0.1, 1.0), "beta"),
                        (lambda: Adam(beta1=1.0), "beta1"), (lambda: Adam(beta2=-0.1), "beta2"),
                        (lambda: Adam(epsilon=-1.0), "epsilon"),
                        (lambda: Scaled(beta1=1.0), "beta1"), (lambda: SGD(float("nan")), "eta")):  # fmt: skip
        with pytest.raises(ScenarioError, match=rf"^{field} = "):
            make()
