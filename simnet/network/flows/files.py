"""Cases from files: our own platforms in YAML, and the JSON of the reference cases."""

from __future__ import annotations

import json
from collections.abc import Mapping
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


def read_case(source: str | Path | Mapping[str, Any] | Case) -> Case:
    """A case from a file (`.json`: a case; else a platform in YAML), a dict with the keys of either, or itself.

    Raises InputError, with its place where a YAML file has it.
    """
    if isinstance(source, Case):
        return source
    if isinstance(source, Mapping):
        if isinstance(source.get("hosts"), int):
            return case_from_json(dict(source), str(source.get("name", "case")))
        from simnet.network.flows.platform import platform_case

        return platform_case(source)
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
    if path.suffix == ".xml":
        raise InputError(
            f"{path.name}: a SimGrid platform says nothing of flows: name it in a YAML file, "
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
            raise DataError(f"{name}: there is no such key as {key!r}{nearest(key, _KEYS)}")
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
        fatpipe=_column(name, "fatpipe", data.get("fatpipe"), count, 0.0).astype(bool),
        loss=_column(name, "loss", data.get("loss"), count, 0.0),
        burst=_rows(name, "ge", data["ge"], 3, count) if data.get("ge") else np.zeros((count, 3)),
        queue_bytes=_column(name, "queue_bytes", data.get("queue_bytes"), count, np.inf),
        names=tuple(map(str, range(count))),
    )  # fmt: skip
    return Case(
        name=name, hosts=tuple(map(str, range(hosts))), links=links, routes=_routes(name, data["routes"]),
        transfers=_transfers(name, data["flows"]), congestion_control=str(data.get("cc", "cubic")),
        warm=bool(data.get("warm", False)), reference=data.get("simgrid") or data.get("real") or {},
    )  # fmt: skip


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
    routes = {}
    for i, row in enumerate(rows):
        try:
            source, target, used = row
            routes[int(source), int(target)] = tuple(int(k) for k in used)
        except (TypeError, ValueError):
            raise DataError(f"{name}: routes.{i}: must be [source, target, [link, ...]]") from None
    return routes


def _transfers(name: str, rows: Any) -> Transfers:
    source, target, numbers, after = [], [], [], []
    for i, row in enumerate(rows):
        try:
            a, b, bytes_, start, delay, before = row
            source.append(int(a))
            target.append(int(b))
            numbers.append((float(bytes_), float(start), float(delay)))
            after.append(tuple(int(j) for j in before))
        except (TypeError, ValueError):
            raise DataError(f"{name}: flows.{i}: must be [source, target, bytes, start, delay, [flow, ...]]") from None
    columns = np.array(numbers, np.float64).reshape(-1, 3)
    return Transfers(
        np.array(source, np.int64), np.array(target, np.int64), columns[:, 0].copy(), columns[:, 1].copy(),
        columns[:, 2].copy(), after,
    )  # fmt: skip
