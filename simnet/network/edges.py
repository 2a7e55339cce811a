"""What the attributes of a graph's edge say of its links."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from pydantic import ValidationError

from simnet.errors import ScenarioError
from simnet.explain import explain
from simnet.links import LinkOverride
from simnet.sources import Places

_NUMBERS = {"bandwidth", "latency", "loss", "queue"}


def of_edge(a: Any, b: Any, data: Mapping[str, Any], known: Container[str]) -> dict[str, Any]:
    """The attributes of edge a-b that speak of its links, as values of a LinkSpec. Raises ScenarioError, which names
    the edge, for what cannot be.
    """
    said = {name: value for name, value in data.items() if name in known and value is not None}
    given: dict[str, Any] = {name: float(value) for name, value in said.items() if name in _NUMBERS}
    if "fatpipe" in said:
        given["fatpipe"] = bool(said["fatpipe"])
    if "burst" in said:
        try:
            given["burst"] = burst_of(said["burst"])
        except ScenarioError as error:
            raise ScenarioError(f"edge {a}-{b}: {error}", field="network.graph") from None
    return given


def burst_of(said: Any) -> Any:
    """The chain that an edge's attribute names: three probabilities, or keys as in a scenario."""
    keys = dict(zip(("to_bad", "to_good", "loss"), said, strict=True)) if isinstance(said, tuple | list) else said
    raw = {"from": 0, "to": 1, "burst": keys}
    try:
        burst = LinkOverride.model_validate(raw).burst
    except ValidationError as error:
        raise explain(error, LinkOverride, raw, Places()) from None
    assert burst is not None
    return burst.chain
