"""YAML in and out: plain values, and where in the file each of them stood."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from simnet.errors import InputError, ScenarioError


@dataclass(frozen=True)
class Places:
    """Line and column (from 1) of every field, by dotted name; `keys` of its key, `values` of its value."""

    file: Path | None = None
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    values: dict[str, tuple[int, int]] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()

    def of(self, dotted: str, *, key: bool = False) -> str:
        """`file.yaml:14:11` of a field's value (of its key), or of the nearest field that holds it."""
        table = self.keys if key else self.values
        if dotted not in table and any(other.startswith(dotted + ".") for other in self.overrides):
            return "--set"
        while dotted:
            if dotted in self.overrides:
                return "--set"
            if dotted in table and self.file is not None:
                line, column = table[dotted]
                return f"{self.file.name}:{line}:{column}"
            dotted, table = dotted.rpartition(".")[0], self.keys
        return self.file.name if self.file is not None else ""

    def overridden(self, dotted: str) -> Places:
        """The same places, but `dotted` and what it holds no longer stand in the file."""
        return replace(self, overrides=(*self.overrides, dotted))


def load(file: Path, what: str = "a scenario", such_as: str = "rounds: 200") -> tuple[dict[str, Any], Places]:
    """The mapping in a YAML 1.2 file and the places of its fields.

    Raises ScenarioError for a file that is no YAML, repeats a key or holds no mapping; then it says that `what` is one,
    `such_as` this.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ScenarioError(f"is not UTF-8 text (byte {error.start})", place=file.name) from None
    try:
        tree = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{file.name}:{mark.line + 1}:{mark.column + 1}" if mark else file.name
        if isinstance(error, DuplicateKeyError):
            name = str(error.problem).split('"')[1]
            first = f" (first in line {error.context_mark.line + 1})" if error.context_mark else ""
            raise ScenarioError(f"the key {name!r} stands here a second time{first}", place=place) from None
        said = " ".join(str(part) for part in (error.context, error.problem) if part)
        raise ScenarioError(f"this is no YAML: {said}", place=place) from None
    except YAMLError as error:
        raise ScenarioError(f"this is no YAML: {' '.join(str(error).split())}", place=file.name) from None
    if not isinstance(tree, Mapping):
        raise ScenarioError(f"{what} is a mapping: lines of `key: value`, such as `{such_as}`", place=file.name)
    places = Places(file)
    return _plain(tree, "", places), places


def _plain(node: Any, dotted: str, places: Places) -> Any:
    """ruamel's tree as plain dicts, lists, strings and numbers; notes the places on the way."""

    def under(name: object) -> str:
        return f"{dotted}.{name}" if dotted else str(name)

    if isinstance(node, Mapping):
        marks: Any = getattr(node, "lc", None)
        for key in node:
            if marks is not None and marks.data and key in marks.data:  # merged keys (`<<`) have no place of their own
                key_line, key_column, line, column = marks.data[key]
                places.keys[under(key)] = key_line + 1, key_column + 1
                places.values[under(key)] = line + 1, column + 1
        return {str(key): _plain(value, under(key), places) for key, value in node.items()}
    if isinstance(node, Sequence) and not isinstance(node, str):
        marks = getattr(node, "lc", None)
        for i in range(len(node)):
            if marks is not None and marks.data and i in marks.data:
                line, column = marks.data[i]
                places.keys[under(i)] = places.values[under(i)] = line + 1, column + 1
        return [_plain(value, under(i), places) for i, value in enumerate(node)]
    if isinstance(node, bool) or node is None:
        return node
    if isinstance(node, str):
        return str(node)
    if isinstance(node, int):
        return int(node)
    return float(node) if isinstance(node, float) else node


def parse(text: str, dotted: str) -> Any:
    """The value that a piece of YAML stands for, as in `--set target={accuracy: 0.9}`."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        said = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ScenarioError(f"is no YAML: {said}", place="--set", field=dotted, value=text) from None


def replaced(tree: Any, dotted: str, value: Any) -> Any:
    """A copy of `tree` with `value` at a dotted field; dicts on the way are made, a name becomes {name: ...}."""
    return _replaced(tree, dotted.split("."), value, dotted)


def _replaced(tree: Any, path: list[str], value: Any, dotted: str) -> Any:
    if not path:
        return value
    head, rest = path[0], path[1:]
    where = dotted.rsplit(".", len(path))[0] if len(path) < dotted.count(".") + 1 else ""
    if not head:
        raise InputError(f"{dotted!r} is no dotted field such as 'network.link.loss'")
    if isinstance(tree, list | tuple):
        if not head.isdecimal() or int(head) >= len(tree):
            held = f"items 0 to {len(tree) - 1}" if len(tree) else "no items"
            raise ScenarioError(f"{where} is a list with {held}; {head!r} is none of them", place="--set", field=dotted)
        return [_replaced(item, rest, value, dotted) if i == int(head) else item for i, item in enumerate(tree)]
    if tree is None:
        tree = {}
    if isinstance(tree, str):
        tree = {"name": tree}
    if hasattr(tree, "plain"):
        tree = tree.plain()
    if hasattr(tree, "model_dump"):
        tree = tree.model_dump(by_alias=True, exclude_none=True)
    if not isinstance(tree, Mapping):
        raise ScenarioError(f"{where} is {tree!r} and holds no fields", place="--set", field=dotted)
    return {**tree, head: _replaced(tree.get(head), rest, value, dotted)}


def dump(tree: dict[str, Any]) -> str:
    """Plain values as YAML 1.2, which `load` reads back to equal ones."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 110
    out = io.StringIO()
    yaml.dump(tree, out)
    return out.getvalue()
