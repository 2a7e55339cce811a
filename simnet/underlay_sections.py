"""What a scenario says of the underlay beside its links: ports of hosts, given routes, and who sits where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, WithJsonSchema, model_serializer, model_validator

from simnet.fields import Bandwidth, Bytes, Host, PositiveSeconds, Seconds, Section, refuse


class Ends(Section):
    """Two ends: `between: [a, b]` for both directions, `from` and `to` for one."""

    between: tuple[Host, Host] | None = None
    from_: Annotated[Host | None, Field(alias="from")] = None
    to: Host | None = None

    @model_validator(mode="after")
    def _names_two_ends(self) -> Self:
        one_way = self.from_ is not None and self.to is not None
        half = (self.from_ is None) != (self.to is None)
        if half or one_way == (self.between is not None):
            raise refuse("needs either `between: [a, b]` (both directions) or `from: a` with `to: b` (one)")
        return self

    @property
    def directions(self) -> list[tuple[Host, Host]]:
        """(from, to) of each direction that is meant."""
        if self.between is not None:
            return [self.between, (self.between[1], self.between[0])]
        assert self.from_ is not None and self.to is not None
        return [(self.from_, self.to)]


class Route(Ends):
    """The way from one host to another, in the place of the shortest path."""

    via: list[Host]
    """The hosts or routers between the two, in order; none means the direct link."""


class Ports(Section):
    """What a host's own port passes, shared by all its messages: a private link up, and one down."""

    up: Bandwidth | None = None
    """Bytes/s that a host can send in all."""
    down: Bandwidth | None = None
    """Bytes/s that a host can take in, in all."""


class PortOverride(Ports):
    """Other ports for some hosts."""

    nodes: list[Host]
    """Which hosts."""


class Placed(Section):
    """Which host each node sits on: `random`, `nearest`, or by name, `{given: [a, b, c]}`."""

    rule: Literal["given", "random", "nearest"] = "given"
    given: list[Host] = []
    """The host of each node in turn."""

    @model_validator(mode="before")
    @classmethod
    def _from_word(cls, value: Any) -> Any:
        if isinstance(value, str) and value in ("random", "nearest"):
            return {"rule": value}
        if isinstance(value, Mapping | Placed):
            return value
        raise refuse("must be `random`, `nearest`, or the host of each node, such as {given: [a, b, c]}")

    @model_validator(mode="after")
    def _names_hosts(self) -> Self:
        if (self.rule == "given") != bool(self.given):
            raise refuse("needs the host of each node, such as {given: [a, b, c]}; or write `random` or `nearest`")
        return self

    @model_serializer
    def plain(self) -> Any:
        """The section as YAML would have it."""
        return {"given": self.given} if self.rule == "given" else self.rule


Placement = Annotated[
    Placed,
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["random", "nearest"]},
                {
                    "type": "object",
                    "properties": {"given": {"type": "array", "items": {"type": ["integer", "string"]}}},
                    "required": ["given"],
                    "additionalProperties": False,
                },
            ]
        }
    ),
]


class Background(Section):
    """Flows that are no part of the training and share its links, at given moments or drawn from the seed."""

    from_: Annotated[Host | None, Field(alias="from")] = None
    to: Host | None = None
    pairs: Literal["random"] | None = None
    """`random`: each flow draws its two hosts, in the place of `from` and `to`."""
    size: Bytes
    """Bytes of each flow."""
    at: list[Seconds] | None = None
    """The moments at which flows begin, in order."""
    every: PositiveSeconds | None = None
    """The mean time from one flow to the next."""
    load: Bandwidth | None = None
    """In the place of `every`: the bytes/s that all flows together offer on the mean."""
    law: Literal["poisson", "regular"] | None = None
    """Whether times between flows are exponential (the default) or all the same."""
    start: Seconds | None = None
    """The moment from which on flows begin."""
    until: PositiveSeconds | None = None
    """No flow begins later."""

    @model_validator(mode="after")
    def _says_who_and_when(self) -> Self:
        one_way = self.from_ is not None and self.to is not None
        half = (self.from_ is None) != (self.to is None)
        if half or one_way == (self.pairs is not None):
            raise refuse("needs either `from: a` with `to: b`, or `pairs: random`")
        if sum(given is not None for given in (self.at, self.every, self.load)) != 1:
            raise refuse("needs exactly one of `at: [10 s, 20 s]`, `every: 5 s` and `load: 10 Mbit/s`")
        if self.at is not None:
            for name in ("law", "start", "until"):
                if getattr(self, name) is not None:
                    raise refuse("belongs to `every` or `load`, not to moments that are given", at=name)
            if not self.at:
                raise refuse("needs a moment, such as [10 s]; or leave the entry out", at="at")
            for k, (before, moment) in enumerate(zip(self.at, self.at[1:], strict=False), 1):
                if moment < before:
                    raise refuse(
                        f"is {moment:g} s, and the one before it {before:g} s: put them in order", at=f"at.{k}"
                    )
        for name in ("size", "every", "load"):
            if getattr(self, name) == float("inf"):
                raise refuse("must be finite", at=name)
        return self
