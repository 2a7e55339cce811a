"""Problems: every batched form against autograd of the one-node loss, optima, FLOP and what is refused.

N nodes, S nodes of a call, D parameters, B rows; the cases include D == N and D == S.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from simnet.dataset import Dataset, Parts
from simnet.errors import DataError, InputError
from simnet.models.datasets.shipped import digits, heart_scale
from simnet.models.problems.data import DataProblem
from simnet.models.problems.linear import LeastSquares, LinearRegression
from simnet.models.problems.logistic import Logistic
from simnet.models.problems.mlp import MLP
from simnet.models.problems.quadratic import Quadratic
from simnet.models.problems.softmax import Softmax
from simnet.models.splits.shipped import dirichlet, iid
from simnet.problem import Problem

RELATIVE = 1e-12


def made_up(nodes: int, features: int, classes: int | None, seed: int) -> Parts:
    """Rows from a fixed generator, unevenly held: node i has 1 + (7 i mod 5) rows, some of them shared."""
    generator = np.random.default_rng(seed)
    rows = [generator.integers(0, 30, 1 + 7 * i % 5) for i in range(nodes)]
    y = generator.normal(size=30) if classes is None else np.arange(30) % classes
    x, test = generator.normal(size=(30, features)), generator.normal(size=(11, features))
    return Parts(Dataset("made up", x, y, test, y[:11], classes), rows)


def problems(nodes: int, features: int, seed: int, l2: float) -> list[Problem]:
    return [
        Quadratic(nodes, seed, dim=features),
        Quadratic.from_arrays(
            np.linspace(0.5, 2, nodes)[:, None], made_up(nodes, features, 2, seed).dataset.train_x[:nodes]
        ),
        LeastSquares(nodes, seed, dim=features, rows=4, rank=max(1, features - 1), l2=l2),
        LinearRegression(made_up(nodes, features, None, seed), l2=l2, weighting="samples"),
        Softmax(made_up(nodes, features, 3, seed), l2=l2),
        Logistic(made_up(nodes, features, 2, seed), l2=l2, weighting="samples"),
        MLP(made_up(nodes, features, 3, seed), seed, hidden=4, l2=l2),
        MLP(made_up(nodes, features, 2, seed), seed, hidden=[5, 3], l2=l2),
        MLP(made_up(nodes, features, 3, seed), seed, hidden=[4, 3], activation="tanh", l2=l2),
        Quadratic(nodes, seed, dim=features, noise=0.5),
    ]


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    assert a.shape == b.shape
    assert float((a - b).norm()) <= RELATIVE * max(1.0, float(b.norm())), (a, b)


def reference(
    problem: Problem, x_SD: torch.Tensor, v_SD: torch.Tensor, nodes: list[int], samples: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Losses, gradients and Hessian-vector products by plain autograd, one node after another."""
    losses, gradients, products = [], [], []
    for i, node in enumerate(nodes):
        x = x_SD[i].clone().requires_grad_(True)
        loss = problem.loss(x, node, None if samples is None else samples[i])
        (g,) = torch.autograd.grad(loss, x, create_graph=True)
        h = torch.autograd.grad(g @ v_SD[i], x)[0]
        losses.append(loss.detach())
        gradients.append(g.detach())
        products.append(h)
    return torch.stack(losses), torch.stack(gradients), torch.stack(products)


@given(
    which=st.integers(0, 7),
    nodes=st.integers(1, 6),
    features=st.integers(1, 6),
    batch=st.sampled_from([None, 1, 3]),
    l2=st.sampled_from([0.0, 0.3]),
    kernels=st.sampled_from(["closed", "vmap"]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=150)
def test_batched_forms_equal_autograd_of_the_one_node_loss(
    which: int, nodes: int, features: int, batch: int | None, l2: float, kernels: str, seed: int
) -> None:
    problem = problems(nodes, features, seed, l2)[which]
    problem.prepare("cpu", torch.float64, "closed" if kernels == "closed" else "vmap")
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(nodes, generator=generator)[: 1 + seed % nodes]
    x = torch.randn(len(chosen), problem.dim, generator=generator, dtype=torch.float64)
    v = torch.randn(len(chosen), problem.dim, generator=generator, dtype=torch.float64)
    samples = None
    if batch is not None:
        sizes = torch.as_tensor(problem.samples_N)[chosen].clamp(min=1)
        samples = (torch.rand(len(chosen), batch, generator=generator) * sizes[:, None]).long()
    losses, gradients, products = reference(problem, x, v, chosen.tolist(), samples)
    close(problem.losses(x, chosen, samples), losses)
    close(problem.gradients(x, chosen, samples), gradients)
    close(problem.hvps(x, v, chosen, samples), products)
    out = torch.full_like(x, float("nan"))
    assert problem.gradients(x, chosen, samples, out=out) is out
    close(out, gradients)
    product = torch.full_like(x, float("nan"))
    close(problem.hvps(x, v, chosen, samples, out=product), products)


@pytest.mark.parametrize("which", range(8))
@pytest.mark.parametrize(("nodes", "features"), [(3, 3), (4, 4), (7, 5), (16, 7), (18, 5)])
def test_a_scalar_per_node_is_never_taken_for_a_coordinate(which: int, nodes: int, features: int) -> None:
    problem = problems(nodes, features, 1, 0.1)[which]
    problem.prepare("cpu", torch.float64)
    generator = torch.Generator().manual_seed(0)
    # one node for each parameter: S == D, nodes repeated where D > N
    chosen = torch.arange(problem.dim) % nodes
    x = torch.randn(problem.dim, problem.dim, generator=generator, dtype=torch.float64)
    losses, gradients, products = reference(problem, x, x.flip(0), chosen.tolist(), None)
    close(problem.losses(x, chosen), losses)
    close(problem.gradients(x, chosen), gradients)
    close(problem.hvps(x, x.flip(0), chosen), products)


@pytest.mark.parametrize("which", range(8))
def test_the_objective_is_the_weighted_mean_of_the_nodes(which: int) -> None:
    problem = problems(6, 4, 2, 0.2)[which]
    problem.prepare("cpu", torch.float64)
    nodes, x = torch.arange(6), torch.randn(3, problem.dim, generator=torch.manual_seed(0), dtype=torch.float64)
    share = torch.full((6,), 1 / 6, dtype=torch.float64)
    if isinstance(problem, DataProblem) and problem.weighting == "samples":
        share = torch.as_tensor(problem.samples_N / problem.samples_N.sum())
    by_nodes = torch.stack([share @ problem.losses(row.repeat(6, 1), nodes) for row in x])
    close(problem.objectives(x), by_nodes)
    close(problem.objective(x[1]), by_nodes[1])
    close(problem.objective_gradient(x[2]), share @ problem.gradients(x[2].repeat(6, 1), nodes))


def test_small_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = digits()
    problem = MLP(Parts(data, dirichlet(data.train_y, 7, 0, alpha=0.2)), hidden=8)
    problem.prepare("cpu", torch.float64)
    x = torch.randn(7, problem.dim, generator=torch.manual_seed(0), dtype=torch.float64)
    nodes, batch = torch.arange(7), torch.zeros(7, 2, dtype=torch.int64)

    def everything() -> list[torch.Tensor]:
        return [
            problem.gradients(x, nodes),
            problem.gradients(x, nodes, batch),
            problem.losses(x, nodes),
            problem.objectives(x),
            problem.objective_gradient(x[0]),
            *problem.validate(x).values(),
        ]

    whole = everything()
    monkeypatch.setattr("simnet.models.problems.data._PIECE_NUMBERS", 1000)
    monkeypatch.setattr("simnet.problem._PIECE_NUMBERS", 1)
    for module in ("simnet.problem", "simnet.models.problems.data"):
        monkeypatch.setattr(f"{module}.FEWEST_NODES", 3)
    assert problem.piece_size(None) == 1 and problem.piece_size(2) == 3
    for a, b in zip(everything(), whole, strict=True):
        close(a, b)


def test_a_gradient_kept_by_the_caller_survives_the_next_call() -> None:
    problem = problems(3, 4, 0, 0.0)[4]
    problem.prepare("cpu", torch.float64)
    x, nodes = torch.ones(3, problem.dim, dtype=torch.float64), torch.arange(3)
    first = problem.gradients(x, nodes)
    kept = first.clone()
    loss = problem.loss(x[0].clone().requires_grad_(True), 0, None)
    problem.gradients(-x, nodes)
    assert torch.equal(first, kept)
    loss.backward()  # type: ignore[no-untyped-call]  # memory that autograd holds was not reused


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("which", range(8))
def test_a_gpu_computes_the_same(which: int) -> None:
    results = []
    for device in ("cpu", "cuda"):
        problem = problems(6, 5, 0, 0.1)[which]
        problem.prepare(device, torch.float64)
        x = torch.randn(3, problem.dim, generator=torch.manual_seed(0), dtype=torch.float64).to(device)
        nodes = torch.tensor([4, 0, 3], device=device)
        batch = torch.zeros(3, 2, dtype=torch.int64, device=device)
        values = [problem.gradients(x, nodes, s) for s in (None, batch)] + [problem.hvps(x, x, nodes, batch)]
        results.append([v.cpu() for v in (*values, problem.objectives(x), *problem.validate(x).values())])
    for a, b in zip(*results, strict=True):
        close(a, b)


# ---- optima ------------------------------------------------------------------------------------------------------


@given(condition=st.floats(1, 1e4), heterogeneity=st.floats(0, 10), dim=st.integers(1, 8), nodes=st.integers(1, 9))
@settings(max_examples=40)
def test_the_quadratic_has_the_chosen_condition_and_a_stationary_optimum(
    condition: float, heterogeneity: float, dim: int, nodes: int
) -> None:
    problem = Quadratic(nodes, 3, dim=dim, condition=condition, heterogeneity=heterogeneity)
    problem.prepare("cpu", torch.float64)
    curvature = problem.arrays[0].mean(0)
    assert curvature.max() == pytest.approx(1.0, rel=1e-12)
    assert curvature.min() == pytest.approx(1 / condition if dim > 1 else 1.0, rel=1e-12)
    assert (problem.arrays[0] > 0).all()
    best = problem.optimum()
    assert best is not None
    pull = problem.gradients(best[0].repeat(nodes, 1), torch.arange(nodes)).mean(0)
    assert float(pull.norm()) < 1e-12 * (1 + heterogeneity) * dim
    assert float(best[1]) == pytest.approx(float(problem.losses(best[0].repeat(nodes, 1), torch.arange(nodes)).mean()))


def test_equal_nodes_without_heterogeneity() -> None:
    a, c = Quadratic(5, heterogeneity=0.0).arrays
    assert (a == a[0]).all() and (c == c[0]).all()


def test_the_reference_problem_of_the_baselines_and_its_optimum() -> None:
    generator = np.random.default_rng(0)
    a, c = generator.uniform(0.5, 2, (16, 1)), 2 * generator.normal(size=(16, 5))
    problem = Quadratic.from_arrays(a, c)
    problem.prepare("cpu", torch.float64)
    assert (problem.nodes, problem.dim) == (16, 5)
    best = problem.optimum()
    assert best is not None
    assert best[0].numpy() == pytest.approx((a * c).sum(0) / a.sum(), rel=1e-14)
    x = torch.zeros(16, 5, dtype=torch.float64)
    assert torch.equal(problem.gradients(x, torch.arange(16)), torch.as_tensor(a * (0 - c)))


def test_least_squares_of_low_rank_has_its_optimum_in_float32_too() -> None:
    """What rounding leaves in the other directions is no slope to follow."""
    problem = LeastSquares(16, 0, dim=60, rows=10, rank=40)
    problem.prepare("cpu", torch.float64)
    best = problem.optimum()
    problem.prepare("cpu", torch.float32)
    again = problem.optimum()
    assert best is not None and again is not None
    torch.testing.assert_close(again[0].double(), best[0], rtol=0, atol=1e-3)
    assert float(again[1]) == pytest.approx(float(best[1]), rel=1e-4)


@pytest.mark.parametrize("rank", [None, 3])
@pytest.mark.parametrize("l2", [0.0, 0.5])
def test_least_squares_optimum_is_stationary_and_of_least_norm(rank: int | None, l2: float) -> None:
    problem = LeastSquares(5, 1, dim=8, rows=6, rank=rank, l2=l2)
    problem.prepare("cpu", torch.float64)
    best = problem.optimum()
    assert best is not None
    assert float(problem.objective_gradient(best[0]).norm()) < 1e-13
    if l2 == 0:
        data = problem.parts().dataset
        assert np.linalg.matrix_rank(data.train_x) == (rank or 8)
        assert best[0].numpy() == pytest.approx(np.linalg.pinv(data.train_x) @ data.train_y, rel=1e-10)
    assert float(best[1]) <= float(problem.objective(best[0] + 0.01))


# ---- learning and sizes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "accuracy"), [(Softmax, 0.93), (MLP, 0.95)])
def test_plain_gradient_descent_learns_the_digits(kind: Callable[..., DataProblem], accuracy: float) -> None:
    data = digits()
    problem = kind(Parts(data, iid(data.train_y, 1, 0)))
    problem.prepare("cpu", torch.float32)
    x = problem.initial("x")[None].clone()
    for _ in range(200):
        x -= 0.5 * problem.gradients(x, torch.tensor([0]))
    metrics = problem.validate(x)
    assert metrics["accuracy"].shape == (1,) and float(metrics["accuracy"]) > accuracy
    assert float(metrics["validation_loss"]) < 0.35


def test_logistic_regression_learns_heart_scale() -> None:
    data = heart_scale()
    problem = Logistic(Parts(data, dirichlet(data.train_y, 4, 0)), l2=1e-3)
    problem.prepare("cpu", torch.float64)
    x = problem.initial("x")
    for _ in range(300):
        x = x - problem.objective_gradient(x)
    assert float(problem.validate(x[None])["accuracy"]) > 0.8
    assert float(problem.objective(x)) < 0.45


def test_metrics_come_for_each_model() -> None:
    data = digits()
    problem = Softmax(Parts(data, iid(data.train_y, 4, 0)))
    problem.prepare("cpu", torch.float64)
    x = torch.randn(5, problem.dim, generator=torch.manual_seed(0), dtype=torch.float64)
    together = problem.validate(x)
    for name, value in together.items():
        close(value, torch.cat([problem.validate(row[None])[name] for row in x]))
    zero = problem.validate(torch.zeros(1, problem.dim, dtype=torch.float64))
    assert float(zero["validation_loss"]) == pytest.approx(np.log(10))
    assert LeastSquares(3).validate(x) == {}


def test_the_mlp_reads_torch_linear_parameters_in_their_order() -> None:
    data = digits()
    problem = MLP(Parts(data, iid(data.train_y, 2, 0)), hidden=[6, 5])
    problem.prepare("cpu", torch.float64)
    linear, relu = torch.nn.Linear, torch.nn.ReLU
    net = torch.nn.Sequential(linear(64, 6), relu(), linear(6, 5), relu(), linear(5, 10)).double()
    x = torch.nn.utils.parameters_to_vector(net.parameters()).detach()
    loss = torch.nn.functional.cross_entropy(net(torch.as_tensor(data.test_x)), torch.as_tensor(data.test_y))
    close(problem.validate(x[None])["validation_loss"][0], loss.detach())
    first = problem.initial("x")
    assert torch.equal(first, problem.initial("x")) and len(first) == problem.dim
    assert float(first[: 64 * 6].std()) == pytest.approx(np.sqrt(2 / 64), rel=0.15)
    assert not first[64 * 6 : 65 * 6].any()


@pytest.mark.parametrize("which", range(2, 8))
@pytest.mark.parametrize("oracle", ["loss", "gradient", "hvp"])
def test_flop_equals_the_matrix_products_that_are_run(which: int, oracle: str) -> None:
    problem = problems(2, 4, 0, 0.0)[which]
    problem.prepare("cpu", torch.float64)
    x, nodes = torch.ones(1, problem.dim, dtype=torch.float64), torch.tensor([1])
    samples = torch.zeros(1, 6, dtype=torch.int64)
    call = {
        "loss": lambda: problem.losses(x, nodes, samples),
        "gradient": lambda: problem.gradients(x, nodes, samples),
        "hvp": lambda: problem.hvps(x, x, nodes, samples),
    }[oracle]
    with FlopCounterMode(display=False) as counter:
        call()
    assert problem.flop(oracle, 6) == counter.get_total_flops()
    assert np.array_equal(problem.flop(oracle, np.array([1, 6])) * [6, 1], np.full(2, problem.flop(oracle, 6)))


def test_quadratic_flop_and_sizes() -> None:
    problem = Quadratic(3, dim=7)
    assert problem.flop("gradient", np.zeros(3, np.int64)).tolist() == [14.0] * 3  # type: ignore[union-attr]
    assert problem.flop("loss", 0) == 28 and problem.flop("hvp", 0) == 7
    assert problem.variables() == {"x": (7,)} and problem.samples_N.tolist() == [0, 0, 0]


def test_constructing_a_problem_loads_no_torch() -> None:
    script = """
import sys
from simnet.dataset import Parts
from simnet.models.datasets.shipped import digits
from simnet.models.problems import linear, logistic, mlp, quadratic, softmax
from simnet.models.splits.shipped import dirichlet
data = digits()
parts = Parts(data, dirichlet(data.train_y, 4, 0))
made = [mlp.MLP(parts), softmax.Softmax(parts), quadratic.Quadratic(4), linear.LeastSquares(4)]
assert all(p.flop("gradient", 16) > 0 and p.dim and len(p.samples_N) == 4 for p in made)
assert len(made[0].initial_point("x")) == made[0].dim
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda p: MLP(p, hidden=0), InputError, "hidden = 0; give a width of at least 1"),
        (lambda p: MLP(p, hidden=[]), InputError, r"hidden = \[\]"),
        (lambda p: MLP(p, hidden=[4, 0]), InputError, r"hidden = \[4, 0\]"),
        (lambda p: Softmax(p, l2=-1.0), InputError, "Softmax: l2 = -1.0"),
        (lambda p: Logistic(p), DataError, "two classes, and made up has 3; use Softmax"),
        (lambda p: LinearRegression(p), DataError, "made up has classes; use Softmax"),
        (lambda p: Quadratic(3, dim=0), InputError, "dim = 0"),
        (lambda p: Quadratic(3, condition=0.5), InputError, "condition = 0.5"),
        (lambda p: Quadratic(3, heterogeneity=-1), InputError, "heterogeneity = -1"),
        (lambda p: Quadratic.from_arrays(np.ones((3, 2)), np.ones((3, 3))), InputError, r"a has shape \(3, 2\)"),
        (lambda p: LeastSquares(3, rank=11), InputError, "rank = 11; give 1 to dim = 10"),
        (lambda p: LeastSquares(3, rows=0), InputError, "rows = 0"),
        (lambda p: LeastSquares(3, noise=-1), InputError, "noise = -1"),
    ],
)
def test_bad_parameters_are_refused(make: Callable[[Parts], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(made_up(3, 4, 3, 0))


def test_real_labels_are_refused_by_classifiers() -> None:
    with pytest.raises(DataError, match="labels of made up are real numbers; use LinearRegression"):
        Softmax(made_up(3, 4, None, 0))
