"""One run on disk: rows are committed as they come, so that a killed run keeps what it had reported.

    directory/
    ├── scenario.yaml     the scenario as it was run, every default filled in
    ├── record.sqlite     write-ahead logged; tables meta, rounds, nodes, links, messages, spans
    ├── summary.json      the end of the run, written last (numbers that are not finite become null)
    ├── final.npz         the last values of every node, where they take at most 64 MB
    └── *.png             plots, by `simnet.analysis.plot.save_plots`

A row that was committed survives the end of the process in any form, kill -9 included; a power cut may cost
the newest rows, never the file. `RecordWriter(None, ...)` keeps everything in memory behind the same
interface.

Shapes: R rows of a table, N nodes, D parameters.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np

from simnet.errors import DataError, InputError, Outcome, RunError, nearest

Columns: TypeAlias = dict[str, np.ndarray]
Rows: TypeAlias = Sequence[Mapping[str, Any]] | Mapping[str, Any]

SCHEMA = 1
FINAL_LIMIT_BYTES = 64_000_000
_FILE = "record.sqlite"
_OWN_FILES = (
    _FILE, f"{_FILE}-wal", f"{_FILE}-shm", f"{_FILE}-journal", "scenario.yaml", "summary.json", "final.npz",
    "objective.png", "accuracy.png", "consensus.png", "timeline.png",
)  # fmt: skip

# The columns that every row of a table has; the metrics that apply come on top.
_BASE: dict[str, dict[str, str]] = {
    "rounds": {"round": "int64", "sim_time_s": "float64", "host_time_s": "float64", "wire_bytes": "int64",
               "messages": "int64"},
    "nodes": {"node": "int64", "role": "str", "oracle": "str", "compute_s": "float64",
              "exposed_comm_s": "float64", "idle_s": "float64", "finish_s": "float64", "reports": "int64",
              "sent_bytes": "int64", "received_bytes": "int64"},
    "links": {"source": "int64", "target": "int64", "messages": "int64", "lost_messages": "int64",
              "payload_bytes": "int64", "index_bytes": "int64", "header_bytes": "int64",
              "retransmitted_bytes": "int64", "acknowledgement_bytes": "int64", "wire_bytes": "int64"},
    "messages": {"exchange": "int64", "source": "int64", "target": "int64", "sent_s": "float64",
                 "arrived_s": "float64", "bytes": "int64", "attempts": "int64", "delivered": "int64"},
    "spans": {"node": "int64", "kind": "str", "start_s": "float64", "end_s": "float64", "round": "int64"},
}  # fmt: skip


@dataclass(frozen=True)
class Record:
    """What a run left behind. Each table maps column names to arrays of shape (R,); a missing number is NaN.

    `rounds` has one row per evaluation; `nodes` and `links` one per node and per directed link (empty for a
    run that never ended); `messages` and `spans` are empty unless the scenario asked for them. `final` maps
    the name of a reported value to its last state, shape (N, D). `outcome` says how the run ended, in words.
    """

    header: dict[str, Any]
    rounds: Columns
    nodes: Columns
    links: Columns
    messages: Columns
    spans: Columns
    summary: dict[str, Any]
    final: dict[str, np.ndarray] = field(repr=False)
    scenario: str = field(repr=False)
    directory: Path | None
    outcome: str

    @property
    def ended(self) -> Outcome:
        """The named outcome; `.advice` says what to try next."""
        return Outcome(self.outcome.partition(":")[0])

    def reached(self, metric: str, value: float) -> dict[str, Any] | None:
        """The first row at which `metric` is as good as `value`: its round, wire_bytes and sim_time_s, or None.

        `accuracy` and its kin are to rise, all other metrics to fall. Raises InputError if there is no such metric.
        """
        return first_reached(self.rounds, metric, value)

    @classmethod
    def load(cls, directory: str | Path) -> Record:
        """Open the record in `directory`, also one whose run was interrupted or is still under way.

        A run that never wrote its end reads `interrupted: killed after round r`.
        Raises DataError where there is no record, or where it cannot be read.
        """
        directory = Path(directory)
        path = directory / _FILE
        if not path.is_file():
            raise DataError(f"{directory} is no record: {_no_record(directory)}")
        try:
            connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
            try:
                damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                if damage != "ok":
                    raise DataError(f"{path} is corrupt: {damage}; {_CURE}")
                return _read(connection, directory)
            finally:
                connection.close()
        except (sqlite3.DatabaseError, json.JSONDecodeError, KeyError) as error:
            raise DataError(f"{path} cannot be read as a record ({error}); {_CURE}") from error

    def save(self, directory: str | Path, *, overwrite: bool = False) -> Record:
        """Write this record, e.g. one that was kept in memory, to `directory`, and open that."""
        with RecordWriter(Path(directory), self.header, self.scenario, overwrite=overwrite) as writer:
            for name in _BASE:
                writer.append(name, getattr(self, name))
            if self.summary.get("outcome"):
                writer.finish(self.ended, self.summary, self.final, text=self.outcome)
            else:
                writer.end(self.outcome)
        return Record.load(directory)


def rises(metric: str) -> bool:
    """Whether more of `metric` is better."""
    return metric.startswith("accuracy")


def first_reached(rounds: Columns, metric: str, value: float) -> dict[str, Any] | None:
    """As `Record.reached`, from the columns of `rounds` (each of shape (R,))."""
    if metric not in rounds:
        raise InputError(f"there is no metric {metric!r} to reach{nearest(metric, rounds)}")
    good = rounds[metric] >= value if rises(metric) else rounds[metric] <= value
    if not good.any():
        return None
    row = int(np.argmax(good))
    found = {name: rounds[name][row].item() for name in ("round", "wire_bytes", "sim_time_s") if name in rounds}
    return {"value": value, **found}


_CURE = "run the scenario again, or restore the file from a copy"


def _no_record(directory: Path) -> str:
    if not directory.exists():
        return "there is no such directory"
    if not directory.is_dir():
        return "it is a file; a record is a directory"
    inner = sorted(p.parent.name for p in directory.glob(f"*/{_FILE}"))
    if inner:
        return f"it holds the records {', '.join(inner[:8])}{' ...' if len(inner) > 8 else ''}; name one of them"
    return f"it has no {_FILE}; 'simnet run SCENARIO --out {directory}' would write one"


class RecordWriter:
    """Writes one run. Also a context manager, which names the outcome of a run that an exception ended.

    `directory` None keeps the record in memory; `header` takes seed, versions, device, threads, tier, cost
    source and what else describes the run; `scenario_text` is the resolved scenario. Raises InputError if the
    directory already holds a record and `overwrite` is not set, or cannot be written.
    """

    def __init__(
        self,
        directory: Path | None,
        header: Mapping[str, Any],
        scenario_text: str,
        *,
        overwrite: bool = False,
    ) -> None:
        self.directory = None if directory is None else Path(directory)
        self._final: dict[str, np.ndarray] = {}
        self._columns: dict[str, list[str]] = {}
        self._ended = False
        if self.directory is None:
            self._db = sqlite3.connect(":memory:")
        else:
            _make_room(self.directory, overwrite)
            _write_atomically(self.directory / "scenario.yaml", scenario_text.encode())
            self._db = sqlite3.connect(self.directory / _FILE)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
        with self._db:
            self._db.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT)")
        self._put(schema=SCHEMA, header=dict(header), scenario=scenario_text, status="running")

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._ended and error is not None:
            self.end(_outcome_text(error, self.last_round))
        self.close()

    # ---- rows ----------------------------------------------------------------------------------------------

    def rounds(self, rows: Rows) -> None:
        """Append evaluations; they are on disk when this returns."""
        self.append("rounds", rows)

    def nodes(self, rows: Rows) -> None:
        """Append one row per node: where its time and bytes went."""
        self.append("nodes", rows)

    def links(self, rows: Rows) -> None:
        """Append one row per directed link: the ledger."""
        self.append("links", rows)

    def messages(self, rows: Rows) -> None:
        """Append messages, best as columns: `{"source": array, ...}`."""
        self.append("messages", rows)

    def spans(self, rows: Rows) -> None:
        """Append spans of time at a node: kind `compute`, `send` or `wait`, from start_s to end_s."""
        self.append("spans", rows)

    def append(self, table: str, rows: Rows) -> None:
        """Append and commit rows to `table`: a list of mappings, or one mapping from names to columns.

        A column seen for the first time is added; rows that lack it read as NaN.
        """
        names, values = _as_tuples(rows)
        if not names:
            return
        with self._db:
            self._make_columns(table, names)
            marks = ", ".join("?" * len(names))
            self._db.executemany(f"INSERT INTO {table} ({_listed(names)}) VALUES ({marks})", values)

    def _make_columns(self, table: str, names: Iterable[str]) -> None:
        known = self._columns.get(table)
        if known is None:
            known = list(_BASE[table])
            self._db.execute(f"CREATE TABLE {table} ({_listed(known)})")
        for name in names:
            if name not in known:
                self._db.execute(f"ALTER TABLE {table} ADD COLUMN {_listed([name])}")
                known = [*known, name]
        self._columns[table] = known

    # ---- the run as a whole --------------------------------------------------------------------------------

    @property
    def last_round(self) -> int | None:
        """The newest round that is on disk; None before the first."""
        return _last_round(self._db)

    def status(self, text: str) -> None:
        """Say what the run is doing, for whoever opens the record meanwhile."""
        self._put(status=text)

    def describe(self, **header: Any) -> None:
        """Add to the header what was not known at the start, such as `log_hash`."""
        self._put(header={**json.loads(_meta(self._db)["header"]), **header})

    def finish(
        self, outcome: Outcome, summary: Mapping[str, Any], final: Mapping[str, np.ndarray], *, text: str = ""
    ) -> None:
        """Write the end of the run: its outcome (in words: `text`), its summary and its last values.

        `final` is kept on disk where it takes at most 64 MB. The outcome is committed last, so that a record
        that says `finished` is whole. `log_hash` and `tier` of the summary also go to the header.
        """
        text = text or outcome.value
        summary = {**summary, "outcome": summary.get("outcome", text)}
        self._final = {name: np.asarray(value) for name, value in final.items()}
        if self.directory is not None:
            if 0 < sum(value.nbytes for value in self._final.values()) <= FINAL_LIMIT_BYTES:
                _save_arrays(self.directory / "final.npz", self._final)
            shown = json.dumps(_plain(summary, finite=True), indent=2, allow_nan=False)
            _write_atomically(self.directory / "summary.json", shown.encode() + b"\n")
        self.describe(**{name: summary[name] for name in ("log_hash", "tier") if summary.get(name) is not None})
        self._put(summary=summary, outcome=text, status="ended")
        self._ended = True

    def end(self, text: str) -> None:
        """Write how the run ended where there is no summary; `text` begins with the name of an Outcome."""
        Outcome(text.partition(":")[0])  # a name that is no outcome is a mistake of the caller
        self._put(outcome=text, status="ended")
        self._ended = True

    def record(self) -> Record:
        """The record as it stands now."""
        return _read(self._db, self.directory, self._final)

    def close(self) -> None:
        """Close the file. Without `finish` or `end` before, the record reads as killed."""
        if self.directory is not None and self._ended:
            try:  # one plain file, for read-only media too; a reader who looks on prevents it
                self._db.execute("PRAGMA journal_mode=DELETE")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
        self._db.close()

    def _put(self, **values: Any) -> None:
        with self._db:
            for name, value in values.items():
                self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json.dumps(_plain(value))))


def _outcome_text(error: BaseException, last_round: int | None) -> str:
    where = "before the first round" if last_round is None else f"after round {last_round}"
    if isinstance(error, RunError):
        return f"{error.outcome.value}: {error}"
    if isinstance(error, MemoryError):
        return f"{Outcome.TOO_LARGE.value}: out of memory {where}"
    if isinstance(error, KeyboardInterrupt):
        return f"{Outcome.INTERRUPTED.value}: stopped by the user {where}"
    return f"{Outcome.INTERRUPTED.value}: {type(error).__name__} {where}: {error}"


# ---- reading -----------------------------------------------------------------------------------------------


def _meta(db: sqlite3.Connection) -> dict[str, str]:
    return dict(db.execute("SELECT name, value FROM meta").fetchall())


def _last_round(db: sqlite3.Connection) -> int | None:
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'rounds'").fetchone():
        return None
    newest = db.execute("SELECT max(round) FROM rounds").fetchone()[0]
    return None if newest is None else int(newest)


def _read(db: sqlite3.Connection, directory: Path | None, final: dict[str, np.ndarray] | None = None) -> Record:
    meta = {name: json.loads(value) for name, value in _meta(db).items()}
    if meta["schema"] != SCHEMA:
        raise DataError(
            f"{directory}: the record has layout {meta['schema']}, this simnet reads {SCHEMA}; run it again"
        )
    last = _last_round(db)
    killed = "interrupted: killed " + ("before the first round" if last is None else f"after round {last}")
    return Record(
        header=meta["header"],
        **{name: _read_table(db, name) for name in _BASE},
        summary=meta.get("summary", {}),
        final=_load_arrays(directory) if final is None else final,
        scenario=meta["scenario"],
        directory=directory,
        outcome=meta.get("outcome", killed),
    )


def _read_table(db: sqlite3.Connection, table: str) -> Columns:
    kinds = _BASE[table]
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


def _load_arrays(directory: Path | None) -> dict[str, np.ndarray]:
    if directory is None or not (directory / "final.npz").is_file():
        return {}
    try:
        with (directory / "final.npz").open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{directory / 'final.npz'} is corrupt ({error}); {_CURE}") from error


# ---- writing -----------------------------------------------------------------------------------------------


def _listed(names: Iterable[str]) -> str:
    return ", ".join('"' + name.replace('"', '""') + '"' for name in names)


def _as_tuples(rows: Rows) -> tuple[list[str], Iterable[tuple[Any, ...]]]:
    if isinstance(rows, Mapping):
        columns = {name: np.asarray(column).tolist() for name, column in rows.items()}
        return list(columns), zip(*columns.values(), strict=True)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return names, [tuple(_plain(row.get(name)) for name in names) for row in rows]


def _plain(value: Any, finite: bool = False) -> Any:
    """`value` with numpy numbers and arrays turned into Python's, for JSON and sqlite."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item, finite) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, finite) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist(), finite)
    if isinstance(value, Outcome):
        return value.value
    if isinstance(value, bool):
        return value
    if finite and isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _make_room(directory: Path, overwrite: bool) -> None:
    if (directory / _FILE).exists() and not overwrite:
        raise InputError(
            f"{directory} already holds a record; name another directory, delete it, or ask to overwrite it"
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in _OWN_FILES:
            (directory / name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{directory} cannot be written ({error.strerror}); name another directory") from error


def _save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
    os.replace(part, path)


def _write_atomically(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, path)
