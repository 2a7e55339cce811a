"""Values: what is recorded, the shapes that it has, and what is refused in words that help."""

from __future__ import annotations

import gc
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from simnet.errors import ProgramError
from simnet.graph import Graph, Value, broadcast, elementwise, recorded


@pytest.fixture
def graph() -> Graph:
    return Graph(ProgramError)


def given(graph: Graph, *shape: int, dtype: str = "float") -> Value:
    return graph.add("zeros", shape=shape, dtype=dtype)


def test_operators_record_tasks_in_order(graph: Graph) -> None:
    x, g = given(graph, 3), given(graph, 3)
    y = x - 0.1 * g
    assert [t.kind for t in graph.pending] == ["zeros", "zeros", "map", "map"]
    assert graph.pending[2].args[0] == 0.1
    assert [t.reads for t in graph.pending] == [(), (), (1,), (0, 2)]
    assert y.shape == (3,)


@pytest.mark.parametrize(
    ("call", "shape", "dtype"),
    [
        (lambda x, s, m: x * s, (3,), "float"),
        (lambda x, s, m: 1 - x, (3,), "float"),
        (lambda x, s, m: m + x, (2, 3), "float"),
        (lambda x, s, m: m @ x, (2,), "float"),
        (lambda x, s, m: x > 0, (3,), "bool"),
        (lambda x, s, m: (x > 0) & (x < 1), (3,), "bool"),
        (lambda x, s, m: -(abs(x) ** 2) / 3 // 1 % 2, (3,), "float"),
        (lambda x, s, m: torch.linalg.vector_norm(x), (), "float"),
        (lambda x, s, m: torch.where(x > s, x, torch.zeros_like(x)), (3,), "float"),
        (lambda x, s, m: torch.stack([x, x * 2]), (2, 3), "float"),
        (lambda x, s, m: torch.cat([x, x]), (6,), "float"),
        (lambda x, s, m: torch.argsort(x), (3,), "int"),
        (lambda x, s, m: torch.mean(m, 0), (3,), "float"),
        (lambda x, s, m: torch.sum(m, dim=1, keepdim=True), (2, 1), "float"),
        (lambda x, s, m: x[1:], (2,), "float"),
        (lambda x, s, m: x[0], (), "float"),
        (lambda x, s, m: m[:, None], (2, 1, 3), "float"),
        (lambda x, s, m: x + torch.ones(3), (3,), "float"),
        (lambda x, s, m: torch.ones(4, 1) * x, (4, 3), "float"),
    ],
)
def test_shapes_are_those_of_one_node(graph: Graph, call: Any, shape: tuple[int, ...], dtype: str) -> None:
    result = call(given(graph, 3), given(graph), given(graph, 2, 3))
    assert (result.shape, result.dtype) == (shape, dtype)


def test_a_function_with_several_results_gives_several_values(graph: Graph) -> None:
    values, indices = torch.topk(given(graph, 5), 2)
    assert (values.shape, values.dtype, indices.shape, indices.dtype) == ((2,), "float", (2,), "int")


def test_handles_keep_values_alive_and_release_them(graph: Graph) -> None:
    released: list[int] = []
    graph.release = released.append
    x = given(graph, 3)
    y = x + 1
    assert graph.live == {0, 1}
    assert graph.readers == {0: 1}
    del x
    gc.collect()
    assert graph.live == {1}
    assert released == []  # the recorded addition still has to read it
    del y
    assert released == [1]


@pytest.mark.parametrize(
    ("misuse", "says"),
    [
        (lambda x: bool(x), "torch.where.*node.read"),
        (lambda x: float(x), "node.read"),
        (lambda x: int(x), "node.read"),
        (lambda x: len(x), "x.shape"),
        (lambda x: list(x), "index it"),
        (lambda x: 1 if x > 0 else 2, "torch.where"),
        (lambda x: x.mean(), r"torch\.mean\(x"),
        (lambda x: torch.add(x, 1, out=torch.zeros(3)), "without out="),
        (lambda x: torch.relu_(x), "never changes"),
        (lambda x: torch.nn.functional.dropout(x), "node.random"),
        (lambda x: torch.rand_like(x), "node.random"),
        (lambda x: torch.bernoulli(x), "node.random"),
        (lambda x: x + torch.ones(4), r"does not take Values of per-node shape \(3,\)|broadcast"),
        (lambda x: torch.dot(x, x[:2]), r"\(3,\), \(2,\)"),
    ],
)
def test_misuse_is_refused_with_the_cure(graph: Graph, misuse: Any, says: str) -> None:
    with pytest.raises(ProgramError, match=says):
        misuse(given(graph, 3))


def test_values_of_different_nodes_do_not_mix(graph: Graph) -> None:
    with pytest.raises(ProgramError, match="only be had through a message"):
        given(graph, 3) + given(Graph(ProgramError), 3)


def test_in_place_operators_rebind_and_leave_the_old_value(graph: Graph) -> None:
    x = y = given(graph, 3)
    y += 1
    assert y is not x
    assert (x.id, y.id) == (0, 1)


def test_numpy_leaves_operators_to_values(graph: Graph) -> None:
    import numpy as np

    assert isinstance(np.float64(2.0) * given(graph, 3), Value)


def test_broadcasting_is_the_usual_rule() -> None:
    assert broadcast((3, 1), (4,)) == (3, 4)
    assert broadcast((), (2, 5)) == (2, 5)
    with pytest.raises(TypeError, match="do not broadcast"):
        broadcast((3,), (4,))


def test_recording_arithmetic_does_not_import_torch() -> None:
    code = (
        "import sys; from simnet.graph import Graph; g = Graph(); x = g.add('zeros', shape=(3,));"
        "y = x - 0.1 * x / 2 > 1; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_elementwise_function_is_recorded_without_being_run(graph: Graph) -> None:
    @recorded
    @elementwise
    def halved(a: Any, b: Any, factor: float) -> Any:
        return torch.square(a).add_(b, alpha=factor)

    x, s = given(graph, 3), given(graph)
    y = halved(x, s, 0.5)
    assert (y.shape, y.dtype, graph.pending[-1].reads) == ((3,), "float", (0, 1)) and not graph._shapes
    np.testing.assert_array_equal(halved(torch.ones(3), torch.ones(()), 0.5), [1.5] * 3)
