"""From pydantic's findings to errors that name the place, the value and the cure."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from simnet.errors import ScenarioError, UnitError, UnknownName, nearest
from simnet.sources import Places

_WORDS = {
    "missing": "is required",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be finite",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list, as in [0, 3]",
    "tuple_type": "must be a list of two, as in [0, 1]",
    "too_short": "has too few items",
    "too_long": "has too many items",
    "dict_type": "must hold keys and values, as in {key: value}",
}
_BOUNDS = {
    "greater_than_equal": ("ge", "must be at least"),
    "greater_than": ("gt", "must be above"),
    "less_than_equal": ("le", "must be at most"),
    "less_than": ("lt", "must be below"),
}


def explain(error: ValidationError, model: type[BaseModel], raw: Mapping[str, Any], places: Places) -> ScenarioError:
    """One error that says all that is wrong, a line each; its class, place and field are those of the first."""
    found = [_finding(dict(item), model, raw, places) for item in error.errors(include_url=False)]
    first = found[0]
    if len(found) > 1:
        first.args = ("\n".join(str(each) for each in found),)
    return first


def _finding(item: dict[str, Any], model: type[BaseModel], raw: Mapping[str, Any], places: Places) -> ScenarioError:
    kind, context = item["type"], item.get("ctx", {})
    path = _path(item["loc"], raw) + [step for step in str(context.get("at", "")).split(".") if step]
    dotted = ".".join(path)
    value = item["input"] if isinstance(item["input"], bool | int | float | str) else None
    spot: dict[str, Any] = {"place": places.of(dotted), "field": dotted}
    if kind == "extra_forbidden":
        known = _keys(model, path[:-1])
        listed = f"known here: {', '.join(known)}"
        close = nearest(path[-1], known)
        spot["place"] = places.of(dotted, key=True)
        if len(path) > 1 and path[-1] in _keys(model, []):
            return UnknownName(
                f"there is no such key; {path[-1]!r} stands at the top level, beside {path[0]!r}", **spot
            )
        return UnknownName(f"there is no such key{close}" if close else f"there is no such key; {listed}", **spot)
    if kind == "simnet_unit":
        return UnitError(item["msg"], **spot)  # the words repeat the value
    if kind == "literal_error":
        choices = [text.strip(" '") for text in context["expected"].replace(" or ", ", ").split(",")]
        close = nearest(value, choices) if isinstance(value, str) else ""
        return ScenarioError(f"must be {_either(choices)}{close}", value=value, **spot)
    if kind == "missing":
        spot["place"] = places.of(dotted.rpartition(".")[0])
        words = "must be a list of two, as in [0, 1]" if path[-1].isdecimal() else "is required"
        return ScenarioError(words, **spot)
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return ScenarioError(f"{words} {context[name]:g}", value=value, **spot)
    if kind in ("model_type", "model_attributes_type"):
        keys = _keys(model, path)
        return ScenarioError(f"must hold keys such as {', '.join(keys[:4])}", value=item["input"], **spot)
    words = _WORDS.get(kind, item["msg"])
    return ScenarioError(words, value=value, **spot)


def _path(loc: tuple[str | int, ...], raw: Any) -> list[str]:
    """pydantic's location without the names it gives to the members of a union."""
    path: list[str] = []
    for i, step in enumerate(loc):
        last = i == len(loc) - 1
        if isinstance(raw, Mapping):
            if isinstance(step, int) or (step not in raw and not last):  # an int: an entry without its list
                continue
            raw = raw.get(step)
        elif isinstance(raw, list | tuple):
            if not isinstance(step, int):
                continue
            raw = raw[step] if step < len(raw) else None
        elif raw is not None and i and not last:
            continue
        path.append(str(step))
    return path


def _either(choices: list[str]) -> str:
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"


def _keys(model: type[BaseModel], path: list[str]) -> list[str]:
    """The keys that may stand at a path of sections and list indices."""
    inner: Any = model
    for step in path:
        if step.isdecimal():
            continue
        fields = {(f.alias or name): f for name, f in inner.model_fields.items()}
        inner = _section(fields[step].annotation)
    return [(f.alias or name) for name, f in inner.model_fields.items()]


def _section(annotation: Any) -> Any:
    """The section within `X`, `X | None`, `Annotated[X, ...]` or `list[X]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (types.UnionType, typing.Union, typing.Annotated, list):
        return next((found for arg in typing.get_args(annotation) if (found := _section(arg))), None)
    return None
