"""A scenario: a network, a problem and an algorithm, and how to run them.

    Scenario.read("ring.yaml")                       YAML 1.2; errors know line and column
    Scenario(network={"nodes": 4, "graph": "ring"}, problem="Quadratic", algorithm={"name": "DPSGD", "eta": 0.1})
    scenario.with_values({"network.link.loss": 0.1, "nodes.groups.0.oracle": "zo"})

Text with units (`10 Mbit/s`, `20 ms`) becomes SI numbers here; a name becomes an object in `simnet.registry`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError, WithJsonSchema, model_validator

from simnet import registry, sources
from simnet.errors import InputError, nearest
from simnet.explain import explain
from simnet.fields import (
    Bandwidth,
    Bytes,
    Count,
    Host,
    Loss,
    Part,
    PositiveSeconds,
    Probability,
    Seconds,
    Section,
    Share,
    Speed,
    Whole,
    refuse,
)

Oracle = Literal["fo", "zo"]


# ---- network ------------------------------------------------------------------------------------------------------


class Link(Section):
    """What a link does when nothing more is said of it."""

    bandwidth: Bandwidth = 1.25e7
    """Bytes/s that pass, such as 100 Mbit/s."""
    latency: Seconds = 1e-3
    """Seconds from the last bit sent to the last bit arrived."""
    loss: Loss = 0.0
    """The probability that one packet (or message, see `loss_unit`) is lost."""


class LinkOverride(Section):
    """Other values for some links: `between: [a, b]` for both directions, `from` and `to` for one."""

    between: tuple[Host, Host] | None = None
    from_: Annotated[Host | None, Field(alias="from")] = None
    to: Host | None = None
    bandwidth: Bandwidth | None = None
    latency: Seconds | None = None
    loss: Loss | None = None

    @model_validator(mode="after")
    def _names_one_link(self) -> Self:
        one_way = self.from_ is not None and self.to is not None
        half = (self.from_ is None) != (self.to is None)
        if half or one_way == (self.between is not None):
            raise refuse("needs either `between: [a, b]` (both directions) or `from: a` with `to: b` (one)")
        return self


class Network(Section):
    """Hosts, the links between them, and what becomes of messages."""

    nodes: Count | None = None
    """How many hosts; may be left out where the graph fixes it."""
    graph: Part = Part("ring")
    """The underlay: which hosts (and routers) have links."""
    link: Link = Link()
    """The default for every link; attributes on the graph's edges override it."""
    links: list[LinkOverride] = []
    """Overrides for single links."""
    model: Literal["independent"] = "independent"
    """How transfers share links: `independent` means not at all, beyond the ports."""
    ports: Literal["serial", "parallel"] = "serial"
    """Whether a host sends to its neighbours one after another or to all at once."""
    receive_ports: Literal["serial", "parallel"] = "parallel"
    """Whether a host receives one message at a time or all at once."""
    policy: Literal["retry", "drop", "symmetric"] = "retry"
    """What follows a loss: send again, give up, or give up both directions together."""
    loss_unit: Literal["packet", "message"] = "packet"
    """What is lost: packets of 1500 bytes (a message is lost if one is), or whole messages."""
    wire_dtype: Literal["float16", "bfloat16", "float32", "float64"] = "float32"
    """The format of numbers on the wire, whatever they are computed in."""
    header_bytes: Annotated[Whole, Field(ge=0)] = 0
    """Bytes added to each message."""

    @model_validator(mode="after")
    def _retry_can_succeed(self) -> Self:
        losses = {"link.loss": self.link.loss} | {f"links.{i}.loss": link.loss for i, link in enumerate(self.links)}
        for at, loss in losses.items():
            if loss == 1.0 and self.policy == "retry":
                raise refuse(
                    "a loss of 1 under `policy: retry` would send for ever; take less, or `policy: drop`", at=at
                )
        return self


# ---- nodes --------------------------------------------------------------------------------------------------------


class Jitter(Section):
    """A random factor of mean one on each duration."""

    law: Literal["uniform", "exponential", "lognormal", "pareto"] = "uniform"
    """The factor's distribution."""
    spread: Annotated[float, Field(ge=0)] = 0.0
    """Half-width of the uniform factor, else its relative spread."""

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {"law": "uniform", "spread": value}
        return value

    @model_validator(mode="after")
    def _stays_positive(self) -> Self:
        if self.law == "uniform" and self.spread >= 1:
            raise refuse("a uniform factor 1 ± spread needs a spread below 1, or durations could be negative")
        return self


class Straggler(Section):
    """Now and then a call of an oracle takes longer."""

    probability: Probability
    """How often."""
    slowdown: Annotated[float, Field(ge=1)]
    """How many times longer."""


class Estimator(Section):
    """How a ZO node estimates a gradient: central two-point differences along random directions."""

    directions: Count = 10
    """How many directions; two values each."""
    smoothing: Annotated[float, Field(gt=0)] = 1e-3
    """The distance of the two points from the middle."""


def _step(value: Any) -> Any:
    return {"*": value} if isinstance(value, str | int | float) and not isinstance(value, bool) else value


Step = Annotated[
    dict[str, Seconds],
    BeforeValidator(_step),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}, {"type": "object"}], "examples": ["10 ms"]}),
]


class NodeGroup(Section):
    """Other values for some hosts: `nodes: [...]`, or `count`, or `fraction` (the last hosts not yet in a group)."""

    nodes: list[Host] | None = None
    count: Count | None = None
    fraction: Share | None = None
    compute: Speed | None = None
    step: Step | None = None
    jitter: Jitter | None = None
    straggler: Straggler | None = None
    oracle: Oracle | None = None
    estimator: Estimator | None = None

    @model_validator(mode="after")
    def _is_chosen_once(self) -> Self:
        if sum(choice is not None for choice in (self.nodes, self.count, self.fraction)) != 1:
            raise refuse("needs exactly one of `nodes: [0, 3]`, `count: 4` and `fraction: 0.25` to say which hosts")
        return self


class Nodes(Section):
    """How fast the hosts compute and what they can compute."""

    compute: Speed = 1e10
    """FLOP/s; with an oracle's FLOP it gives the duration of a call."""
    step: Step | None = None
    """The duration of an oracle call itself, such as 10 ms or {gradient: 10 ms, loss: 3 ms}."""
    jitter: Jitter = Jitter()
    """A random factor on durations; a number is the half-width of a uniform one."""
    straggler: Straggler | None = None
    """Now and then a call takes longer."""
    oracle: Oracle = "fo"
    """`fo` gives gradients, `zo` values only."""
    estimator: Estimator = Estimator()
    """How ZO hosts estimate gradients."""
    groups: list[NodeGroup] = []
    """Other values for some hosts; later groups override earlier ones."""


# ---- work ---------------------------------------------------------------------------------------------------------


def _batch(value: Any) -> Any:
    if value == "full" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise refuse("must be the number of rows in a minibatch, at least 1, or `full`")


Batch = Annotated[
    int | Literal["full"],
    BeforeValidator(_batch),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "full"}]}),
]


class Problem(Section):
    """What is minimised: a class, its parameters, and the data it is given."""

    name: str
    """A shipped name, `module:Name` or `file.py:Name`."""
    params: dict[str, Any] = {}
    """Every key that is not declared here goes to the problem's class."""
    object: Any = Field(default=None, exclude=True, json_schema_extra={"description": "A problem given in Python."})
    data: Part | None = None
    """The dataset."""
    split: Part | None = None
    """How the rows are dealt to the nodes; by default iid where there are data."""
    copies: Literal["one", "per_oracle"] = "one"
    """`per_oracle` deals a full copy of the data to the FO nodes and one to the ZO nodes."""
    batch: Batch = "full"
    """Rows in a minibatch, or `full`."""
    replace: bool = True
    """Whether minibatches are drawn with replacement."""

    @model_validator(mode="before")
    @classmethod
    def _sort_keys(cls, value: Any) -> Any:
        if isinstance(value, Problem):
            return value
        part = Part.of(value)
        own = {"data", "split", "copies", "batch", "replace"}
        kernel = {key: item for key, item in part.params.items() if key in own}
        rest = {key: item for key, item in part.params.items() if key not in own}
        return {"name": part.name, "object": part.object, "params": rest, **kernel}

    @model_validator(mode="after")
    def _split_needs_data(self) -> Self:
        if self.split is not None and self.data is None:
            raise refuse("has a `split` but no `data` to split; name a dataset, as in `data: digits`")
        return self

    def plain(self) -> Any:
        """The section as YAML would have it."""
        kernel = self.model_dump(exclude={"name", "params", "object"}, exclude_none=True)
        return {"name": f"<{self.object}>" if self.object is not None else self.name, **self.params, **kernel}


class Collective(Section):
    """How averages over many nodes travel."""

    pattern: Literal["server"] = "server"
    """Through one host."""
    server: Host | None = None
    """Which host; by default the graph's centre."""


class Stop(Section):
    """What may end a run before its last round."""

    sim_time: PositiveSeconds | None = None
    """Simulated seconds."""
    bytes: Bytes | None = None
    """Bytes on the wire."""
    at_target: bool = False
    """Stop when every target is met."""


# ---- how to run ---------------------------------------------------------------------------------------------------


def _underscored(value: Any) -> Any:
    return value.replace("-", "_").replace(" ", "_") if isinstance(value, str) else value


class Execution(Section):
    """How the run is carried out; nothing here changes what is simulated, but for the rounding of `dtype`."""

    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; `auto` takes what is there."""
    dtype: Literal["float32", "float64"] = "float32"
    """The format in which values are computed."""
    threads: Count = 1
    """CPU threads of the value plane."""
    executor: Annotated[Literal["batched", "one_by_one"], BeforeValidator(_underscored)] = "batched"
    """All nodes at once, or one task at a time (the reference)."""
    tier: Literal["auto", "arrays", "events", "processes"] = "auto"
    """The time plane's engine; `auto` takes the fastest that is exact."""
    node_run: bool = False
    """One generator per node in place of one per role (the reference; slow)."""
    kernels: Literal["closed", "vmap"] = "closed"
    """Closed-form gradients where a problem has them, or automatic ones."""
    chunk_rows: Count | None = None
    """Rows of the state computed at a time; by default as the cache likes it."""


class Recording(Section):
    """What is kept besides rounds, nodes and links."""

    messages: bool = False
    """One row for each message."""
    timeline: bool = True
    """Who computed, sent and waited when."""


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
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "simnet scenario"} | made
