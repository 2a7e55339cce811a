"""Every part that a scenario names, found and its parameters checked, but nothing made."""

from __future__ import annotations

from simnet import registry
from simnet.fields import Part
from simnet.scenario import Scenario


def named_parts(scenario: Scenario) -> dict[str, tuple[str, Part]]:
    """Dotted field -> (kind, part) for all that the scenario names."""
    problem = scenario.problem
    parts = {
        "network.graph": ("topologies", scenario.network.graph),
        "problem": ("problems", Part(problem.name, problem.params, problem.object)),
        "problem.data": ("datasets", problem.data),
        "problem.split": ("splits", problem.split),
        "algorithm": ("algorithms", scenario.algorithm),
        "topology": ("topologies", scenario.topology),
        "mixing": ("mixings", scenario.mixing),
    }
    return {field: (kind, part) for field, (kind, part) in parts.items() if part is not None}


def check_names(scenario: Scenario) -> None:
    """Raises UnknownName or ScenarioError for the first name or parameter that will not do."""
    for field, (kind, part) in named_parts(scenario).items():
        if part.object is None:
            target = registry.find(kind, part.name, scenario.base_dir, field=field, place=scenario.place)
            injected = dict.fromkeys(registry.INJECTED[kind]) | {"base_dir": scenario.base_dir}
            registry.bind(target, injected, part.params, field, scenario.place)
