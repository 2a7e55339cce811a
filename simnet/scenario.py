"""A scenario: a network, a problem and an algorithm, and how to run them.

    Scenario.read("ring.yaml")                       YAML 1.2; errors know line and column
    Scenario(network={"nodes": 4, "graph": "ring"}, problem="Quadratic", algorithm={"name": "DPSGD", "eta": 0.1})
    scenario.with_values({"network.link.loss": 0.1, "nodes.groups.0.oracle": "zo"})

Text with units (`10 Mbit/s`, `20 ms`) becomes SI numbers here; a name becomes an object in `simnet.registry`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import PrivateAttr, ValidationError

from simnet import registry, sources
from simnet.errors import InputError, ScenarioError, nearest
from simnet.explain import explain
from simnet.fields import Count, Host, Part, PositiveSeconds, Section, Whole
from simnet.node_sections import Nodes
from simnet.sections import Collective, Execution, Network, Problem, Recording, Stop


class Scenario(Section):
    """What to simulate."""

    name: str = ""
    """A title; by default the file's name."""
    seed: Whole = 0
    """Every random draw of the run follows from it."""
    network: Network
    nodes: Nodes = Nodes()
    problem: Problem
    algorithm: Part
    """The algorithm and its parameters."""
    topology: Part | None = None
    """The graph over which the algorithm gossips; by default the network's."""
    mixing: Part = Part("metropolis")
    """The weights of the gossip."""
    collective: Collective = Collective()
    roles: dict[str, list[Host]] = {}
    """Which hosts play which role of the algorithm."""
    rounds: Count = 100
    stop: Stop = Stop()
    evaluate_every: Count | None = None
    """Rounds between two evaluations; by default 50 rows a run."""
    evaluate_period: PositiveSeconds | None = None
    """Simulated time between two rows where partners are set by time (AD-PSGD and its like); by default about 50 rows a
    run."""
    target: dict[str, float] = {}
    """Metric and value whose first reaching is reported, such as {accuracy: 0.9}."""
    execution: Execution = Execution()
    record: Recording = Recording()

    _raw: dict[str, Any] = PrivateAttr(default_factory=dict)
    _places: sources.Places = PrivateAttr(default_factory=sources.Places)

    def __init__(self, **data: Any) -> None:
        """A scenario from Python; sections may be plain dicts. Raises ScenarioError with the field's name."""
        self._fill(data, sources.Places())

    def _fill(self, raw: dict[str, Any], places: sources.Places) -> None:
        try:
            super().__init__(**raw)
        except ValidationError as error:
            raise explain(error, Scenario, raw, places) from None
        self._raw, self._places = raw, places

    @classmethod
    def read(cls, path: str | Path) -> Scenario:
        """A scenario from a YAML file, or a shipped one by its name.

        Raises ScenarioError with line and column for what the file has wrong, InputError when there is none.
        """
        file = _locate(path)
        raw, places = sources.load(file)
        return cls._made({"name": file.stem, **raw}, places)

    @classmethod
    def of(cls, source: str | Path | Mapping[str, Any] | Scenario) -> Scenario:
        """A scenario from a path, a shipped name, a dict, or itself."""
        if isinstance(source, Scenario):
            return source
        if isinstance(source, Mapping):
            return cls(**{str(key): value for key, value in source.items()})
        return cls.read(source)

    @classmethod
    def _made(cls, raw: dict[str, Any], places: sources.Places) -> Scenario:
        scenario = cls.__new__(cls)
        scenario._fill(raw, places)
        return scenario

    def with_values(self, values: Mapping[str, Any]) -> Scenario:
        """This scenario with other values at dotted fields; text is read as YAML, a number is a list's index.

        >>> scenario.with_values({"network.link.loss": "5 %", "algorithm.eta": 0.2})  # doctest: +SKIP
        """
        raw = {key: getattr(self, key) for key in type(self).model_fields} if not self._raw else self._raw
        places = self._places
        for dotted, value in values.items():
            value = sources.parse(value, dotted) if isinstance(value, str) else value
            raw, places = sources.replaced(raw, dotted, value), places.overridden(dotted)
        return self._made(raw, places)

    def __eq__(self, other: object) -> bool:
        """Equal in every field; where they were read from does not matter."""
        return isinstance(other, Scenario) and self.__dict__ == other.__dict__

    @property
    def source(self) -> Path | None:
        """The file that this scenario was read from."""
        return self._places.file

    @property
    def base_dir(self) -> Path:
        """The folder that file names in the scenario count from."""
        return self.source.parent if self.source else Path.cwd()

    def place(self, dotted: str) -> str:
        """Where a field stands (`ring.yaml:14:11`), or "" when it was not read from a file."""
        return self._places.of(dotted)

    def written(self, dotted: str) -> str:
        """A field's name as the scenario has it: an entry that stands without its list has no number."""
        at: Any = self._raw
        steps: list[str] = []
        for step in dotted.split("."):
            if isinstance(at, Mapping) and step.isdecimal():
                continue
            steps.append(step)
            if isinstance(at, list | tuple):
                at = at[int(step)]
            else:
                at = at.get(step) if isinstance(at, Mapping) else getattr(at, step, None)
        return ".".join(steps)

    @contextmanager
    def placing(self) -> Iterator[None]:
        """Adds the place in this file to a ScenarioError that knows its field alone."""
        try:
            yield
        except ScenarioError as error:
            if not error.place and error.field and (place := self.place(error.field)):
                error.place, error.args = place, (f"{place} {error}",)
            raise

    def plain(self) -> dict[str, Any]:
        """The resolved scenario as plain dicts, lists and SI numbers."""
        tree = self.model_dump(by_alias=True, exclude_none=True)
        tree["problem"] = self.problem.plain()
        return tree

    def dump(self) -> str:
        """The resolved scenario as YAML, every default written out; `read` gives an equal scenario."""
        return sources.dump(self.plain())


def _locate(path: str | Path) -> Path:
    file = Path(path).expanduser()
    if file.is_file():
        return file
    ours = registry.shipped_scenarios()
    if str(path) in ours:
        return ours[str(path)]
    if file.is_dir():
        raise InputError(f"{file} is a folder; name a scenario file in it, such as {file / 'scenario.yaml'}")
    beside = [p.name for p in file.parent.glob("*.y*ml")] if file.parent.is_dir() else []
    cure = nearest(file.name, [*beside, *ours]) or "; `simnet list scenarios` shows the shipped ones"
    raise InputError(f"there is no scenario {str(path)!r}: neither a file nor a shipped name{cure}")


def schema() -> dict[str, Any]:
    """The JSON Schema of a scenario file, for editors and other programs."""
    made = Scenario.model_json_schema(by_alias=True)
    problem = made["$defs"]["Problem"]
    del problem["properties"]["params"], problem["properties"]["object"]
    problem["additionalProperties"] = True
    made["properties"]["problem"] = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Problem"}]}
    number = {"type": "number", "description": "The half-width of a uniform factor."}
    jitter = {"anyOf": [number, {"$ref": "#/$defs/Jitter"}]}
    for owner in ("Nodes", "NodeGroup"):
        made["$defs"][owner]["properties"]["jitter"] = jitter
    for name, entry in (("absence", "Absence"), ("slow", "Slow")):  # one entry may stand without its list
        listed = made["$defs"]["Nodes"]["properties"][name]
        one = {"$ref": f"#/$defs/{entry}"}
        kept = {key: listed.pop(key) for key in ("type", "items")}
        made["$defs"]["Nodes"]["properties"][name] = {"anyOf": [one, kept], **listed}
    return made | {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "simnet scenario"}
