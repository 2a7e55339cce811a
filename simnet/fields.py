"""The types that a scenario's fields are made of: quantities, parts, host names, counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from simnet.errors import UnitError, nearest
from simnet.units import Dimension, quantity


class Section(BaseModel):
    """A group of keys; frozen, and no key but the declared ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, use_attribute_docstrings=True)


def refuse(message: str, kind: Literal["value", "unit"] = "value", at: str = "") -> PydanticCustomError:
    """An error whose words reach the user unchanged; `at` is the field within the section that is to blame."""
    return PydanticCustomError(f"simnet_{kind}", "{words}", {"words": message, "at": at})


def _reader(dimension: Dimension, fits: Callable[[float], bool], rule: str, never: bool = False) -> BeforeValidator:
    def read(value: Any) -> float:
        try:
            number = float("inf") if never and value == "never" else quantity(value, dimension)
        except UnitError as error:
            raise refuse(str(error), "unit") from None
        if not fits(number):
            raise refuse(rule)
        return number

    return BeforeValidator(read)


def _json(example: str) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string"}], "examples": [example]})


Bandwidth = Annotated[
    float,
    _reader("bytes/s", lambda v: v > 0, "must be above 0 bytes/s, such as '100 Mbit/s'; for no link, leave it out"),
    _json("100 Mbit/s"),
]
Seconds = Annotated[
    float,
    _reader("s", lambda v: 0 <= v < float("inf"), "must be at least 0 s and finite, such as '20 ms'"),
    _json("20 ms"),
]
PositiveSeconds = Annotated[float, _reader("s", lambda v: v > 0, "must be above 0 s, such as '60 s'"), _json("60 s")]
Moment = Annotated[
    float,
    _reader("s", lambda v: v >= 0, "must be at least 0 s, such as '30 s', or `never`", never=True),
    PlainSerializer(lambda v: "never" if v == float("inf") else v),
    _json("30 s"),
]
Bytes = Annotated[float, _reader("bytes", lambda v: v > 0, "must be above 0 bytes, such as '1 GB'"), _json("1 GB")]
Speed = Annotated[
    float,
    _reader(
        "flop/s",
        lambda v: v > 0,
        "must be above 0 FLOP/s, such as '10 GFLOP/s': a node at 0 never ends an oracle call; "
        "to give the call's duration itself, use `step: 10 ms`",
    ),
    _json("10 GFLOP/s"),
]
Loss = Annotated[
    float,
    _reader(
        "fraction",
        lambda v: 0 <= v <= 1,
        "must be at least 0 and below 1: the probability that a packet is lost, such as 0.01 or '1 %'",
    ),
    _json("1 %"),
]
Share = Annotated[
    float, _reader("fraction", lambda v: 0 < v <= 1, "must be above 0 and at most 1, such as 0.25 or '25 %'"),
    _json("25 %"),
]  # fmt: skip
Probability = Annotated[
    float, _reader("fraction", lambda v: 0 <= v <= 1, "must be between 0 and 1, such as 0.1 or '10 %'"), _json("10 %")
]

Factor = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Ratio = Annotated[
    float, _reader("fraction", lambda v: 0 <= v < float("inf"), "must be at least 0, such as 0.1 or '10 %'"),
    _json("10 %"),
]  # fmt: skip


def _host(value: Any) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise refuse("must be a host: its number or its name in the graph")
    return value


Host = Annotated[
    int | str, BeforeValidator(_host), WithJsonSchema({"anyOf": [{"type": "integer"}, {"type": "string"}]})
]


def _count(value: Any) -> Any:
    if isinstance(value, bool):
        raise refuse("must be a whole number")
    return value


Count = Annotated[int, BeforeValidator(_count), Field(ge=1)]
Whole = Annotated[int, BeforeValidator(_count)]


@dataclass(frozen=True)
class Part:
    """Something that has a name and parameters, or a Python object given directly.

    In YAML `ring`, or `{name: erdos_renyi, p: 0.3}`. In Python also the object itself: then `object` is set and
    `name` is its class's.
    """

    name: str
    params: dict[str, Any] = field(default_factory=dict)
    object: Any = None

    @classmethod
    def of(cls, value: Any) -> Part:
        """The part that a YAML value or a Python object stands for."""
        if isinstance(value, Part):
            return value
        if isinstance(value, str):
            if not value:
                raise refuse("must be a name, or {name: ..., parameter: value}")
            return cls(value)
        if isinstance(value, Mapping):
            params = {str(key): item for key, item in value.items()}
            name = params.pop("name", None)
            if not isinstance(name, str) or not name:
                close = next((key for key in params if nearest(key, ["name"])), None)
                cure = f"; did you mean 'name' by {close!r}?" if close else ", as in {name: erdos_renyi, p: 0.3}"
                raise refuse(f"needs a `name`{cure}")
            return cls(name, params)
        if value is None or isinstance(value, bool | int | float | list | tuple):
            raise refuse("must be a name, or {name: ..., parameter: value}")
        return cls(type(value).__name__, {}, value)

    def plain(self) -> Any:
        """The part as YAML would have it; an object by its text, which cannot be read back."""
        if self.object is not None:
            return {"name": f"<{self.object}>"}
        return {"name": self.name, **self.params} if self.params else self.name

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.of, serialization=core_schema.plain_serializer_function_ser_schema(cls.plain)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        named = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
        return {"anyOf": [{"type": "string"}, named]}
