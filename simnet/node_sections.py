"""The section `nodes` of a scenario: how fast hosts compute, what they can compute, and where durations come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from simnet.accelerators import Accelerated
from simnet.away import Absence, Slow, listed
from simnet.errors import nearest
from simnet.fields import (
    Count,
    Factor,
    Host,
    Part,
    Probability,
    Seconds,
    Section,
    Share,
    Speed,
    refuse,
)

Oracle = Literal["fo", "zo"]


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


def _estimator(value: Any) -> Any:
    if isinstance(value, Mapping) and "name" not in value:
        return Part("", {str(key): item for key, item in value.items()})
    return value


Estimator = Annotated[
    Part,
    BeforeValidator(_estimator),
    PlainSerializer(lambda part: part.plain() if part.name else dict(part.params)),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object"}], "examples": ["fwd_grad", {"rv": 64}]}),
]


def _step(value: Any) -> Any:
    return {"*": value} if isinstance(value, str | int | float) and not isinstance(value, bool) else value


class Replay(Section):
    """The durations of another run, call by call."""

    replay: str
    """The record's folder, absolute or relative to the scenario."""


_SOURCES = ("flops", "calibrated", "measured")


def _durations(value: Any) -> Any:
    if isinstance(value, Replay) or (isinstance(value, str) and value in _SOURCES):
        return value
    if isinstance(value, Mapping) and set(value) == {"replay"} and isinstance(value["replay"], str):
        return Replay(replay=value["replay"])
    hint = nearest(value, _SOURCES) if isinstance(value, str) else ""
    raise refuse(f"must be {', '.join(_SOURCES)} or {{replay: RECORD}}{hint}")


Durations = Annotated[
    Literal["flops", "calibrated", "measured"] | Replay,
    BeforeValidator(_durations),
    WithJsonSchema({"anyOf": [{"enum": list(_SOURCES)}, Replay.model_json_schema()]}),
]
Step = Annotated[
    dict[str, Seconds],
    BeforeValidator(_step),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}, {"type": "object"}], "examples": ["10 ms"]}),
]


class NodeGroup(Accelerated):
    """Other values for some hosts: `nodes: [...]`, or `count`, or `fraction` (the last hosts not yet in a group)."""

    nodes: list[Host] | None = None
    count: Count | None = None
    fraction: Share | None = None
    compute: Speed | None = None
    device: str | None = None
    speed: Factor | None = None
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


class Nodes(Accelerated):
    """How fast the hosts compute and what they can compute."""

    durations: Durations = "flops"
    """Where the durations of oracle calls come from: counted `flops`, medians `calibrated` on this device, each call
    `measured` as it happens, or {replay: RECORD} of a measured run."""
    compute: Speed = 1e10
    """FLOP/s; with an oracle's FLOP it gives the duration of a call."""
    device: str | None = None
    """A device profile in the place of `compute`: a file that `simnet calibrate` wrote, or a shipped one's name."""
    speed: Factor = 1.0
    """How many times as fast as the device that is measured, or that has the profile."""
    step: Step | None = None
    """The duration of an oracle call itself, such as 10 ms or {gradient: 10 ms, loss: 3 ms}."""
    jitter: Jitter = Jitter()
    """A random factor on durations; a number is the half-width of a uniform one."""
    straggler: Straggler | None = None
    """Now and then a call takes longer."""
    oracle: Oracle = "fo"
    """`fo` gives gradients, `zo` values only."""
    estimator: Estimator = Part("two_point_central")
    """How ZO hosts estimate gradients: `{name: fwd_grad, rv: 64}`; without a name, parameters of the default, and in a
    group of the estimator above it."""
    groups: list[NodeGroup] = []
    """Other values for some hosts; later groups override earlier ones."""
    absence: Annotated[list[Absence], BeforeValidator(listed)] = []
    """Who is away when: meanwhile a host computes nothing, begins nothing and takes nothing in."""
    slow: Annotated[list[Slow], BeforeValidator(listed)] = []
    """Who computes more slowly when."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        fields = type(self).model_fields
        given = {name for name in ("compute", "device", "speed") if getattr(self, name) != fields[name].default}
        if "compute" in given and self.device is not None:
            raise refuse("both a `device` and `compute` say how fast the hosts are: leave one out", at="compute")
        if self.durations != "flops":
            for name in {"compute", "device"} & given:
                raise refuse(
                    f"durations are {self.durations if isinstance(self.durations, str) else 'replayed'}: say `speed`, "
                    "relative to the device that is measured, or put this into a group of hosts that are unlike it",
                    at=name,
                )
        elif self.device is None and "speed" in given:
            raise refuse("is relative to a measured device or a profile; with FLOP counts say `compute`", at="speed")
        return self
