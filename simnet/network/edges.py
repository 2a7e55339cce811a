"""What the attributes of a graph's edge say of its links."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping
from numbers import Real
from typing import Any

from pydantic import ValidationError

from simnet.errors import DataError, ScenarioError
from simnet.explain import explain
from simnet.links import LinkOverride, LinkTrace
from simnet.network.flows.traces import Changes
from simnet.sources import Places

# plain numbers that need no second look, which a large graph would feel
_FITS: dict[str, Callable[[float], bool]] = {
    "bandwidth": lambda v: v > 0,
    "latency": lambda v: 0 <= v < math.inf,
    "loss": lambda v: 0 <= v <= 1,
    "queue": lambda v: v > 0,
}


def of_edge(
    a: Any, b: Any, data: Mapping[str, Any], known: Container[str], read: Callable[[LinkTrace], Changes]
) -> dict[str, Any]:
    """The attributes of edge a-b that speak of its links, as values of a LinkSpec; `read` finds what a trace names.
    Numbers may be texts with a unit, as in a scenario. Raises ScenarioError, which names the edge, for what cannot be.
    """
    said = {name: value for name, value in data.items() if name in known and value is not None}
    given: dict[str, Any] = {}
    if "fatpipe" in said:
        given["fatpipe"] = bool(said["fatpipe"])
    try:
        for name, fits in _FITS.items():
            if name not in said:
                continue
            value = said[name]
            plain = isinstance(value, Real) and fits(float(value))
            given[name] = float(value) if plain else getattr(_section(name, value), name)
        if "burst" in said:
            chain = said["burst"]
            keys = (
                dict(zip(("to_bad", "to_good", "loss"), chain, strict=True))
                if isinstance(chain, tuple | list)
                else chain
            )
            given["burst"] = _section("burst", keys).burst.chain
        if "trace" in said:
            asked = said["trace"]
            given["trace"] = asked if isinstance(asked, Changes) else read(_section("trace", asked).trace)
    except (ScenarioError, DataError) as error:
        raise ScenarioError(f"edge {a}-{b}: {error}", field="network.graph") from None
    return given


def _section(name: str, value: Any) -> Any:
    """A section with one attribute of an edge, read as in a scenario."""
    raw = {"from": 0, "to": 1, name: value}
    try:
        return LinkOverride.model_validate(raw)
    except ValidationError as error:
        raise explain(error, LinkOverride, raw, Places()) from None
