"""What the shipped parts say of themselves, read from their source: nothing is imported or run."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

from simnet import registry


class Field(NamedTuple):
    """One parameter as its author wrote it; `default` is empty where a value is required."""

    name: str
    annotation: str
    default: str
    comment: str

    def __str__(self) -> str:
        kind = f": {self.annotation}" if self.annotation else ""
        return f"{self.name}{kind}" + (f" = {self.default}" if self.default else "")


class Entry(NamedTuple):
    """One shipped part: its name, the first line of its docstring, and what it can be given."""

    name: str
    summary: str
    fields: tuple[Field, ...]


def describe(kind: str) -> list[Entry]:
    """Every shipped part of a kind, in the catalogue's order. Raises UnknownName for an unknown kind."""
    return [_entry(kind, name, target) for name, target in registry.shipped(kind).items()]


def _entry(kind: str, name: str, target: str) -> Entry:
    module, _, attribute = target.partition(":")
    source = _source(module).read_text(encoding="utf-8")
    body = ast.parse(source).body
    classes = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == attribute:
            fields = _all_fields(node, classes, source) if isinstance(node, ast.ClassDef) else _arguments(node, source)
            own = tuple(f for f in fields if f.name not in registry.INJECTED.get(kind, ()))
            lines = (ast.get_docstring(node) or "").strip().splitlines()
            return Entry(name, lines[0] if lines else "", own)
    raise LookupError(f"the catalogue says {target}, but {module} defines no {attribute!r}")


def _source(module: str) -> Path:
    """The file of a module of ours. Raises LookupError when there is none."""
    parts = module.split(".")[1:]
    for base in registry.package_path():
        for path in (base.joinpath(*parts).with_suffix(".py"), base.joinpath(*parts, "__init__.py")):
            if path.is_file():
                return path
    raise LookupError(f"the catalogue names the module {module}, which has no file")


def _all_fields(node: ast.ClassDef, classes: dict[str, ast.ClassDef], source: str) -> list[Field]:
    """The fields of a class and of its bases in the same file; those of the bases first, as dataclasses have it."""
    found: dict[str, Field] = {}
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes:
            found |= {f.name: f for f in _all_fields(classes[base.id], classes, source)}
    own = _class_fields(node, source)
    has_init = any(isinstance(item, ast.FunctionDef) and item.name == "__init__" for item in node.body)
    return own if has_init else list((found | {f.name: f for f in own}).values())


def _class_fields(node: ast.ClassDef, source: str) -> list[Field]:
    """The fields of a dataclass, or else the arguments of __init__."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _arguments(item, source)[1:]
    return [
        Field(item.target.id, _text(item.annotation), _text(item.value), _comment(item, source))
        for item in node.body
        if isinstance(item, ast.AnnAssign)
        and isinstance(item.target, ast.Name)
        and not item.target.id.startswith("_")
        and "ClassVar" not in _text(item.annotation)
    ]


def _arguments(node: ast.FunctionDef, source: str) -> list[Field]:
    listed = [*node.args.posonlyargs, *node.args.args]
    free = len(listed) - len(node.args.defaults)
    defaults = [None] * free + list(node.args.defaults) + list(node.args.kw_defaults)
    return [
        Field(arg.arg, _text(arg.annotation), _text(default), _comment(arg, source))
        for arg, default in zip([*listed, *node.args.kwonlyargs], defaults, strict=True)
    ]


def _text(node: ast.expr | None) -> str:
    return ast.unparse(node) if node is not None else ""


def _comment(node: ast.stmt | ast.arg, source: str) -> str:
    """The comment at the end of a field's line."""
    line = source.splitlines()[(node.end_lineno or node.lineno) - 1].encode()
    code, mark, comment = line[node.end_col_offset or 0 :].decode().partition("#")
    alone = not line[: node.col_offset].strip() and code.count(",") <= 1
    return comment.strip() if mark and alone else ""


def scenario_titles() -> dict[str, str]:
    """The shipped scenarios, each with the first comment of its file, which says what it teaches."""
    titles = {}
    for name, path in registry.shipped_scenarios().items():
        lines = path.read_text(encoding="utf-8").splitlines()
        titles[name] = next((line.lstrip("# ").strip() for line in lines if line.startswith("#")), "")
    return titles
