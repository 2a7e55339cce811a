"""One attempt at a run: it hears of reports, evaluates, decides when to stop, and writes the record's end."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from simnet import grid
from simnet.algorithm import mentions
from simnet.book import Book
from simnet.ending import finish
from simnet.errors import Diverged, Interrupted, Outcome, ProgramError, RunError
from simnet.interrupt import Interrupt
from simnet.prepare import Plan
from simnet.record import Record, RecordWriter, first_reached
from simnet.recording import Recording
from simnet.storage import BASE
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
            r for r in self.recordings if len(programs) == 1 or mentions(programs[r.role], plan.algorithm, "report")
        ]
        self.outcome, self.text = Outcome.FINISHED, ""
        self.last_row: dict[str, Any] = {}
        self.final: dict[str, np.ndarray] = {}
        self.columns: dict[str, list[float]] = {}
        self._made: dict[int, dict[int, np.ndarray]] = {}  # report -> recording -> times of its members
        self.row = -1
        self._left: set[int] = set()  # recordings all of whose members have left for good
        self._partial: list[tuple[Recording, int, np.ndarray]] = []
        self.row_at = np.inf  # the time of the next row, where rows lie on a grid of time
        self.row_period = np.inf
        self.began = time.perf_counter()
        self._told = 0.0
        self._collected = self.began
        self.interrupt = Interrupt()
        self._pinned_from: int | None = None  # once interrupted: the first report whose values are sure to be kept

    def _recordings(self) -> list[Recording]:
        programs, members = self.plan.algorithm.programs(), self.book.members
        if self.tier != "processes":
            return [Recording(self.book, role, members[role], programs[role], i) for i, role in enumerate(programs)]
        hosts = sorted((int(h), role) for role in programs for h in members[role])
        return [Recording(self.book, role, np.array([h]), programs[role], i) for i, (h, role) in enumerate(hosts)]

    def run(self) -> Record:
        """Walk the programs to their end, or to the cut, and finish the record. Raises Interrupted, with the record in
        it, where Ctrl-C asked for the end.
        """
        plane: Any
        if self.tier == "arrays":
            plane = ArraysPlane(self.book, self.recordings[0], self.account, self.values, self)
        elif self.tier == "compiled" and self.book.on_grid:
            from simnet.timeplane.pairwise import PairwiseWalker

            plane = PairwiseWalker(self.book, self.recordings[0], self.account, self.values, self)
        elif self.tier == "compiled":
            from simnet.timeplane.events import CompiledWalker  # numba is imported where it is needed

            plane = CompiledWalker(self.book, self.recordings[0], self.account, self.values, self)
        else:
            items = self.values if self.kind != "lockstep" or self.estimating else None
            plane = Walker(self.book, self.recordings, self.account, self.values, self, items)
        collecting = gc.isenabled()
        gc.disable()  # recording makes millions of small objects and no cycles; see `_breathe`
        try:
            with self.interrupt.heard(watched=self.progress is not None):
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
        record = finish(self)
        if self.interrupt.asked:
            raise Interrupted(record)
        return record

    def _breathe(self) -> None:
        """Between rounds: hear an interrupt, and once a second clear away the cycles that torch's transforms leave."""
        if self.interrupt.asked and self._pinned_from is None:
            self.book.pin_all = True
            self._pinned_from = max(len(r.reports) for r in self.reporting)
        now = time.perf_counter()
        if now - self._collected > 1.0:
            self._collected = now
            gc.collect(0)

    # ---- reports ---------------------------------------------------------------------------------------------------

    def reported(self, recording: Recording, index: int, times: np.ndarray) -> bool:
        """All members of a recording that ever do have made report `index`, at `times` (infinite: left for good); True
        to stop the run at `row`.
        """
        self._breathe()
        if self.book.on_grid:
            if index == 0:
                grid.lay(self, float(times[times < np.inf].max()))
            self.tell(index, float(times[times < np.inf].max()))
            return False
        late = times > self.account.until
        if (late & ~(self.account.gone_n[recording.members] & (times == np.inf))).any():
            self._partial.append((recording, index, times))
            return False
        self._made.setdefault(index, {})[recording.index_] = times
        return self._complete()

    def left(self, recording: Recording) -> bool:
        """All members of a recording have left for good; True to stop the run at `row`."""
        self._left.add(recording.index_)
        return self._complete()

    def _complete(self) -> bool:
        """Tell of every report that all have made who ever will."""
        for index in sorted(self._made):
            made = self._made[index]
            if any(r.index_ not in made and r.index_ not in self._left for r in self.reporting):
                return False
            del self._made[index]
            self.row = index
            if self._told_all(index, made):
                return True
        return False

    def _told_all(self, index: int, made: dict[int, np.ndarray]) -> bool:
        """Everybody that ever does has made report `index`: a row of the record. True to stop there."""
        latest = max(float(t[t < np.inf].max()) for t in made.values())
        stop = self._stops(index)
        if self.book.evaluated(index) or stop:
            mixings = max(r.reports[index].mixings for r in self.reporting if r.index_ in made)
            self.write(index, latest, self._bytes(index), self._states(index, made), self._hosts(made), mixings=mixings)
            stop = stop or self._meets_targets()
        for r in (r for r in self.reporting if r.index_ in made):
            if not self.book.pin_all or self.account.until == np.inf:
                r.reports[index].values = {}
            elif index:
                r.reports[index - 1].values = {}
        self._forget(index)
        self.tell(index, latest)
        return stop

    def row_due(self, reports_n: Sequence[int]) -> bool:
        """The clock has come to `row_at`; each host has made `reports_n` reports. True to stop the run there."""
        self._breathe()
        stop = grid.due(self, reports_n)
        return stop or self._meets_targets()

    # ---- rows by round ---------------------------------------------------------------------------------------------

    def _bytes(self, index: int) -> int:
        """Bytes on the wire of rounds up to a report's."""
        return int(sum(self.account.ledger.round_bytes[: index + 1]))

    def _stops(self, index: int) -> bool:
        limit = self.plan.scenario.stop.bytes
        if limit is not None and self._bytes(index) >= limit:
            self.outcome = Outcome.BYTES_LIMIT
            return True
        known_from = np.inf if self._pinned_from is None else 0 if self.estimating else self._pinned_from
        if index >= known_from or (known_from < np.inf and self.book.evaluated(index)):
            self.stopped_by_user(index)
            return True
        return False

    def stopped_by_user(self, index: int) -> None:
        """The run ends with the row of report `index`, because of Ctrl-C."""
        self.outcome = Outcome.INTERRUPTED
        where = f"after round {index + 1}" if index >= 0 else "before the first round"
        self.text = f"{Outcome.INTERRUPTED.value}: stopped by the user {where}"

    def _meets_targets(self) -> bool:
        scenario = self.plan.scenario
        if not (scenario.stop.at_target and scenario.target):
            return False
        columns = {name: np.array(column) for name, column in self.columns.items()}
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

    def _hosts(self, made: Mapping[int, np.ndarray]) -> np.ndarray:
        """The hosts that have made a report, ascending; `made`: recording -> times, infinite for who has not."""
        return np.sort(np.concatenate([r.members[made[r.index_] < np.inf] for r in self.reporting if r.index_ in made]))

    def _states(self, index: int, made: Mapping[int, np.ndarray]) -> dict[str, Any]:
        """What was reported: name -> tensor of all members that reported (or a tuple of such)."""
        if self.estimating:
            return {}
        if self.kind == "items":
            return self.stack(
                {(i, m): index for i, times in made.items() for m in np.flatnonzero(times < np.inf).tolist()}
            )
        recording = self.reporting[0]
        report = recording.reports[index]
        self.values.catch_up(recording, report.mark)
        states = {
            name: tuple(self.values.value(recording, v.id) for v in given)
            if isinstance(given, tuple | list)
            else self.values.value(recording, given.id)
            for name, given in report.values.items()
        }
        there = made[recording.index_] < np.inf
        return states if there.all() else _chosen(states, np.flatnonzero(there))

    def stack(self, which: Mapping[tuple[int, int], int]) -> dict[str, Any]:
        """States of the reporting hosts, ascending, each from its own report."""
        hosts = sorted(
            (int(r.members[m]), i, m)
            for i, r in enumerate(self.reporting)
            for m in range(len(r.members))
            if (r.index_, m) in which
        )
        members = [(self.reporting[i], m) for _, i, m in hosts]
        states: dict[str, Any] = self.values.stacked([(r, m, which[r.index_, m]) for r, m in members])
        return states

    def write(
        self, index: int, sim_time_s: float, wire_bytes: int, states: dict[str, Any], hosts: np.ndarray,
        messages: int | None = None, mixings: int = 0,
    ) -> None:  # fmt: skip
        """Evaluate, and write a row of the record."""
        if messages is None:
            messages = sum(self.account.ledger.round_messages[: index + 1])
        row: dict[str, Any] = {
            "round": index + 1,
            "sim_time_s": sim_time_s,
            "wire_bytes": wire_bytes,
            "messages": int(messages),
        }
        if mixings:
            row["gossip_rounds"] = mixings
        if self.account.departures:
            row["nodes"] = len(hosts)
        watched = "objective" if self.plan.problem.has_objective else "upper_loss"
        if "x" in states and self.values.computes:
            row |= self._evaluate(states, hosts)
            if np.isfinite(row.get(watched, 0.0)):  # a diverged run keeps its last good states
                self.final = {name: _to_numpy(v) for name, v in states.items() if not isinstance(v, tuple)}
        row["host_time_s"] = time.perf_counter() - self.began
        if self.values.watch is not None:
            row["host_tensor_s"] = self.values.watch.seconds()
        self._keep_durations()
        self.writer.rounds([row])
        self.last_row = row
        for name, value in row.items():
            self.columns.setdefault(name, []).append(value)
        if watched in row and not np.isfinite(row[watched]):
            good = self.columns["round"][-2:-1]
            kept = f"the states of round {good[0]} are kept; " if good else ""
            raise Diverged(f"the {watched} is {row[watched]} after round {index + 1}; {kept}"
                           f"{Outcome.DIVERGED.advice}")  # fmt: skip

    def _keep_durations(self) -> None:
        """Write the measured calls of oracles so far."""
        calls = getattr(self.book.costs, "calls", None)
        if calls:
            self.writer.durations({name: [getattr(c, name) for c in calls] for name in BASE["durations"]})
            calls.clear()

    def _evaluate(self, states: dict[str, Any], hosts: np.ndarray) -> dict[str, float]:
        from simnet.metrics import evaluate_states

        ranks = self.book.rank_n[hosts]
        nodes = ranks.tolist() if (ranks >= 0).all() else []  # a server's x belongs to no node's own objective
        return evaluate_states(self.plan.problem, states, nodes)

    def tell(self, index: int, sim_time_s: float) -> None:
        now = time.perf_counter()
        if self.progress is None or (now - self._told < 0.1 and index + 1 < self.plan.scenario.rounds):
            return
        self._told = now
        sent = self.account.ledger.wire_bytes if self.book.on_grid else self._bytes(index)
        event = {"round": index + 1, "rounds": self.plan.scenario.rounds, "sim_time_s": sim_time_s,
                 "wire_bytes": sent, "messages": self.account.ledger.messages}  # fmt: skip
        if "objective" in self.last_row:
            event["objective"] = self.last_row["objective"]
        self.progress(event)

    # ---- the end ---------------------------------------------------------------------------------------------------

    def _after(self, plane: Any) -> None:
        """At a cut by time: the row of each node's own last report."""
        until = self.account.until
        if self.book.on_grid:
            ended = min(until, float(self.account.finish_s.max()))
            if self.last_row.get("sim_time_s", -1.0) < ended:
                grid.row(self, ended, self.account.reports_n.tolist())
            if plane.unfinished and until < np.inf:
                self.outcome = Outcome.TIME_LIMIT
            return
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
        there = {r.index_: ~self.account.gone_n[r.members] for r in self.reporting}
        if not any(each.any() for each in there.values()):
            return
        fewest = int(min(self.account.reports_n[r.members[there[r.index_]]].min() for r in self.reporting
                         if there[r.index_].any()))  # fmt: skip
        if fewest == 0:
            self.text = f"{Outcome.TIME_LIMIT.value}: no node of the slowest had finished its first round"
        if fewest:
            states = self._cut_states(made, until, there, fewest - 1)
            hosts = self._hosts({i: np.where(each, 0.0, np.inf) for i, each in there.items()})
            self.write(fewest - 1, until, self.account.ledger.wire_bytes, states, hosts)

    def _cut_states(
        self, made: list[tuple[Recording, int, np.ndarray]], until: float, there: dict[int, np.ndarray], whole: int
    ) -> dict[str, Any]:
        """Each remaining node's state as of its own last report before the cut; all have made report `whole`."""
        if self.estimating:
            return {}
        if self.kind == "items":
            last = {(r.index_, m): int(self.account.reports_n[h]) - 1 for r in self.reporting
                    for m, h in enumerate(r.members) if there[r.index_][m]}  # fmt: skip
            return self.stack(last)
        recording = self.reporting[0]
        all_of_them = {recording.index_: np.zeros(len(recording.members))}
        states = {n: _copied(v) for n, v in self._states(whole, all_of_them).items()}
        for r, index, times in sorted(made, key=lambda entry: entry[1]):
            rows = np.flatnonzero(times <= until)
            for name, value in self._states(index, all_of_them).items():
                _overwrite(states[name], value, rows)
            r.reports[index].values = {}
        remaining = there[recording.index_]
        return states if remaining.all() else _chosen(states, np.flatnonzero(remaining))


def _to_numpy(v: Any) -> np.ndarray:
    v = v.detach().to("cpu")
    array: np.ndarray = (v.float() if v.is_floating_point() and v.itemsize == 2 else v).numpy().copy()
    return array


def _chosen(states: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """Some members' rows of all states."""
    return {n: tuple(t[rows] for t in v) if isinstance(v, tuple) else v[rows] for n, v in states.items()}


def _copied(v: Any) -> Any:
    return tuple(t.clone() for t in v) if isinstance(v, tuple) else v.clone()


def _overwrite(target: Any, value: Any, rows: np.ndarray) -> None:
    pairs = zip(target, value, strict=True) if isinstance(target, tuple) else [(target, value)]
    for mine, theirs in pairs:
        mine[rows] = theirs[rows]
