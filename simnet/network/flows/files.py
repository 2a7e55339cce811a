"""Cases from files: our own platforms in YAML, and the JSON of the reference cases."""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simnet.errors import DataError, InputError, nearest
from simnet.network.flows.case import Case, Transfers
from simnet.network.flows.links import Links

_KEYS = {
    "name", "seed", "topology", "workload", "kind", "hosts", "links", "routes", "flows", "queue_bytes", "loss", "ge",
    "cc", "warm", "fatpipe", "simgrid", "real",
}  # fmt: skip


READ_AS = {
    ".xml": "a SimGrid platform", ".gml": "a map", ".graphml": "a map", ".csv": "a matrix of round-trip times",
}  # fmt: skip


def read_case(source: str | Path | Mapping[str, Any] | Case) -> Case:
    """A case from a file (`.json`: a case; else a platform in YAML), a dict with the keys of either, or itself.

    Raises InputError, with its place where a YAML file has it.
    """
    if isinstance(source, Case):
        return source
    if isinstance(source, Mapping):
        if "platform" not in source and isinstance(source.get("hosts"), int | float | str):  # a number, or meant as one
            return case_from_json(dict(source), str(source.get("name", "case")))
        from simnet.network.flows.platform import platform_case

        return platform_case(source)
    if not isinstance(source, str | Path):
        raise InputError(f"a case is a file's name, a dict or a Case, not {type(source).__name__}")
    path = Path(source)
    if not path.is_file():
        beside = (
            [p.name for p in path.parent.glob("*") if p.suffix in (".json", ".yaml", ".yml")]
            if path.parent.is_dir()
            else []
        )
        raise InputError(f"there is no file {str(path)!r}{nearest(path.name, beside)}")
    if path.suffix == ".json":
        try:
            return case_from_json(json.loads(path.read_text(encoding="utf-8")), path.name)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DataError(f"{path.name}: this is no JSON: {error}") from None
    if path.suffix in READ_AS:
        raise InputError(
            f"{path.name}: {READ_AS[path.suffix]} says nothing of flows: name it in a YAML file, "
            f"`platform: {path.name}` and `flows: [{{from: ..., to: ..., bytes: 10 MB}}]`"
        )
    from simnet.network.flows.platform import read_platform

    return read_platform(path)


def case_from_json(data: Any, name: str) -> Case:
    """A case in the format of the reference cases: hosts, links, routes, flows, and what TCP needs to know."""
    if not isinstance(data, dict):
        raise DataError(f"{name}: a case is one JSON object with hosts, links, routes and flows")
    for key in data:
        if key not in _KEYS:
            cure = "; it is an option: --model" if key == "model" else nearest(key, _KEYS)
            raise DataError(f"{name}: there is no such key as {key!r}{cure}")
    for key in ("hosts", "links", "routes", "flows"):
        if key not in data:
            raise DataError(f"{name}: {key} is required")
    hosts = data["hosts"]
    if isinstance(hosts, bool) or not isinstance(hosts, int) or hosts < 1:
        raise DataError(f"{name}: hosts = {hosts!r}: must be how many there are, at least 1")
    pairs = _rows(name, "links", data["links"], 2)
    count = len(pairs)
    links = Links(
        bandwidth=pairs[:, 0], latency_s=pairs[:, 1],
        fatpipe=_truths(name, data.get("fatpipe"), count),
        loss=_column(name, "loss", data.get("loss"), count, 0.0),
        burst=_rows(name, "ge", _chains(data["ge"]), 3, count) if data.get("ge") else np.zeros((count, 3)),
        queue_bytes=_column(name, "queue_bytes", data.get("queue_bytes"), count, np.inf),
        names=tuple(map(str, range(count))),
    )  # fmt: skip
    return Case(
        name=name, hosts=tuple(map(str, range(hosts))), links=links, routes=_routes(name, data["routes"]),
        transfers=_transfers(name, data["flows"]), congestion_control=str(data.get("cc") or "cubic"),
        warm=_truth(name, "warm", data.get("warm")), reference=data.get("simgrid") or data.get("real") or {},
    )  # fmt: skip


def _truth(name: str, key: str, value: Any) -> bool:
    if value not in (None, False, True):
        raise DataError(f"{name}: {key} = {value!r}: must be true or false")
    return bool(value)


def _truths(name: str, value: Any, count: int) -> np.ndarray:
    column = _column(name, "fatpipe", value, count, 0.0)
    if not np.isin(column, (0.0, 1.0)).all():
        raise DataError(f"{name}: fatpipe must be a list of {count} times true or false")
    return column.astype(bool)


def _chains(value: Any) -> Any:
    """Bursts of each link; a link without any may say so by null."""
    return [(0, 0, 0) if chain is None else chain for chain in value] if isinstance(value, Sequence) else value


def _whole(value: Any) -> int:
    """A whole number, also one written as 3.0. Raises TypeError or ValueError for anything else."""
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError
    return int(value) if isinstance(value, float) else operator.index(value)


def _list(name: str, key: str, value: Any, of: str) -> Sequence[Any]:
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence | np.ndarray):
        raise DataError(f"{name}: {key} must be a list of {of}")
    return list(value)


def _rows(name: str, key: str, value: Any, width: int, count: int | None = None) -> np.ndarray:
    try:
        rows = np.array(value, np.float64).reshape(-1, width) if not len(value) else np.array(value, np.float64)
    except (TypeError, ValueError):
        rows = np.empty(0)
    if rows.ndim != 2 or rows.shape[1] != width or (count is not None and len(rows) != count):
        size = f"{count} " if count is not None else ""
        raise DataError(f"{name}: {key} must be a list of {size}lists of {width} numbers")
    return rows


def _column(name: str, key: str, value: Any, count: int, default: float) -> np.ndarray:
    if value is None:
        return np.full(count, default)
    try:
        column = np.array(value, np.float64)
    except (TypeError, ValueError):
        column = np.empty(0)
    if column.shape != (count,):
        raise DataError(f"{name}: {key} must be a list of {count} numbers, one for each link")
    return column


def _routes(name: str, rows: Any) -> dict[tuple[int, int], tuple[int, ...]]:
    routes: dict[tuple[int, int], tuple[int, ...]] = {}
    form = "[source, target, [link, ...]]"
    for i, row in enumerate(_list(name, "routes", rows, form)):
        try:
            source, target, used = row
            ends, way = (_whole(source), _whole(target)), tuple(_whole(k) for k in used)
        except (TypeError, ValueError):
            raise DataError(f"{name}: routes.{i}: must be {form}, whole numbers from 0") from None
        if ends in routes:
            raise DataError(f"{name}: routes.{i}: a route from host {ends[0]} to host {ends[1]} is given already")
        routes[ends] = way
    return routes


def _transfers(name: str, rows: Any) -> Transfers:
    source, target, numbers, after = [], [], [], []
    form = "[source, target, bytes, start, delay, [flow, ...]]"
    for i, row in enumerate(_list(name, "flows", rows, form)):
        try:
            a, b, bytes_, start, delay, before = row
            source.append(_whole(a))
            target.append(_whole(b))
            numbers.append((float(bytes_), float(start), float(delay)))
            after.append(tuple(_whole(j) for j in before))
        except (TypeError, ValueError):
            raise DataError(f"{name}: flows.{i}: must be {form}; hosts and flows are whole numbers from 0") from None
    columns = np.array(numbers, np.float64).reshape(-1, 3)
    return Transfers(
        np.array(source, np.int64), np.array(target, np.int64), columns[:, 0].copy(), columns[:, 1].copy(),
        columns[:, 2].copy(), after,
    )  # fmt: skip
