"""Which way imports run between the rooms of the house, read from the source."""

from __future__ import annotations

import ast
import configparser
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from simnet import registry
from tests.shared import ROOT

ROOMS = {"simnet": "simnet", "models": "simnet.models", "scenarios": "simnet.scenarios", "analysis": "simnet.analysis"}
MOST_LINES = 400


class Import(NamedTuple):
    """One imported name: where from (absolute), at which line, and whether importing the module runs it."""

    target: str
    line: int
    at_load: bool
    for_types_only: bool


def module_name(path: Path) -> str:
    """`simnet.models.splits.shipped` for models/splits/shipped.py."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    parts[:1] = ROOMS[parts[0]].split(".")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def source_files() -> list[Path]:
    return [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]


MODULES = {module_name(path): path for path in source_files()}


@cache
def imports_of(module: str) -> tuple[Import, ...]:
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return tuple(_imports(tree.body, package, True, False))


def _imports(body: list[Any], package: str, at_load: bool, typing_only: bool) -> Iterator[Import]:
    for node in body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, at_load and not typing_only, typing_only)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(f"{origin}.{alias.name}", node.lineno, at_load and not typing_only, typing_only)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _imports(node.body, package, at_load, True)
            yield from _imports(node.orelse, package, at_load, typing_only)
        else:
            inner = at_load and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(list(ast.iter_child_nodes(node)), package, inner, typing_only)


def under(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def offences(modules: Iterator[str], *forbidden: str, at_load: bool = False, but: tuple[str, ...] = ()) -> list[str]:
    """Imports of `forbidden` packages that run, as `module:line imports target`."""
    return [
        f"{module}:{each.line} imports {each.target}"
        for module in modules
        for each in imports_of(module)
        if under(each.target, *forbidden)
        and not under(each.target, *but)
        and (each.at_load if at_load else not each.for_types_only)
    ]


def modules_under(*packages: str) -> Iterator[str]:
    return (module for module in MODULES if under(module, *packages))


def kernel() -> Iterator[str]:
    return (module for module in MODULES if not under(module, "simnet.models", "simnet.scenarios", "simnet.analysis"))


def test_the_time_plane_never_imports_torch() -> None:
    time_side = ("simnet.timeplane", "simnet.network")
    assert not offences(modules_under(*time_side), "torch", "simnet.lazy", "simnet.valueplane")


def test_the_value_plane_never_imports_simpy_or_the_time_plane() -> None:
    assert not offences(modules_under("simnet.valueplane"), "simpy", "simnet.timeplane")


def test_the_foundations_import_nothing_of_ours_but_errors() -> None:
    assert not offences(iter(["simnet.errors", "simnet.streams"]), "simnet")
    assert not offences(iter(["simnet.units", "simnet.graph"]), "simnet", but=("simnet.errors",))


def test_the_kernel_reaches_models_scenarios_and_analysis_through_the_registry_only() -> None:
    assert not offences(kernel(), "simnet.models", "simnet.scenarios", "simnet.analysis")


def test_the_kernel_imports_torch_at_load_in_the_value_plane_and_metrics_only() -> None:
    others = (m for m in kernel() if not under(m, "simnet.valueplane", "simnet.metrics"))
    assert not offences(others, "torch", at_load=True)


def test_models_import_torch_when_it_is_used() -> None:
    assert not offences(modules_under("simnet.models"), "torch", at_load=True)


def test_analysis_alone_imports_matplotlib() -> None:
    others = (module for module in MODULES if not under(module, "simnet.analysis"))
    assert not offences(others, "matplotlib")


def test_an_algorithm_imports_no_plane_and_no_other_algorithm() -> None:
    algorithms = [module for module in modules_under("simnet.models.algorithms") if module.count(".") == 3]
    planes = ("simnet.timeplane", "simnet.valueplane", "simnet.network", "simnet.graph", "simnet.session")
    assert not offences(iter(algorithms), *planes, "simnet.models.algorithms")


def test_our_own_names_begin_with_simnet() -> None:
    folders = ("models", "scenarios", "analysis", "tests")
    assert not offences(iter(MODULES), *folders)


# the tier that numba makes
_NUMBA = (
    "compiled", "compiled_cuts", "compiled_fates", "compiled_flows", "compiled_others", "compiled_parts",
    "compiled_room", "compiled_rows", "compiled_shared", "compiled_shifts", "compiled_turns", "events", "pairwise",
    "pairwise_loop", "state", "tables",
)  # fmt: skip
COMPILED = {f"simnet.timeplane.{name}" for name in _NUMBA}


def test_the_time_side_runs_where_torch_and_numba_are_absent() -> None:
    names = set(modules_under("simnet.timeplane", "simnet.network", "simnet.graph", "simnet.scenario")) - COMPILED
    program = "import sys, importlib\n"
    program += "for absent in ('torch', 'numba', 'matplotlib'): sys.modules[absent] = None\n"
    program += f"for name in {sorted(names)!r}: importlib.import_module(name)\n"
    program += (
        "import simnet\n"
        "run = {'network': {'nodes': 600}, 'nodes': {'step': '1 ms'}, 'problem': {'name': 'Quadratic'}, 'rounds': 300,"
        " 'algorithm': 'DPSGD', 'record': {'timeline': False}}\n"
        "assert simnet.estimate(run).summary['tier'] == 'arrays'\n"
        "slow = simnet.estimate(run, set={'network.receive_ports': 'serial', 'rounds': 3})\n"
        "assert slow.summary['tier'] == 'events'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_can_be_read_in_one_sitting(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= MOST_LINES


def test_setup_cfg_lists_every_package() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = config["options"]["packages"].split()
    assert sorted(listed) == sorted(m for m, path in MODULES.items() if path.name == "__init__.py")


# ---- the catalogue ------------------------------------------------------------------------------------------------


def _targets() -> list[tuple[str, str, str]]:
    return [(kind, name, target) for kind in registry.kinds() for name, target in registry.shipped(kind).items()]


@pytest.mark.parametrize(("kind", "name", "target"), _targets(), ids=lambda text: text.rpartition(":")[2])
def test_every_name_in_the_catalogue_can_be_imported(kind: str, name: str, target: str) -> None:
    made = registry.find(kind, name)
    assert made.__qualname__ == target.rpartition(":")[2]
    assert inspect.getdoc(made), f"{target} needs a docstring: its first line is what `simnet list` shows"


def _is_a_part(kind: str, value: Any) -> bool:
    """Whether what a module of `models` defines is something that a scenario could name."""
    if inspect.isclass(value):
        from simnet.algorithm import Algorithm
        from simnet.problem import Problem
        from simnet.topology import Topology

        base = {"algorithms": Algorithm, "problems": Problem, "topologies": Topology}.get(kind)
        return base is not None and issubclass(value, base) and not inspect.isabstract(value)
    if not inspect.isfunction(value):
        return False
    signature = inspect.signature(value)
    first = list(signature.parameters)[:3]
    if kind == "topologies":
        return first[:1] == ["n"]
    if kind == "splits":
        return first == ["labels", "nodes", "seed"]
    return kind == "datasets" and str(signature.return_annotation).endswith("Dataset")


@pytest.mark.parametrize("kind", ["algorithms", "problems", "topologies", "splits", "datasets"])
def test_every_public_part_of_models_is_in_the_catalogue(kind: str) -> None:
    named = set(registry.shipped(kind).values())
    missing = []
    for module_name_ in modules_under(f"simnet.models.{kind}"):
        module = importlib.import_module(module_name_)
        for name, value in vars(module).items():
            own = getattr(value, "__module__", None) == module_name_ and not name.startswith("_")
            if own and _is_a_part(kind, value) and f"{module_name_}:{name}" not in named:
                missing.append(f"{module_name_}:{name}")
    assert not missing
