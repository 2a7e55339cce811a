"""From a name in a scenario to the object it means, and to the call that makes it.

    find("topologies", "ring")                              shipped; case, `-` and `_` do not matter
    find("algorithms", "my_package.mine:Mine")              any module that Python can import
    find("algorithms", "mine.py:Mine", base_dir=folder)     a file beside the scenario
    call(Mine, {"n": 16, "seed": 0}, {"eta": 0.1}, "algorithm")

Shipped names stand in `simnet.models.catalogue`; nothing else of `models` is imported before it is asked for.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from simnet.errors import InputError, ScenarioError, UnitError, UnknownName, nearest
from simnet.units import Dimension, quantity

Place = Callable[[str], str]  # dotted field -> "scenario.yaml:14:11", or ""

# Keys that stand beside the parameters of a part, besides its `name`, by the part's field.
BESIDE: dict[str, frozenset[str]] = {"problem": frozenset({"data", "split", "copies", "batch", "replace", "start_std"})}
# What the kernel gives to each kind of part, and a scenario therefore need not.
INJECTED: dict[str, frozenset[str]] = {
    "algorithms": frozenset(),
    "problems": frozenset({"nodes", "seed", "parts", "base_dir"}),
    "datasets": frozenset({"base_dir"}),
    "splits": frozenset({"labels", "labels_M", "nodes", "seed", "oracles"}),
    "topologies": frozenset({"n", "seed", "base_dir"}),
    "mixings": frozenset({"src", "dst", "n", "grain"}),
    "compressors": frozenset(),
    "scalings": frozenset(),
    "kernels": frozenset(),
    "steps": frozenset(),
    "estimators": frozenset(),
}
PARTS_WITHIN = {
    "Compressor": "compressors",
    "Scaling": "scalings",
    "Kernel": "kernels",
    "FirstOrderStep": "steps",
}  # base class -> the kind of part that a parameter of that type takes
_ONE = {
    "algorithms": "algorithm",
    "problems": "problem",
    "datasets": "dataset",
    "splits": "split",
    "topologies": "topology",
    "mixings": "mixing",
    "compressors": "compressor",
    "scalings": "scaling",
    "kernels": "kernel",
    "steps": "step",
    "estimators": "estimator",
}


@lru_cache(maxsize=1)
def _catalogue() -> dict[str, dict[str, str]]:
    catalogue: dict[str, dict[str, str]] = importlib.import_module("simnet.models.catalogue").CATALOGUE
    return catalogue


def kinds() -> list[str]:
    """What can be named: algorithms, problems, ..."""
    return list(_catalogue())


def shipped(kind: str) -> dict[str, str]:
    """The shipped names of a kind, each with its `module:attribute`. Raises UnknownName for an unknown kind."""
    if kind not in _catalogue():
        raise UnknownName(f"parts are {', '.join(kinds())}, and not {kind!r}{nearest(kind, kinds())}")
    return dict(_catalogue()[kind])


def shipped_scenarios() -> dict[str, Path]:
    """The shipped scenarios by name, which is the file's stem."""
    return {path.stem: path for folder in _folders("scenarios") for path in sorted(folder.glob("*.yaml"))}


def _folders(name: str) -> list[Path]:
    """Where the sub-package `name` of simnet lies; found without importing it."""
    return [folder for base in package_path() if (folder := base / name).is_dir()]


def package_path() -> list[Path]:
    """The folders that the package simnet consists of: one when installed, two in a checkout."""
    return [Path(base) for base in sys.modules["simnet"].__path__]


def _loose(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").replace(" ", "")


# ---- finding -------------------------------------------------------------------------------------------------------


def find(
    kind: str, name: str, base_dir: Path | str | None = None, *, field: str = "", place: Place | None = None
) -> Any:
    """The object that `name` means among `kind` (or among "module": then only `module:Name`).

    `base_dir` is the folder that `file.py:Name` counts from (default: the current one); `field` and `place` say
    in an error where the name stood. Raises UnknownName when there is no such name, module, file or attribute.
    """
    where = {"field": field, "place": place(field) if place else ""}
    if ":" in name:
        head, _, attribute = name.rpartition(":")
        module = _load_file(head, base_dir, where) if head.endswith(".py") else _load_module(head, base_dir, where)
        return _attribute(module, attribute, name, where)
    if kind == "module":
        raise UnknownName(f"{name!r} names no object; write 'module:Name'", **where)
    target = canonical(kind, name, field=field, place=place)[1]
    head, _, attribute = target.partition(":")
    return getattr(importlib.import_module(head), attribute)


def canonical(kind: str, name: str, *, field: str = "", place: Place | None = None) -> tuple[str, str]:
    """The shipped spelling of `name` and its target; raises UnknownName with the nearest one."""
    known = shipped(kind)
    for ours, target in known.items():
        if _loose(ours) == _loose(name):
            return ours, target
    one = _ONE.get(kind, kind)
    if name.endswith(".py"):
        cure = f"; to use what the file defines, write '{name}:Name'"
    else:
        cure = nearest(name, known) or "; yours is 'module:Name', or 'file.py:Name' beside the scenario"
    raise UnknownName(
        f"there is no {one} named {name!r}{_stop(cure)} `simnet list {kind}` shows them all",
        field=field,
        place=place(field) if place else "",
    )


def _stop(text: str) -> str:
    return text if text.endswith(("?", ".")) else text + "."


def _load_file(head: str, base_dir: Path | str | None, where: dict[str, Any]) -> ModuleType:
    path = (Path(base_dir or ".") / Path(head).expanduser()).resolve()
    if not path.is_file():
        raise UnknownName(f"there is no file {path}; paths count from the scenario's folder", **where)
    stamp = hashlib.blake2b(f"{path} {path.stat().st_mtime_ns}".encode(), digest_size=6).hexdigest()
    alias = f"simnet_file_{path.stem}_{stamp}"  # an edited file is read again, an unchanged one is not
    if alias in sys.modules:
        return sys.modules[alias]
    spec = importlib.util.spec_from_file_location(alias, path)
    assert spec is not None and spec.loader is not None, path  # a .py file always has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[alias] = module  # dataclasses look their module up there
    complete = False
    try:
        with _importable(path.parent):
            spec.loader.exec_module(module)
        complete = True
    except SyntaxError as error:
        raise ScenarioError(f"{path.name}:{error.lineno}:{error.offset} is no Python: {error.msg}", **where) from error
    finally:
        if not complete:
            del sys.modules[alias]
    return module


def _load_module(head: str, base_dir: Path | str | None, where: dict[str, Any]) -> ModuleType:
    try:
        with _importable(Path(base_dir or "."), Path.cwd()):
            return importlib.import_module(head)
    except ModuleNotFoundError as error:
        if error.name is None or not (head == error.name or head.startswith(error.name + ".")):
            raise  # the module is there, but one that it imports is not: its own traceback says it best
        cure = f"; a file beside the scenario is '{head.replace('.', '/')}.py:Name'"
        raise UnknownName(f"there is no module {error.name!r} to import{cure}", **where) from error


def _attribute(module: ModuleType, attribute: str, name: str, where: dict[str, Any]) -> Any:
    value: Any = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            public = [known for known in vars(value) if not known.startswith("_")]
            file = getattr(module, "__file__", None)
            raise UnknownName(f"{file or module.__name__} defines no {part!r}{nearest(part, public)}", **where)
        value = getattr(value, part)
    return value


@contextmanager
def _importable(*folders: Path) -> Iterator[None]:
    """The folders at the end of the import path while a module of the user's is loaded."""
    added = [text for folder in folders if (text := str(folder.resolve())) not in sys.path]
    sys.path.extend(added)
    try:
        yield
    finally:
        for text in added:
            sys.path.remove(text)


# ---- calling -------------------------------------------------------------------------------------------------------


def call(
    target: Callable[..., Any],
    injected: Mapping[str, Any],
    params: Mapping[str, Any],
    where: str,
    place: Place | None = None,
) -> Any:
    """`target` called with those of `injected` that it asks for, and with the scenario's `params`; see `bind`."""
    return target(**bind(target, injected, params, where, place))


def bind(
    target: Callable[..., Any],
    injected: Mapping[str, Any],
    params: Mapping[str, Any],
    where: str,
    place: Place | None = None,
) -> dict[str, Any]:
    """The keyword arguments for a function or a class: what it asks for of `injected`, and all of `params`.

    `where` is the dotted field of the part (`algorithm`), `place` tells where a field stands (`Scenario.place`).
    A parameter is checked against its annotation; text for one whose name ends in `_s`, `_bytes`, `_flop`,
    `_bytes_per_s` or `_flop_per_s` may carry a unit. Where `params` names what is injected, `params` counts.

    Raises UnknownName for a parameter that is not asked for, ScenarioError for one of the wrong type or missing.
    """
    signature = inspect.signature(inspect.unwrap(target))
    wanted = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    title = getattr(target, "__name__", str(target))

    def spot(name: str) -> dict[str, Any]:
        field = f"{where}.{name}" if where else name
        return {"field": field, "place": place(field) if place else ""}

    arguments = {name: value for name, value in injected.items() if name in wanted}
    for name, value in params.items():
        if name in wanted:
            arguments[name] = _checked(value, wanted[name], target, spot(name), injected.get("base_dir"))
        elif takes_any:
            arguments[name] = value
        else:
            own = [known for known in wanted if known not in injected]
            keys = [*own, "name", *sorted(BESIDE.get(where, ()))] if where else own
            takes = f"it takes {', '.join(own)}" if own else "it takes none"
            raise UnknownName(
                f"{title} has no parameter {name!r}{_stop(nearest(name, keys) or '; ' + takes)}", **spot(name)
            )
    for name, parameter in wanted.items():
        if name not in arguments and parameter.default is parameter.empty:
            kind = _type_name(parameter.annotation)
            raise ScenarioError(f"{title} needs it{f' ({kind})' if kind else ''} and has no default", **spot(name))
    return arguments


_SUFFIXES: tuple[tuple[str, Dimension], ...] = (
    ("_bytes_per_s", "bytes/s"),
    ("_flop_per_s", "flop/s"),
    ("_bytes", "bytes"),
    ("_flop", "flop"),
    ("_s", "s"),
)


def _checked(
    value: Any, parameter: inspect.Parameter, target: Callable[..., Any], spot: dict[str, Any], base_dir: Any = None
) -> Any:
    """`value` as the annotation of its parameter wants it."""
    if isinstance(value, str):
        for suffix, dimension in _SUFFIXES:
            if parameter.name.endswith(suffix):
                try:
                    return quantity(value, dimension)
                except UnitError as error:
                    raise UnitError(str(error), **spot) from None
    annotation = _annotation(parameter, target)
    if annotation is parameter.empty:
        return value
    if (kind := _part_kind(annotation)) is not None and isinstance(value, str | Mapping):
        return _made_part(kind, value, spot, base_dir)
    from pydantic import PydanticUserError, TypeAdapter, ValidationError

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation, config={"arbitrary_types_allowed": True})
    except PydanticUserError:  # the type brings its own pydantic configuration
        adapter = TypeAdapter(annotation)
    if isinstance(value, bool) and annotation in (int, float):
        raise ScenarioError(f"must be {_WORDS[annotation.__name__]}", value=value, **spot)
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        kind = _type_name(parameter.annotation)
        wanted = _WORDS.get(kind, kind)
        detail = "" if kind in _WORDS else f" ({_said(error)})"
        raise ScenarioError(f"must be {wanted}{detail}", value=value, **spot) from None


def _part_kind(annotation: Any) -> str | None:
    """The kind of part that a parameter takes: its annotation is such a base class, or that or None."""
    for choice in (annotation, *typing.get_args(annotation)):
        if isinstance(choice, type):
            for base in choice.__mro__:
                if base.__name__ in PARTS_WITHIN:
                    return PARTS_WITHIN[base.__name__]
    return None


def _made_part(kind: str, value: Any, spot: dict[str, Any], base_dir: Any) -> Any:
    """A part within a part: `compressor: {name: top_k, fraction: 0.1}`."""
    given = {"name": value} if isinstance(value, str) else dict(value)
    name = given.pop("name", None)
    if not isinstance(name, str):
        raise ScenarioError("needs a `name`, as in {name: ..., parameter: value}", **spot)
    target = find(kind, name, base_dir, field=spot["field"])
    arguments = bind(target, {"base_dir": base_dir}, given, spot["field"])
    try:
        return target(**arguments)
    except ScenarioError as error:  # by its own field
        raise error.within(spot["field"], spot["place"]) from None
    except InputError as error:
        raise ScenarioError(str(error), **spot) from None


def _said(error: Any) -> str:
    """What pydantic says of a value: of several choices, what it says of the one that fits best."""
    best = max(error.errors(), key=lambda each: len(each["loc"]))
    words = f"{best['msg'][0].lower()}{best['msg'][1:]}"
    inner = ".".join(str(part) for part in best["loc"][1:])
    return f"{inner}: {words}" if inner else words


_WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}


def _annotation(parameter: inspect.Parameter, target: Callable[..., Any]) -> Any:
    """The annotation as a type; `empty` where its names exist for type checkers only."""
    if not isinstance(parameter.annotation, str):
        return parameter.annotation
    home = inspect.unwrap(target)
    names: dict[str, Any] = {}
    for owner in reversed(home.__mro__) if isinstance(home, type) else (home,):
        names |= vars(sys.modules[owner.__module__])
    try:
        return eval(parameter.annotation, names)
    except NameError:
        return parameter.empty


def _type_name(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
