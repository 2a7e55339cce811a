"""Problems made of named parameters: torch modules, the small CNN, the tiny transformer, and declared models.

N nodes, S nodes of a call, D parameters, B rows.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import simnet
from simnet import registry
from simnet.dataset import Dataset, Parts
from simnet.errors import DataError, InputError, ScenarioError
from simnet.models.datasets.shipped import digits
from simnet.models.datasets.text import sample_text, text
from simnet.models.problems.cnn import CNN
from simnet.models.problems.declared import Declared
from simnet.models.problems.mlp import MLP
from simnet.models.problems.module import Module
from simnet.models.problems.quadratic import Quadratic
from simnet.models.problems.softmax import Softmax
from simnet.models.problems.transformer import Transformer
from simnet.problem import Problem
from tests.shared import shared_dir


def dealt(data: Dataset, nodes: int) -> Parts:
    """Every `nodes`-th row to each, the first node short of some."""
    rows = [np.arange(i, len(data.train_y), nodes) for i in range(nodes)]
    return Parts(data, [rows[0][:5], *rows[1:]])


def small(features: int = 4, classes: int | None = 3) -> Dataset:
    generator = np.random.default_rng(0)
    y = generator.normal(size=30) if classes is None else np.arange(30) % classes
    return Dataset(
        "small", generator.normal(size=(30, features)), y, generator.normal(size=(9, features)), y[:9], classes
    )


def net(features: int, classes: int, width: int = 5) -> nn.Module:
    return nn.Sequential(nn.Linear(features, width), nn.Tanh(), nn.Linear(width, classes))


def module(target: Any, data: Dataset | None = None, nodes: int = 3, **params: Any) -> Module:
    return Module(dealt(data or small(), nodes), module=target, **params)


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "Module": lambda: module(net, l2=0.1),
    "CNN": lambda: CNN(dealt(digits(), 3), channels=[2, 3], l2=0.1),
    "Transformer": lambda: Transformer(dealt(sample_text(characters=600, block=5), 3), width=8, heads=2, layers=1),
    "binary": lambda: module(net, small(classes=2), loss="binary_cross_entropy", arguments={"classes": 1}),
    "regression": lambda: module(net, small(classes=None), loss="squared_error", arguments={"classes": 1}),
}


# ---- values: against plain autograd, one node at a time -------------------------------------------------------------


@pytest.mark.parametrize("batch", [None, 4])
@pytest.mark.parametrize("kernels", ["closed", "loop"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_batched_derivatives_equal_autograd_of_the_one_node_loss(name: str, kernels: Any, batch: int | None) -> None:
    problem = PROBLEMS[name]()
    problem.prepare("cpu", torch.float64, kernels)
    torch.manual_seed(1)
    nodes = [2, 0]
    samples = None if batch is None else torch.tensor([[0, 1, 1, 4], [3, 2, 0, 4]])
    x_SD = problem.initial("x") + 0.1 * torch.randn(2, problem.dim, dtype=torch.float64)
    v_SD = torch.randn_like(x_SD)
    for i, node in enumerate(nodes):
        x = x_SD[i].clone().requires_grad_(True)
        loss = problem.loss(x, node, None if samples is None else samples[i])
        (g,) = torch.autograd.grad(loss, x, create_graph=True)
        h = torch.autograd.grad(g @ v_SD[i], x)[0]
        ids = torch.tensor(nodes)
        assert torch.allclose(problem.losses(x_SD, ids, samples)[i], loss, rtol=1e-12)
        assert torch.allclose(problem.gradients(x_SD, ids, samples)[i], g, rtol=1e-9, atol=1e-13)
        assert torch.allclose(problem.hvps(x_SD, v_SD, ids, samples)[i], h, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_objective_is_the_mean_of_the_nodes_losses(name: str) -> None:
    problem = PROBLEMS[name]()
    problem.prepare("cpu", torch.float64)
    x_ND = problem.initial("x").expand(problem.nodes, -1).contiguous()
    everyone = torch.arange(problem.nodes)
    assert torch.allclose(problem.objective(x_ND[0]), problem.losses(x_ND, everyone).mean(), rtol=1e-12)
    mean = problem.gradients(x_ND, everyone).mean(0)
    assert torch.allclose(problem.objective_gradient(x_ND[0]), mean, rtol=1e-9, atol=1e-13)


def test_a_module_of_two_layers_is_the_mlp() -> None:
    parts = dealt(digits(), 4)
    layers = nn.Sequential(nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 10))
    ours, theirs = MLP(parts, hidden=6), Module(parts, module=layers)
    for problem in (ours, theirs):
        problem.prepare("cpu", torch.float64)
    assert [s.start for s in theirs.slices.values()] == [0, 384, 390, 450]
    x_SD, nodes, samples = ours.initial("x").expand(4, -1).clone(), torch.arange(4), torch.arange(5).expand(4, 5)
    assert torch.allclose(theirs.gradients(x_SD, nodes, samples), ours.gradients(x_SD, nodes, samples), atol=1e-14)
    assert torch.allclose(theirs.objective(x_SD[0]), ours.objective(x_SD[0]))
    for name, value in ours.validate(x_SD[:2]).items():
        assert torch.allclose(theirs.validate(x_SD[:2])[name], value), name
    assert ours.flop("gradient", 7) == theirs.flop("gradient", 7)
    assert ours.flop("loss", 7) == theirs.flop("loss", 7)


@pytest.mark.parametrize("name", ["CNN", "Transformer"])
def test_flop_equals_what_is_counted(name: str) -> None:
    problem = PROBLEMS[name]()
    problem.prepare("cpu", torch.float32, "loop")  # the counter knows no convolution with a node axis
    x_SD, nodes, samples = problem.initial("x")[None], torch.tensor([1]), torch.arange(4)[None]
    for oracle, call in (
        ("loss", lambda: problem.losses(x_SD, nodes, samples)),
        ("gradient", lambda: problem.gradients(x_SD, nodes, samples)),
        ("hvp", lambda: problem.hvps(x_SD, x_SD, nodes, samples)),
    ):
        with FlopCounterMode(display=False) as counter:
            call()
        assert counter.get_total_flops() == problem.flop(oracle, 4), oracle


def test_flop_of_a_module_under_vmap_is_what_was_counted_on_meta_tensors() -> None:
    problem = module(net, nodes=3)
    problem.prepare("cpu", torch.float32)
    x_SD = problem.initial("x").expand(3, -1).clone()
    with FlopCounterMode(display=False) as counter:
        problem.gradients(x_SD, torch.arange(3), torch.arange(4).expand(3, 4))
    assert counter.get_total_flops() == 3 * problem.flop("gradient", 4)
    one, four = problem.flop("gradient", 1), problem.flop("gradient", 4)
    assert (problem.flop("gradient", np.array([0, 1, 4])) == [0, one, four]).all()


# ---- parameters by name -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROBLEMS)
def test_slices_cover_the_vector_in_order(name: str) -> None:
    problem = PROBLEMS[name]()
    cuts = list(problem.slices.values())
    assert [c.start for c in cuts] == [0, *(c.stop for c in cuts[:-1])] and cuts[-1].stop == problem.dim
    assert all(c.stop - c.start == math.prod(problem.shapes[n]) for n, c in problem.slices.items())


def test_every_problem_names_its_slices() -> None:
    parts = dealt(small(), 2)
    assert Quadratic(2, dim=5).slices == {"x": slice(0, 5)}
    assert Softmax(parts).slices == {"weight": slice(0, 12), "bias": slice(12, 15)}
    assert list(MLP(parts, hidden=[5, 2]).slices) == [f"layer{n}.{w}" for n in (1, 2, 3) for w in ("weight", "bias")]
    assert MLP(parts, hidden=5).slices["layer2.weight"] == slice(25, 40)


def test_the_first_point_depends_on_the_seed_alone_and_leaves_torchs_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, same, other = (module(net, seed=s).initial_point("x") for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(first, same) and not np.array_equal(first, other)


def test_a_module_given_as_an_object_starts_where_it_stands() -> None:
    made = net(4, 3)
    with torch.no_grad():
        made[0].weight.fill_(0.25)
    assert (module(made).initial_point("x")[:20] == 0.25).all()


def test_frozen_parameters_are_constants_and_tied_ones_occur_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
            self.b.weight = self.a.weight
            self.out.weight.requires_grad_(False)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.b(torch.tanh(self.a(x))))

    problem = module(Tied)
    assert list(problem.shapes) == ["a.weight", "a.bias", "b.bias", "out.bias"]
    problem.prepare("cpu", torch.float64)
    x_SD = problem.initial("x").expand(2, -1).clone()
    x = x_SD[0].clone().requires_grad_(True)
    g = torch.autograd.grad(problem.loss(x, 1, None), x)[0]
    assert torch.allclose(problem.gradients(x_SD, torch.tensor([1, 1]))[0], g)


# ---- from a scenario ----------------------------------------------------------------------------------------------

SOURCE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, features, classes, width=8):
        super().__init__()
        self.a, self.b = nn.Linear(features, width), nn.Linear(width, classes)

    def forward(self, x):
        return self.b(torch.relu(self.a(x)))

def hinge(z, y):
    right = z.gather(1, y[:, None])
    return (1 + z - right).clamp(min=0).sum(1) - 1
"""


def scenario(problem: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "network": {"nodes": 4, "graph": "ring"},
        "nodes": {"compute": "10 GFLOP/s"},
        "problem": problem,
        "algorithm": {"name": "DPSGD", "eta": 0.2},
        "rounds": 6,
        "execution": {"dtype": "float64"},
        **more,
    }


def test_a_module_in_a_file_of_ones_own_trains(tmp_path: Path) -> None:
    (tmp_path / "my_net.py").write_text(SOURCE)
    path = f"{tmp_path / 'my_net.py'}"
    problem = {"name": "Module", "module": f"{path}:Net", "arguments": {"width": 6}, "data": "digits", "batch": 16}
    record = simnet.run(scenario(problem))
    assert record.rounds["objective"][-1] < record.rounds["objective"][0]
    assert record.rounds["accuracy"][-1] > 0
    one_by_one = simnet.run(scenario(problem), set={"execution.executor": "one by one"})
    assert np.allclose(one_by_one.rounds["objective"], record.rounds["objective"], rtol=1e-12)
    hinge = simnet.run(scenario({**problem, "loss": f"{path}:hinge"}))
    assert hinge.rounds["objective"][-1] < hinge.rounds["objective"][0]
    assert "accuracy" not in hinge.rounds


def test_file_names_count_from_the_scenarios_folder(tmp_path: Path) -> None:
    (tmp_path / "my_net.py").write_text(SOURCE)
    problem = Module(dealt(small(), 2), module="my_net.py:Net", loss="my_net.py:hinge", base_dir=tmp_path)
    assert problem.dim == 4 * 8 + 8 + 8 * 3 + 3


@pytest.mark.parametrize(
    "problem",
    [
        {"name": "CNN", "channels": [4], "data": "digits", "batch": 8},
        {
            "name": "Transformer",
            "width": 8,
            "heads": 2,
            "layers": 1,
            "batch": 8,
            "data": {"name": "sample_text", "block": 8},
        },
    ],
    ids=["CNN", "Transformer"],
)
def test_shipped_nets_train_the_same_batched_and_one_by_one(problem: dict[str, Any]) -> None:
    batched = simnet.run(scenario(problem))
    single = simnet.run(scenario(problem), set={"execution.executor": "one by one"})
    assert batched.rounds["objective"][-1] < batched.rounds["objective"][0]
    assert np.allclose(batched.rounds["objective"], single.rounds["objective"], rtol=1e-11)


# ---- what a forward must not do ------------------------------------------------------------------------------------


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        z = self.a(x)
        return z if z.sum() > 0 else 2 * z


def test_control_flow_by_values_is_refused_under_vmap_and_runs_in_a_loop() -> None:
    problem = module(Branches)
    with pytest.raises(InputError, match=r"torch\.where.*kernels: loop"):
        problem.prepare("cpu", torch.float64)
    problem.prepare("cpu", torch.float64, "loop")
    x_SD = problem.initial("x").expand(2, -1).clone()
    x = x_SD[0].clone().requires_grad_(True)
    g = torch.autograd.grad(problem.loss(x, 1, None), x)[0]
    assert torch.allclose(problem.gradients(x_SD, torch.tensor([1, 2]))[0], g)
    assert problem.flop("gradient", 4) > 0
    assert problem.objective(x_SD[0]).isfinite()


def test_what_vmap_does_not_know_is_named() -> None:
    class OneHot(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(nn.functional.one_hot((x[:, 0] > 0).long() + 1, 5).to(x.dtype))

    with pytest.raises(InputError, match="loop"):
        module(OneHot).prepare("cpu", torch.float32)
    module(OneHot).prepare("cpu", torch.float32, "loop")


def test_batch_norm_is_refused_and_says_what_would_become_of_its_statistics() -> None:
    norm = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    with pytest.raises(InputError, match=r"1 is BatchNorm1d.*running statistics.*GroupNorm.*mode: eval"):
        module(norm)
    problem = module(norm, mode="eval")
    problem.prepare("cpu", torch.float64)
    x_SD = problem.initial("x").expand(2, -1).clone()
    assert problem.gradients(x_SD, torch.arange(2)).isfinite().all()
    assert (problem.net[1].running_mean == 0).all() and (problem.net[1].running_var == 1).all()
    untracked = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, track_running_stats=False), nn.Linear(6, 3))
    with pytest.raises(InputError, match="other rows of its batch"):
        module(untracked)
    module(nn.Sequential(nn.Linear(4, 6), nn.GroupNorm(2, 6), nn.Linear(6, 3))).prepare("cpu", torch.float32)


def test_randomness_in_the_forward_is_refused() -> None:
    dropping = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 3))
    state = torch.get_rng_state()
    with pytest.raises(InputError, match=r"random numbers.*mode: eval"):
        module(dropping)
    assert torch.equal(state, torch.get_rng_state())
    module(dropping, mode="eval").prepare("cpu", torch.float32)


def test_buffers_that_change_are_refused_and_constant_ones_are_kept() -> None:
    class Counts(nn.Module):
        def __init__(self, counting: bool) -> None:
            super().__init__()
            self.a, self.counting = nn.Linear(4, 3), counting
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            if self.counting:
                self.calls += 1
            return self.a(x) + self.calls

    with pytest.raises(InputError, match="buffer 'calls' changes"):
        module(Counts(True))
    module(Counts(False)).prepare("cpu", torch.float64)


def no_parameters(features: int) -> nn.Module:
    return nn.Flatten()


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"module": no_parameters}, "nothing to train"),
        ({"module": lambda: 3}, "not a torch.nn.Module"),
        ({"module": nn.Linear(7, 3)}, "does not take rows of shape"),
        ({"module": net, "input_shape": [3, 3]}, "4 numbers of a row"),
        ({"module": net, "loss": "cross entropy"}, "cross_entropy, squared_error"),
        ({"module": net, "loss": "binary_cross_entropy"}, "3 classes"),
        ({"module": net, "loss": lambda z, y: z.sum()}, "one for each of 4 rows"),
        ({"module": net, "arguments": {"widht": 3}}, "did you mean 'width'"),
        ({"module": "nowhere.py:Net"}, "there is no file"),
    ],
)
def test_what_does_not_fit_is_refused(params: dict[str, Any], said: str) -> None:
    with pytest.raises((InputError, ScenarioError), match=said.replace(".", r"\.")):
        Module(dealt(small(), 2), **params)


def test_nets_say_which_data_they_take() -> None:
    with pytest.raises(InputError, match="no square image"):
        CNN(dealt(small(6), 2))
    with pytest.raises(InputError, match="to nothing"):
        CNN(dealt(digits(), 2), channels=[2, 2, 2, 2])
    with pytest.raises(DataError, match="data: text"):
        Transformer(dealt(digits(), 2))
    with pytest.raises(InputError, match="heads divide"):
        Transformer(dealt(sample_text(), 2), width=10, heads=4)


# ---- text ---------------------------------------------------------------------------------------------------------


def test_text_is_cut_into_blocks_with_the_character_that_follows(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("abcabcabcabca", encoding="utf-8")
    data = text("t.txt", block=4, test_fraction=0.34, base_dir=tmp_path)
    assert data.train_x.tolist() == [[0, 1, 2, 0], [1, 2, 0, 1]] and data.train_y.tolist() == [1, 2]
    assert data.test_x.tolist() == [[2, 0, 1, 2]] and data.test_y.tolist() == [0]
    assert data.classes == 3 and data.train_x.dtype == np.int64


def test_text_that_will_not_do(tmp_path: Path) -> None:
    for content, said in ((b"abc", "no training"), (b"aaaaaaaaaaaaa", "nothing to"), (b"ab\xff", "at byte 2")):
        (tmp_path / "t.txt").write_bytes(content)
        with pytest.raises(DataError, match=said):
            text("t.txt", block=4, base_dir=tmp_path)


def test_tiny_shakespeare_is_read() -> None:
    data = text(str(shared_dir() / "data/tinyshakespeare/input.txt"), block=32, characters=20_000)
    assert data.classes is not None and 50 < data.classes < 66
    assert len(data.train_x) + len(data.test_x) == 19_999 // 32


def test_a_transformer_sees_no_later_character() -> None:
    problem = Transformer(dealt(sample_text(characters=600, block=6), 2), width=8, heads=2, layers=2, seed=3)
    problem.prepare("cpu", torch.float64)
    x_D = problem.initial("x") + 0.3 * torch.sin(torch.arange(problem.dim, dtype=torch.float64))
    rows = torch.tensor([[1, 2, 3, 4, 5, 6], [1, 2, 3, 0, 0, 0]])
    z = problem.forward(problem.named(x_D), rows)
    assert torch.allclose(z[0, :, :3], z[1, :, :3], atol=1e-14) and not torch.allclose(z[0, :, 3], z[1, :, 3])


# ---- declared -----------------------------------------------------------------------------------------------------


def test_a_declared_model_is_estimated_and_not_run() -> None:
    problem = {"name": "Declared", "parameters": 7e9, "flop_per_sample": "42 TFLOP", "samples": 8}
    plan = scenario(problem, nodes={"compute": "300 TFLOP/s"}, execution={})
    record = simnet.estimate(plan)
    compute, message = 8 * 42e12 / 300e12, 7e9 * 4
    rounds = 6
    assert record.summary["wire_bytes"] == rounds * 8 * message
    assert record.summary["sim_time_s"] == pytest.approx(rounds * (compute + 2 * message / 12.5e6 + 1e-3))
    with pytest.raises(InputError, match="simnet estimate"):
        simnet.run(plan, set={"problem.parameters": 1e4})


def test_a_declared_dtype_is_that_of_the_wire() -> None:
    problem = {"name": "Declared", "parameters": 1000, "dtype": "bfloat16"}
    plan = scenario(problem, nodes={"step": "1 s"}, execution={})
    with pytest.raises(InputError, match=r"network\.wire_dtype = 'float32': the problem declares bfloat16 numbers"):
        simnet.estimate(plan)
    record = simnet.estimate(plan, set={"network.wire_dtype": "bfloat16"})
    assert record.summary["wire_bytes"] == 6 * 8 * 1000 * 2


def test_a_declared_model_without_flop_asks_for_a_step() -> None:
    with pytest.raises(InputError, match="nodes.step"):
        simnet.estimate(scenario({"name": "Declared", "parameters": 1e6}))
    simnet.estimate(scenario({"name": "Declared", "parameters": 1e6}, nodes={"step": "1 s"}))


@pytest.mark.parametrize(
    "params",
    [{"parameters": 0.5}, {"parameters": 7, "samples": [1, 2]}, {"parameters": 7, "flop_per_sample": -1.0}],
)
def test_declared_counts_that_make_no_sense_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Declared(3, **params)


def test_declared_and_shipped_nets_are_made_without_torch() -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "import simnet, numpy as np\n"
        "from simnet.dataset import Parts\n"
        "from simnet.models.datasets.shipped import digits\n"
        "from simnet.models.datasets.text import sample_text\n"
        "from simnet.models.problems.cnn import CNN\n"
        "from simnet.models.problems.transformer import Transformer\n"
        "from simnet.models.problems.declared import Declared\n"
        "for p in (CNN(Parts(digits(), [np.arange(9)])), Transformer(Parts(sample_text(), [np.arange(9)])),\n"
        "          Declared(1, parameters=7e9)):\n"
        "    assert p.variables() == {'x': (p.dim,)} and p.slices and p.flop('gradient', 3) >= 0\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_names_in_the_catalogue() -> None:
    assert {"Module", "CNN", "Transformer", "Declared"} <= set(registry.shipped("problems"))
