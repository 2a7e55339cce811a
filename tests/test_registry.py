"""Names to objects, and scenario parameters to calls."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import networkx as nx
import pytest

from simnet import registry
from simnet.describe import describe
from simnet.errors import ScenarioError, UnitError, UnknownName
from tests.shared import ROOT


@dataclass(frozen=True)
class Method:
    """A method for these tests."""

    eta: float  # step size
    steps: int = 1
    law: Literal["normal", "sign"] = "normal"
    deadline_s: float | None = None


def graph(n: int, *, seed: int = 0, p: float = 0.5) -> tuple[int, int, float]:
    """A function for these tests."""
    return n, seed, p


# ---- find ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["erdos_renyi", "Erdos-Renyi", "ErdosRenyi", "ERDOS_RENYI"])
def test_a_shipped_name_ignores_case_hyphen_and_underscore(name: str) -> None:
    assert registry.find("topologies", name).__name__ == "erdos_renyi"
    assert registry.canonical("topologies", name)[0] == "erdos_renyi"


def test_a_module_can_be_named() -> None:
    assert registry.find("topologies", "networkx:path_graph") is nx.path_graph
    assert registry.find("module", "simnet.units:quantity").__name__ == "quantity"


def test_a_file_beside_the_scenario_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("TWO = 2\n")
    (tmp_path / "mine.py").write_text("from helper import TWO\ndef ring(n):\n    return TWO * n\n")
    found = registry.find("topologies", "mine.py:ring", tmp_path)
    assert found(3) == 6
    assert registry.find("topologies", "mine.py:ring", tmp_path) is found
    assert str(tmp_path) not in sys.path


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    import os

    file = tmp_path / "mine.py"
    file.write_text("VALUE = 1\n")
    assert registry.find("module", "mine.py:VALUE", tmp_path) == 1
    file.write_text("VALUE = 2\n")
    os.utime(file, ns=(1, 1))
    assert registry.find("module", "mine.py:VALUE", tmp_path) == 2


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        (
            "topologies",
            "rign",
            "no topology named 'rign'; did you mean 'ring'? `simnet list topologies` shows them all",
        ),
        ("mixings", "metroplis", "did you mean 'metropolis'?"),
        ("problems", "zzz", "no problem named 'zzz'; yours is 'module:Name', or 'file.py:Name' beside the scenario."),
        ("topologies", "mine.py", "write 'mine.py:Name'"),
        ("topologies", "absent.py:ring", "there is no file"),
        ("topologies", "no_such_module:ring", "no module 'no_such_module' to import"),
        ("topologies", "networkx:path_grph", "defines no 'path_grph'; did you mean 'path_graph'"),
        ("module", "plain", "write 'module:Name'"),
        ("topology", "ring", "did you mean 'topologies'?"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(kind: str, name: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownName) as error:
        registry.find(kind, name, tmp_path)
    assert says in str(error.value)


def test_a_file_that_is_no_python_says_where(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("x = 1\ndef ring(n:\n")
    with pytest.raises(ScenarioError, match=r"mine\.py:2:\d+ is no Python"):
        registry.find("topologies", "mine.py:ring", tmp_path)


def test_an_error_says_where_the_name_stood() -> None:
    with pytest.raises(UnknownName, match=r"^ring\.yaml:3:7 topology: there is no topology named 'rign'"):
        registry.find("topologies", "rign", field="topology", place=lambda field: "ring.yaml:3:7")


# ---- call ---------------------------------------------------------------------------------------------------------


def test_a_call_gets_what_it_asks_for_and_the_parameters() -> None:
    injected = {"n": 4, "seed": 7, "nodes": 4}
    assert registry.call(graph, injected, {"p": 0.1}, "topology") == (4, 7, 0.1)
    assert registry.call(Method, injected, {"eta": 1, "deadline_s": "20 ms"}, "algorithm") == Method(
        1.0, deadline_s=0.02
    )


def test_the_scenarios_parameter_counts_over_an_injected_one() -> None:
    made = registry.call(nx.grid_2d_graph, {"n": 16}, {"m": 2, "n": 3}, "network.graph")
    assert made.number_of_nodes() == 6


def test_a_networkx_generator_gets_node_count_and_seed() -> None:
    again = [registry.call(nx.watts_strogatz_graph, {"n": 12, "seed": 3}, {"k": 4, "p": 0.5}, "") for _ in "ab"]
    assert set(again[0].edges) == set(again[1].edges)
    with pytest.raises(UnknownName, match="watts_strogatz_graph has no parameter 'q'"):
        registry.call(nx.watts_strogatz_graph, {"n": 12}, {"k": 4, "q": 0.5}, "")


@pytest.mark.parametrize(
    ("params", "kind", "says"),
    [
        ({}, ScenarioError, "algorithm.eta: Method needs it (float) and has no default"),
        (
            {"eta": 0.1, "stepz": 3},
            UnknownName,
            "algorithm.stepz: Method has no parameter 'stepz'; did you mean 'steps'?",
        ),
        ({"eta": 0.1, "q": 3}, UnknownName, "it takes eta, steps, law, deadline_s."),
        ({"eta": 0.1, "nam": "X"}, UnknownName, "Method has no parameter 'nam'; did you mean 'name'?"),
        ({"eta": "big"}, ScenarioError, "algorithm.eta = 'big': must be a number"),
        ({"eta": True}, ScenarioError, "algorithm.eta = True: must be a number"),
        ({"eta": 0.1, "steps": 1.5}, ScenarioError, "algorithm.steps = 1.5: must be a whole number"),
        ({"eta": 0.1, "law": "cauchy"}, ScenarioError, "must be Literal['normal', 'sign']"),
        ({"eta": 0.1, "deadline_s": "5 MB"}, UnitError, "algorithm.deadline_s: '5 MB' is a size. Expected a duration"),
    ],
)
def test_a_wrong_parameter_is_named(params: dict[str, object], kind: type[ScenarioError], says: str) -> None:
    with pytest.raises(kind) as error:
        registry.call(Method, {"n": 4}, params, "algorithm")
    assert says in str(error.value)


# ---- describe -----------------------------------------------------------------------------------------------------


def test_describing_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom simnet import registry\nfrom simnet.describe import describe\n"
        "assert all(entry.summary for kind in registry.kinds() for entry in describe(kind))\n"
        "assert not {'torch', 'numba', 'numpy', 'matplotlib', 'pydantic', 'networkx'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_description_leaves_out_what_the_kernel_gives() -> None:
    entry = {entry.name: entry for entry in describe("topologies")}["erdos_renyi"]
    assert [field.name for field in entry.fields] == ["p"]
