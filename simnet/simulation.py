"""One attempt at a run: it hears of reports, evaluates, decides when to stop, and writes the record's end."""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from simnet.book import Book
from simnet.errors import Diverged, Outcome, ProgramError, RunError
from simnet.prepare import Plan
from simnet.record import Record, RecordWriter, first_reached
from simnet.recording import Recording
from simnet.timeplane.account import Account
from simnet.timeplane.arrays import ArraysPlane
from simnet.timeplane.walker import Walker

Progress = Callable[[dict[str, Any]], None]


class Simulation:
    """One attempt at a run: hears of reports, evaluates, decides when to stop, and writes the record's end."""

    def __init__(
        self, plan: Plan, book: Book, values: Any, tier: str, kind: str, writer: RecordWriter, progress: Progress | None
    ) -> None:
        self.plan, self.book, self.values, self.tier, self.kind = plan, book, values, tier, kind
        self.writer, self.progress = writer, progress
        scenario = plan.scenario
        self.estimating: bool = values.name == "none"
        until = scenario.stop.sim_time
        self.account = Account(
            book, messages=scenario.record.messages, timeline=scenario.record.timeline,
            until=np.inf if until is None else float(until),
        )  # fmt: skip
        self.recordings = self._recordings()
        programs = plan.algorithm.programs()
        self.reporting = [
            r for r in self.recordings if len(programs) == 1 or _reports(programs[r.role], plan.algorithm, set())
        ]
        self.outcome, self.text = Outcome.FINISHED, ""
        self.last_row: dict[str, Any] = {}
        self.final: dict[str, np.ndarray] = {}
        self._rows: dict[str, list[float]] = {}
        self._made: dict[int, dict[int, np.ndarray]] = {}  # report -> recording -> times of its members
        self._partial: list[tuple[Recording, int, np.ndarray]] = []
        self._began = time.perf_counter()
        self._told = 0.0
        self._collected = self._began
        self._interrupted = False

    def _recordings(self) -> list[Recording]:
        programs, members = self.plan.algorithm.programs(), self.book.members
        if self.tier != "processes":
            return [Recording(self.book, role, members[role], programs[role], i) for i, role in enumerate(programs)]
        hosts = sorted((int(h), role) for role in programs for h in members[role])
        return [Recording(self.book, role, np.array([h]), programs[role], i) for i, (h, role) in enumerate(hosts)]

    def run(self) -> Record:
        """Walk the programs to their end, or to the cut, and finish the record."""
        plane: Any
        if self.tier == "arrays":
            plane = ArraysPlane(self.book, self.recordings[0], self.account, self.values, self)
        elif self.tier == "compiled":
            from simnet.timeplane.events import CompiledWalker  # numba is imported where it is needed

            plane = CompiledWalker(self.book, self.recordings[0], self.account, self.values, self)
        else:
            items = self.values if self.kind == "items" or self.estimating else None
            plane = Walker(self.book, self.recordings, self.account, self.values, self, items)
        collecting = gc.isenabled()
        gc.disable()  # recording makes millions of small objects and no cycles; see `_breathe`
        try:
            with self._interruptible():
                plane.run()
                if self.outcome is Outcome.FINISHED:
                    self._after(plane)
            if self.outcome is Outcome.FINISHED and not any(r.reports for r in self.reporting):
                raise ProgramError(
                    f"{type(self.plan.algorithm).__name__} ended without a report: end each round with node.report(x=x)"
                )
        except RunError as error:
            self.outcome, self.text = error.outcome, f"{error.outcome.value}: {error}"
        except MemoryError as error:
            self.outcome, self.text = Outcome.TOO_LARGE, f"{Outcome.TOO_LARGE.value}: {str(error) or 'out of memory'}"
        finally:
            if collecting:
                gc.enable()
        return self._finish()

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Ctrl-C counts even where Python drops it: an exception raised inside a `__del__` (and Values have one) is
        printed and forgotten. The next report sees the mark that this handler leaves.
        """
        ours = threading.current_thread() is threading.main_thread()
        if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return

        def mark(number: int, frame: Any) -> None:
            self._interrupted = True
            signal.default_int_handler(number, frame)

        signal.signal(signal.SIGINT, mark)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _breathe(self) -> None:
        """Between rounds: hear an interrupt, and once a second clear away the cycles that torch's transforms leave."""
        if self._interrupted:
            raise KeyboardInterrupt
        now = time.perf_counter()
        if now - self._collected > 1.0:
            self._collected = now
            gc.collect(0)

    # ---- reports ---------------------------------------------------------------------------------------------------

    def reported(self, recording: Recording, index: int, times: np.ndarray) -> bool:
        """All members of a recording have made report `index`; True to stop the run there."""
        self._breathe()
        if (times > self.account.until).any():
            self._partial.append((recording, index, times))
            return False
        made = self._made.setdefault(index, {})
        made[recording.index_] = times
        if len(made) < len(self.reporting):
            return False
        del self._made[index]
        latest = max(float(t.max()) for t in made.values())
        stop = self._stops(index)
        if self.book.evaluated(index) or stop:
            self._row(index, latest, self._bytes(index), self._states(index))
            stop = stop or self._meets_targets()
        for r in self.reporting:
            if not self.book.pin_all or self.account.until == np.inf:
                r.reports[index].values = {}
            elif index:
                r.reports[index - 1].values = {}
        self._forget(index)
        self._tell(index, latest)
        return stop

    def _bytes(self, index: int) -> int:
        """Bytes on the wire of rounds up to a report's."""
        return int(sum(self.account.ledger.round_bytes[: index + 1]))

    def _stops(self, index: int) -> bool:
        limit = self.plan.scenario.stop.bytes
        if limit is not None and self._bytes(index) >= limit:
            self.outcome = Outcome.BYTES_LIMIT
            return True
        return False

    def _meets_targets(self) -> bool:
        scenario = self.plan.scenario
        if not (scenario.stop.at_target and scenario.target):
            return False
        columns = {name: np.array(column) for name, column in self._rows.items()}
        known = all(metric in columns for metric in scenario.target)
        if known and all(first_reached(columns, metric, v) for metric, v in scenario.target.items()):
            self.outcome = Outcome.TARGET_REACHED
            return True
        return False

    def _forget(self, index: int) -> None:
        if self.kind == "items" and self.account.until == np.inf:
            for r in self.reporting:
                for m in range(len(r.members)):
                    self.values.forget(r, m, index + 1)

    def _states(self, index: int) -> dict[str, Any]:
        """What was reported: name -> tensor of all reporting members (or a tuple of such)."""
        if self.estimating:
            return {}
        if self.kind == "items":
            return self._stack({(r.index_, m): index for r in self.reporting for m in range(len(r.members))})
        recording = self.reporting[0]
        report = recording.reports[index]
        self.values.catch_up(recording, report.mark)
        return {
            name: tuple(self.values.value(recording, v.id) for v in given)
            if isinstance(given, tuple | list)
            else self.values.value(recording, given.id)
            for name, given in report.values.items()
        }

    def _stack(self, which: Mapping[tuple[int, int], int]) -> dict[str, Any]:
        """States of the reporting hosts, ascending, each from its own report."""
        import torch

        hosts = sorted((int(r.members[m]), i, m) for i, r in enumerate(self.reporting) for m in range(len(r.members)))
        members = [(self.reporting[i], m) for _, i, m in hosts]
        found = [self.values.report_of(r, m, which[r.index_, m]) for r, m in members]
        names = found[0] if found else {}
        return {
            name: tuple(torch.stack([f[name][k] for f in found]) for k in range(len(names[name])))
            if isinstance(names[name], tuple)
            else torch.stack([f[name] for f in found])
            for name in names
        }

    def _row(self, index: int, sim_time_s: float, wire_bytes: int, states: dict[str, Any]) -> None:
        """Evaluate, and write a row of the record."""
        row: dict[str, Any] = {
            "round": index + 1,
            "sim_time_s": sim_time_s,
            "wire_bytes": wire_bytes,
            "messages": int(sum(self.account.ledger.round_messages[: index + 1])),
        }
        if "x" in states:
            row |= self._evaluate(states)
            self.final = {name: _to_numpy(v) for name, v in states.items() if not isinstance(v, tuple)}
        row["host_time_s"] = time.perf_counter() - self._began
        self.writer.rounds([row])
        self.last_row = row
        for name, value in row.items():
            self._rows.setdefault(name, []).append(value)
        if "objective" in row and not np.isfinite(row["objective"]):
            raise Diverged(f"the objective is {row['objective']} after round {index + 1}; "
                           f"{Outcome.DIVERGED.advice}")  # fmt: skip

    def _evaluate(self, states: dict[str, Any]) -> dict[str, float]:
        from simnet.metrics import evaluate

        hosts = np.sort(np.concatenate([r.members for r in self.reporting]))
        ranks = self.book.rank_n[hosts]
        nodes = ranks.tolist() if (ranks >= 0).all() else []  # a server's x belongs to no node's own objective
        trackers = None
        if "tracker" in states and "estimate" in states:
            p, u = states["tracker"], states["estimate"]
            trackers = list(zip(p, u, strict=True)) if isinstance(p, tuple) else [(p, u)]
        return evaluate(self.plan.problem, states["x"], trackers=trackers, nodes=nodes)

    def _tell(self, index: int, sim_time_s: float) -> None:
        now = time.perf_counter()
        if self.progress is None or (now - self._told < 0.1 and index + 1 < self.plan.scenario.rounds):
            return
        self._told = now
        event = {"round": index + 1, "rounds": self.plan.scenario.rounds, "sim_time_s": sim_time_s,
                 "wire_bytes": self._bytes(index), "messages": self.account.ledger.messages}  # fmt: skip
        if "objective" in self.last_row:
            event["objective"] = self.last_row["objective"]
        self.progress(event)

    # ---- the end ---------------------------------------------------------------------------------------------------

    def _after(self, plane: Any) -> None:
        """At a cut by time: the row of each node's own last report."""
        until = self.account.until
        if until == np.inf:
            return
        if not isinstance(plane, ArraysPlane):
            by_index = {r.index_: r for r in self.recordings}
            for (recording, index), times in sorted(plane.times.items()):
                self._partial.append((by_index[recording], index, times))
        made = [(r, i, times) for r, i, times in self._partial if (times <= until).any()]
        finished = self.last_row.get("round") == self.plan.scenario.rounds
        if finished:
            return
        self.outcome = Outcome.TIME_LIMIT
        fewest = int(min(self.account.reports_n[h] for r in self.reporting for h in r.members))
        if fewest == 0:
            self.text = f"{Outcome.TIME_LIMIT.value}: no node of the slowest had finished its first round"
        states = self._cut_states(made, until) if fewest else {}
        if fewest:
            self._row(fewest - 1, until, self.account.ledger.wire_bytes, states)

    def _cut_states(self, made: list[tuple[Recording, int, np.ndarray]], until: float) -> dict[str, Any]:
        """Each node's state as of its own last report before the cut."""
        if self.estimating:
            return {}
        if self.kind == "items":
            last = {(r.index_, m): int(self.account.reports_n[h]) - 1 for r in self.reporting
                    for m, h in enumerate(r.members)}  # fmt: skip
            return self._stack(last)
        recording = self.reporting[0]
        reports = self.account.reports_n[recording.members]
        whole = int(reports.min()) - 1
        states = {n: _copied(v) for n, v in self._states(whole).items()}
        for r, index, times in sorted(made, key=lambda entry: entry[1]):
            rows = np.flatnonzero(times <= until)
            for name, value in self._states(index).items():
                _overwrite(states[name], value, rows)
            r.reports[index].values = {}
        return states

    def _finish(self) -> Record:
        account, writer, network = self.account, self.writer, self.book.network
        by_link = account.ledger.by_link()
        numbered = all(isinstance(h, int) for h in network.node_names)
        names = network.node_names if numbered else [str(h) for h in network.node_names]
        ends = {"source": [names[i] for i in network.link_source], "target": [names[i] for i in network.link_target]}
        writer.links({**ends, **by_link})
        sent = np.bincount(network.link_source, by_link["wire_bytes"], len(names))[: network.n]
        received = np.bincount(network.link_target, by_link["wire_bytes"], len(names))[: network.n]
        writer.nodes(
            {
                "node": names[: network.n], "role": self.book.role_of().tolist(),
                "oracle": np.where(self.book.zo_n, "zo", "fo").tolist(), "compute_s": account.compute_s,
                "exposed_comm_s": account.comm_s, "idle_s": account.idle_s, "finish_s": account.finish_s,
                "reports": account.reports_n, "sent_bytes": sent, "received_bytes": received,
            }
        )  # fmt: skip
        if account.message_rows:
            writer.messages(
                [{**m, "source": names[m["source"]], "target": names[m["target"]]} for m in account.message_rows]
            )
        if account.spans:
            columns = [list(column) for column in zip(*account.spans, strict=True)]
            columns[0] = [names[i] for i in columns[0]]
            writer.spans(dict(zip(("node", "kind", "start_s", "end_s", "round"), columns, strict=True)))
        writer.finish(self.outcome, self._summary(), self.final, text=self.text)
        return writer.record()

    def _summary(self) -> dict[str, Any]:
        account, row = self.account, self.last_row
        host = time.perf_counter() - self._began
        skipped = {"round", "sim_time_s", "wire_bytes", "messages", "host_time_s"}
        return {
            "sim_time_s": row.get("sim_time_s", float(account.finish_s.max())),
            "host_time_s": host,
            "rounds": row.get("round", 0),
            "wire_bytes": account.ledger.wire_bytes,
            "nominal_bits": account.ledger.nominal_bits,
            "messages": account.ledger.messages,
            "lost_messages": account.ledger.lost_messages,
            "bytes_by_kind": account.ledger.by_kind(),
            "compute_s": float(account.compute_s.sum()),
            "exposed_comm_s": float(account.comm_s.sum()),
            "idle_s": float(account.idle_s.sum()),
            "events_per_s": account.events / host if host > 0 else 0.0,
            "tier": self.tier,
            "executor": self.values.name,
            "log_hash": account.log_hash(),
            "targets": self._targets(),
            **{name: value for name, value in row.items() if name not in skipped},
        }

    def _targets(self) -> dict[str, Any]:
        columns = {name: np.array(column) for name, column in self._rows.items()}
        out: dict[str, Any] = {}
        for metric, value in self.plan.scenario.target.items():
            hit = first_reached(columns, metric, value) if metric in columns else None
            out[metric] = {"target": value, **(hit or {"round": None})}
        return out


def _reports(program: Callable[..., Any], algorithm: Any, seen: set[str]) -> bool:
    """Whether a role's text, or a method or function that it calls, makes reports (a client's makes none)."""
    names = set(program.__code__.co_names) - seen
    seen |= names
    if "report" in names:
        return True
    globals_ = getattr(program, "__globals__", {})
    called = [found for name in names for found in (getattr(algorithm, name, None), globals_.get(name))]
    return any(_reports(f, algorithm, seen) for f in called if callable(f) and hasattr(f, "__code__"))


def _to_numpy(v: Any) -> np.ndarray:
    array: np.ndarray = v.detach().to("cpu").numpy().copy()
    return array


def _copied(v: Any) -> Any:
    return tuple(t.clone() for t in v) if isinstance(v, tuple) else v.clone()


def _overwrite(target: Any, value: Any, rows: np.ndarray) -> None:
    pairs = zip(target, value, strict=True) if isinstance(target, tuple) else [(target, value)]
    for mine, theirs in pairs:
        mine[rows] = theirs[rows]
