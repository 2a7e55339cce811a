"""What a scenario says of hosts that are away or slow: `nodes.absence` and `nodes.slow`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from simnet.fields import Host, Moment, PositiveSeconds, Seconds, Section, refuse


def _hosts(value: Any) -> Any:
    if value == "all" or isinstance(value, list | tuple):
        return value
    raise refuse("must be `all`, or a list of hosts such as [0, 3]")


Hosts = Annotated[
    list[Host] | Literal["all"],
    BeforeValidator(_hosts),
    WithJsonSchema({"anyOf": [{"type": "array", "items": {"type": ["integer", "string"]}}, {"const": "all"}]}),
]


def _check_intervals(intervals: list[tuple[float, float]], at: str) -> None:
    """Refuse an interval that ends before it starts, or begins before the one before it is over."""
    last = 0.0
    for i, (start, end) in enumerate(intervals):
        if not start < end:
            raise refuse(f"is from {start:g} s to {end:g} s: give an end after the start, or `never`", at=f"{at}.{i}")
        if start < last:
            raise refuse(
                f"begins at {start:g} s, before the one before it ends at {last:g} s: put intervals in order, none "
                "over another",
                at=f"{at}.{i}",
            )
        last = end


class Absence(Section):
    """Some hosts are away for a while: in given intervals, or by a law drawn from the seed before the run."""

    nodes: Hosts
    """Which hosts: a list, or `all`."""
    away: list[tuple[Seconds, Moment]] | None = None
    """Intervals [start, end], such as [[30 s, 90 s], [200 s, never]]; at `end` the host is back."""
    law: Literal["poisson"] | None = None
    """`poisson`: exponential times there and away."""
    every: PositiveSeconds | None = None
    """The mean time from a return to the next departure."""
    for_: Annotated[PositiveSeconds | None, Field(alias="for")] = None
    """The mean length of an absence."""
    until: PositiveSeconds | None = None
    """Nobody departs after this moment; by default there is none."""

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        drawn = {"every": self.every, "for": self.for_}
        if (self.away is None) == (self.law is None):
            raise refuse("needs either `away: [[start, end], ...]` or `law: poisson` with `every` and `for`")
        if self.law is not None:
            for name, value in drawn.items():
                if value is None or value == float("inf"):
                    raise refuse(f"a law needs `{name}` and it must be finite, such as '{name}: 60 s'", at=name)
        else:
            for name, value in (drawn | {"until": self.until}).items():
                if value is not None:
                    raise refuse("belongs to a law; leave it out beside `away`, or write `law: poisson`", at=name)
            _check_intervals(self.away or [], "away")
        return self


class Slow(Section):
    """Some hosts compute more slowly for a while."""

    nodes: Hosts
    """Which hosts: a list, or `all`."""
    periods: list[tuple[Seconds, Moment]]
    """Intervals [start, end], such as [[30 s, 90 s]]; the end may be `never`."""
    factor: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    """How many times as long work done meanwhile takes."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        _check_intervals(self.periods, "periods")
        return self


def listed(value: Any) -> Any:
    """One entry may stand without its list."""
    return [value] if isinstance(value, Mapping) else value
