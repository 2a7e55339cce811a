"""Tables of named columns in sqlite, arrays and texts in files: what a record is made of.

Shapes: R rows of a table.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from simnet.errors import DataError

Columns: TypeAlias = dict[str, np.ndarray]
Rows: TypeAlias = Sequence[Mapping[str, Any]] | Mapping[str, Any]

CURE = "run the scenario again, or restore the file from a copy"

# The columns that every row of a table has; the metrics that apply come on top.
BASE: dict[str, dict[str, str]] = {
    "rounds": {"round": "int64", "sim_time_s": "float64", "host_time_s": "float64", "wire_bytes": "int64",
               "messages": "int64"},
    "nodes": {"node": "int64", "role": "str", "oracle": "str", "compute_s": "float64",
              "exposed_comm_s": "float64", "idle_s": "float64", "finish_s": "float64", "reports": "int64",
              "sent_bytes": "int64", "received_bytes": "int64"},
    "links": {"source": "int64", "target": "int64", "messages": "int64", "lost_messages": "int64",
              "lost_bytes": "int64", "payload_bytes": "int64", "index_bytes": "int64",
              "header_bytes": "int64", "retransmitted_bytes": "int64", "acknowledgement_bytes": "int64",
              "wire_bytes": "int64"},
    "messages": {"exchange": "int64", "source": "int64", "target": "int64", "sent_s": "float64",
                 "arrived_s": "float64", "bytes": "int64", "attempts": "int64", "delivered": "int64"},
    "durations": {"node": "int64", "call": "int64", "oracle": "str", "seconds": "float64"},
    "spans": {"node": "int64", "kind": "str", "start_s": "float64", "end_s": "float64", "round": "int64"},
}  # fmt: skip


# ---- tables --------------------------------------------------------------------------------------------------------


class Tables:
    """Writes rows into the tables of `BASE`, adding a column when a row first has it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._columns: dict[str, list[str]] = {}

    def append(self, table: str, rows: Rows) -> None:
        """Append and commit rows, a list of mappings or one mapping from names to columns."""
        names, values = _as_tuples(rows)
        if not names:
            return
        with self._db:
            self._make_columns(table, names)
            marks = ", ".join("?" * len(names))
            self._db.executemany(f"INSERT INTO {table} ({_listed(names)}) VALUES ({marks})", values)

    def clear(self, table: str) -> None:
        """Forget a table's rows."""
        if table in self._columns:
            with self._db:
                self._db.execute(f"DELETE FROM {table}")

    def _make_columns(self, table: str, names: Iterable[str]) -> None:
        known = self._columns.get(table)
        if known is None:
            known = list(BASE[table])
            self._db.execute(f"CREATE TABLE {table} ({_listed(known)})")
        for name in names:
            if name not in known:
                self._db.execute(f"ALTER TABLE {table} ADD COLUMN {_listed([name])}")
                known = [*known, name]
        self._columns[table] = known


def read_table(db: sqlite3.Connection, table: str) -> Columns:
    """All rows of a table as columns; an empty one has those of `BASE`."""
    kinds = BASE[table]
    names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    rows = db.execute(f"SELECT * FROM {table} ORDER BY rowid").fetchall() if names else []
    if not rows:
        return {name: np.empty(0, dtype=kind) for name, kind in kinds.items()}
    columns = zip(*rows, strict=True)
    return {name: _column(values, kinds.get(name)) for name, values in zip(names, columns, strict=True)}


def _column(values: tuple[Any, ...], kind: str | None) -> np.ndarray:
    """int64 if every value is whole, str if any is text (missing: empty), else float64 (missing: NaN)."""
    seen = set(map(type, values))
    if seen == {int} and kind != "float64":
        return np.array(values, dtype=np.int64)
    if str in seen or kind == "str":
        return np.array(["" if value is None else str(value) for value in values])
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _listed(names: Iterable[str]) -> str:
    return ", ".join('"' + name.replace('"', '""') + '"' for name in names)


def _as_tuples(rows: Rows) -> tuple[list[str], Iterable[tuple[Any, ...]]]:
    if isinstance(rows, Mapping):
        columns = {name: np.asarray(column).tolist() for name, column in rows.items()}
        return list(columns), zip(*columns.values(), strict=True)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return names, [tuple(plain(row.get(name)) for name in names) for row in rows]


# ---- names and values ----------------------------------------------------------------------------------------------


def make_meta(db: sqlite3.Connection) -> None:
    """Make the table of named values."""
    with db:
        db.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT)")


def put_meta(db: sqlite3.Connection, values: Mapping[str, Any]) -> None:
    """Write named values, all or none."""
    with db:
        for name, value in values.items():
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json.dumps(plain(value))))


def read_meta(db: sqlite3.Connection) -> dict[str, Any]:
    """All named values."""
    return {name: json.loads(value) for name, value in db.execute("SELECT name, value FROM meta")}


def last_round(db: sqlite3.Connection) -> int | None:
    """The newest round in the table `rounds`; None before the first."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'rounds'").fetchone():
        return None
    newest = db.execute("SELECT max(round) FROM rounds").fetchone()[0]
    return None if newest is None else int(newest)


def plain(value: Any, finite: bool = False) -> Any:
    """`value` with numpy numbers and arrays turned into Python's, for JSON and sqlite."""
    if isinstance(value, Mapping):
        return {str(name): plain(item, finite) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, finite) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist(), finite)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bool):
        return value
    if finite and isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


# ---- files ---------------------------------------------------------------------------------------------------------


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz file, none where there is no file. Raises DataError if it is corrupt."""
    if not path.is_file():
        return {}
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is corrupt ({error}); {CURE}") from error


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an npz file that is whole or not there."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
    os.replace(part, path)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file that is whole or not there, and on the disk when this returns."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, path)
