"""One run on disk: rows are committed as they come, so that a killed run keeps what it had reported.

    directory/
    ├── scenario.yaml     the scenario as it was run, every default filled in
    ├── record.sqlite     write-ahead logged; tables meta, rounds, nodes, links, messages, spans, durations
    ├── summary.json      the end of the run, written last (numbers that are not finite become null)
    ├── final.npz         the last values of every node that never left for good, where they take at most 64 MB
    └── *.png             plots, by `simnet.analysis.plot.save_plots`

A row that was committed survives the end of the process in any form, kill -9 included; a power cut may cost
the newest rows, never the file. `RecordWriter(None, ...)` keeps everything in memory behind the same
interface.

Shapes: R rows of a table, N nodes, D parameters.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from simnet.errors import DataError, InputError, Outcome, RunError, nearest
from simnet.storage import (
    BASE,
    CURE,
    Columns,
    Rows,
    Tables,
    last_round,
    load_arrays,
    make_meta,
    plain,
    put_meta,
    read_meta,
    read_table,
    save_arrays,
    write_atomically,
)

SCHEMA = 1
FINAL_LIMIT_BYTES = 64_000_000
_FILE = "record.sqlite"
_OWN_FILES = (
    _FILE, f"{_FILE}-wal", f"{_FILE}-shm", f"{_FILE}-journal", "scenario.yaml", "summary.json", "final.npz",
    "objective.png", "accuracy.png", "consensus.png", "timeline.png",
)  # fmt: skip


@dataclass(frozen=True)
class Record:
    """What a run left behind. Each table maps column names to arrays of shape (R,); a missing number is NaN.

    `rounds` has one row per evaluation; `nodes` and `links` one per node and per directed link (empty for a
    run that never ended); `messages` and `spans` are empty unless the scenario asked for them, and `durations` (of
    every call of an oracle, before jitter) but for measured runs. `final` maps
    the name of a reported value to its last state, shape (N, D). `outcome` says how the run ended, in words.
    """

    header: dict[str, Any]
    rounds: Columns
    nodes: Columns
    links: Columns
    messages: Columns
    spans: Columns
    durations: Columns
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
                connection.execute("BEGIN")  # one state of the file, though a run may be writing to it
                damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                if damage != "ok":
                    raise DataError(f"{path} is corrupt: {damage}; {CURE}")
                return _read(connection, directory)
            finally:
                connection.close()
        except (sqlite3.DatabaseError, json.JSONDecodeError, KeyError) as error:
            raise DataError(f"{path} cannot be read as a record ({error}); {CURE}") from error

    def save(self, directory: str | Path, *, overwrite: bool = False) -> Record:
        """Write this record, e.g. one that was kept in memory, to `directory`, and open that."""
        with RecordWriter(Path(directory), self.header, self.scenario, overwrite=overwrite) as writer:
            for name in BASE:
                writer.append(name, getattr(self, name))
            if self.summary.get("outcome"):
                writer.finish(self.ended, self.summary, self.final, text=self.outcome)
            else:
                writer.end(self.outcome)
        return Record.load(directory)


def rises(metric: str) -> bool:
    """Whether more of `metric` is better."""
    return metric.startswith(("accuracy", "label_auc"))


def first_reached(rounds: Columns, metric: str, value: float) -> dict[str, Any] | None:
    """As `Record.reached`, from the columns of `rounds` (each of shape (R,))."""
    if metric not in rounds:
        raise InputError(f"there is no metric {metric!r} to reach{nearest(metric, rounds)}")
    slack = 1e-6 * abs(value)  # 324 of 360 right is an accuracy of 0.9, also when counted in single precision
    good = rounds[metric] >= value - slack if rises(metric) else rounds[metric] <= value + slack
    if not good.any():
        return None
    row = int(np.argmax(good))
    names = ("round", "wire_bytes", "sim_time_s", "gossip_rounds")
    place: dict[str, Any] = {name: rounds[name][row].item() for name in names if name in rounds}
    return {"value": value, **place}


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
        self._ended = False
        if self.directory is None:
            self._db = sqlite3.connect(":memory:")
        else:
            _make_room(self.directory, overwrite)
            write_atomically(self.directory / "scenario.yaml", scenario_text.encode())
            self._db = sqlite3.connect(self.directory / _FILE)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
        self._tables = Tables(self._db)
        make_meta(self._db)
        self._put(schema=SCHEMA, header=dict(header), scenario=scenario_text, status="running")

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._ended and error is not None:
            self.end(_outcome_text(error, self.last_round))
        self.close()

    # ---- rows ------------------------------------------------------------------------------------------------------

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

    def durations(self, rows: Rows) -> None:
        """Append measured calls of oracles: node, its call's number, oracle, seconds."""
        self.append("durations", rows)

    def append(self, table: str, rows: Rows) -> None:
        """Append and commit rows to `table`: a list of mappings, or one mapping from names to columns.

        A column seen for the first time is added; rows that lack it read as NaN.
        """
        self._tables.append(table, rows)

    def restart(self) -> None:
        """Forget the rounds written so far: the run begins again, by other means."""
        self._tables.clear("rounds")

    # ---- the run as a whole ----------------------------------------------------------------------------------------

    @property
    def last_round(self) -> int | None:
        """The newest round that is on disk; None before the first."""
        return last_round(self._db)

    def status(self, text: str) -> None:
        """Say what the run is doing, for whoever opens the record meanwhile."""
        self._put(status=text)

    def describe(self, **header: Any) -> None:
        """Add to the header what was not known at the start, such as `log_hash`."""
        self._put(header={**read_meta(self._db)["header"], **header})

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
                save_arrays(self.directory / "final.npz", self._final)
            shown = json.dumps(plain(summary, finite=True), indent=2, allow_nan=False)
            write_atomically(self.directory / "summary.json", shown.encode() + b"\n")
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
        put_meta(self._db, values)


def _outcome_text(error: BaseException, last_round: int | None) -> str:
    where = "before the first round" if last_round is None else f"after round {last_round}"
    if isinstance(error, RunError):
        return f"{error.outcome.value}: {error}"
    if isinstance(error, MemoryError):
        return f"{Outcome.TOO_LARGE.value}: out of memory {where}"
    if isinstance(error, KeyboardInterrupt):
        return f"{Outcome.INTERRUPTED.value}: stopped by the user {where}"
    return f"{Outcome.INTERRUPTED.value}: {type(error).__name__} {where}: {error}"


# ---- reading -------------------------------------------------------------------------------------------------------


def _read(db: sqlite3.Connection, directory: Path | None, final: dict[str, np.ndarray] | None = None) -> Record:
    meta = read_meta(db)
    if meta["schema"] != SCHEMA:
        raise DataError(
            f"{directory}: the record has layout {meta['schema']}, this simnet reads {SCHEMA}; run it again"
        )
    last = last_round(db)
    killed = "interrupted: killed " + ("before the first round" if last is None else f"after round {last}")
    return Record(
        header=meta["header"],
        **{name: read_table(db, name) for name in BASE},
        summary=meta.get("summary", {}),
        final=(load_arrays(directory / "final.npz") if directory else {}) if final is None else final,
        scenario=meta["scenario"],
        directory=directory,
        outcome=meta.get("outcome", killed),
    )


def _make_room(directory: Path, overwrite: bool) -> None:
    if (directory / _FILE).exists() and not overwrite:
        raise InputError(f"{directory} already holds a record; name another directory, or replace it with --overwrite")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in _OWN_FILES:
            (directory / name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{directory} cannot be written ({error.strerror}); name another directory") from error
