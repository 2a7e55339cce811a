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


Shape = Annotated[float, Field(ge=0.1, le=20)]


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


DAY_S = 86400.0

# field -> what it belongs to
_HOME = {
    "every": ("poisson", "weibull"), "for": ("poisson", "weibull"), "shape": ("weibull",), "shape_away": ("weibull",),
    "period": ("diurnal",), "share": ("diurnal",), "phase": ("diurnal",), "until": ("poisson", "weibull", "diurnal"),
    "wrap": ("file",),
}  # fmt: skip
_NEEDS = {
    "poisson": (_renewal := {"every": "every: 60 s", "for": "for: 5 s"}),
    "weibull": _renewal | {"shape": "shape: 0.6"},
    "diurnal": {"share": "share: 0.3"},
}


def _said(kind: str) -> str:
    return f"`{kind}`" if kind in ("away", "file") else f"`law: {kind}`"


def _either(home: tuple[str, ...]) -> str:
    said = [_said(kind) for kind in home]
    return said[0] if len(said) == 1 else f"{', '.join(said[:-1])} or {said[-1]}"


class Absence(Section):
    """Some hosts are away for a while: in given intervals, by a law drawn from the seed, or as a file says."""

    nodes: Hosts | None = None
    """Which hosts: a list, or `all`; a file names them itself."""
    away: list[tuple[Seconds, Moment]] | None = None
    """Intervals [start, end], such as [[30 s, 90 s], [200 s, never]]; at `end` the host is back."""
    law: Literal["poisson", "weibull", "diurnal"] | None = None
    """`poisson`: exponential times there and away; `weibull`: with a shape; `diurnal`: away a share of each day."""
    every: PositiveSeconds | None = None
    """The mean time from a return to the next departure."""
    for_: Annotated[PositiveSeconds | None, Field(alias="for")] = None
    """The mean length of an absence."""
    shape: Shape | None = None
    """Weibull's shape: 1 is exponential, below 1 gives many short times and a few long ones."""
    shape_away: Shape | None = None
    """The shape of the times away; by default that of the times there."""
    period: PositiveSeconds | None = None
    """A day's length; by default 24 h."""
    share: Annotated[float | None, Field(gt=0, lt=1)] = None
    """The share of each day that a host is away."""
    phase: Seconds | None = None
    """When hosts leave first, within the first day; by default each host's own, drawn uniformly over the day."""
    file: str | None = None
    """A csv file of intervals: `host,from_s,to_s` in each line, `never` for no end."""
    wrap: PositiveSeconds | None = None
    """After so long the file begins again; by default it does not."""
    until: PositiveSeconds | None = None
    """Nobody departs after this moment; by default there is none."""

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        kinds = [kind for kind in ("away", "law", "file") if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise refuse(
                "needs either `away: [[start, end], ...]`, or a `law` such as `poisson` with `every` and `for`, or a "
                "`file` of intervals"
            )
        kind = self.law or kinds[0]
        for name, home in _HOME.items():
            value = getattr(self, "for_" if name == "for" else name)
            if value is not None and kind not in home:
                raise refuse(f"belongs to {_either(home)}, and not to {_said(kind)}: leave it out", at=name)
            if name in _NEEDS.get(kind, {}) and (value is None or value == float("inf")):
                raise refuse(f"a law needs `{name}` and it must be finite, such as '{_NEEDS[kind][name]}'", at=name)
            if value == float("inf") and name != "until":
                raise refuse("must be finite, such as '24 h'", at=name)
        if self.nodes is None and kind != "file":
            raise refuse("needs `nodes`: the hosts that are away, such as [0, 3], or `all`", at="nodes")
        if self.nodes is not None and kind == "file":
            raise refuse("a file names its hosts itself: leave `nodes` out", at="nodes")
        if self.phase is not None and self.phase >= (self.period or DAY_S):
            raise refuse("needs to lie within the first day", at="phase")
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
