"""Programs whose partners are set by time: what each host ran and whom it met is kept as arrays, and run in batches.

Nothing is computed when the clock moves. At a row of the record, or when enough has come together, the records become
operations on rows, with levels: an operation comes after the last one on its rows. The operations of one level that do
the same run as one batch, in place.

Legend: n hosts, O operations, S rows of one batch.
"""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import torch

from simnet.book import Book
from simnet.entries import Entry
from simnet.errors import ProgramError
from simnet.graph import FLOAT, Task
from simnet.jit import COMPILED
from simnet.recording import Recording
from simnet.valueplane.batched import FEWEST_ROWS
from simnet.valueplane.device import chunk_bytes, on
from simnet.valueplane.levels import instances, last_reports, levels, operations
from simnet.valueplane.light import joined, run_light
from simnet.valueplane.oracles import Oracles
from simnet.valueplane.ranges import Boards, Range, Rows, Slots, keys_of, signature

MOST_PER_HOST = 512  # records kept before they are run anyway
MOST = 1 << 20  # however many the hosts: some 100 bytes each while they are put in order
FEWEST = 16_384  # however few the hosts
PIECES = 4  # of what fits a cache is for one operand: gathered rows and their minibatches come from all over memory


class Pairs:
    """All hosts' states in banks of rows; records come from the time plane, in the order of simulated time."""

    name = "batched"
    computes = True

    def __init__(self, book: Book, device: torch.device, dtype: torch.dtype, chunk_rows: int | None = None) -> None:
        self.book, self.device, self.chunk_rows = book, device, chunk_rows
        self.chunk_bytes = chunk_bytes(device)
        self.oracles = Oracles(book, device, dtype)
        self.watch = self.oracles.watch
        self.oracles.remembers = False  # hosts of a batch hardly ever come together again
        self.slots = Slots(book.n, device, dtype)
        self.boards = Boards(self.slots)
        self.most = min(max(FEWEST, MOST_PER_HOST * book.n), MOST)
        self._recording: Recording | None = None
        self._tasks: list[Task] = []
        self._base = 0
        self._next_n = np.zeros(book.n, np.int64)
        self._host, self._what = array("q"), array("q")
        self._ranges: dict[Any, tuple[int, Range]] = {}
        self._by_number: list[Range] = []
        self._joined: Any = None  # the programs of all ranges in one table

    # ---- what the time plane says ----------------------------------------------------------------------------------

    def publish(self, recording: Recording, m: int, entry: Entry, host: int) -> None:
        """Host publishes, having run its tasks up to there."""
        self._ran(recording, host, entry.mark)

    def take(self, recording: Recording, m: int, entry: Entry, host: int) -> None:
        """Host reads what stands published."""
        self._ran(recording, host, entry.mark + 1)

    def reported(self, recording: Recording, m: int, r: int) -> None:
        """Member m makes report r."""
        self._ran(recording, int(recording.members[m]), recording.reports[r].mark)

    def met(self, i: int, j: int) -> None:
        """Hosts i and j take the mean of what they have published."""
        self._host.append(i)
        self._what.append(-1 - j)

    def _ran(self, recording: Recording, host: int, mark: int) -> None:
        self._recording = recording
        self._host.append(host)
        self._what.append(mark)
        if len(self._host) >= self.most:
            self.flush()

    def enter(self, recording: Recording, host_T: np.ndarray, what_T: np.ndarray) -> None:
        """Records as arrays, int64: (host, task number to run up to) or (host, -1 - partner)."""
        self._recording = recording
        self._host.frombytes(np.ascontiguousarray(host_T, np.int64).tobytes())
        self._what.frombytes(np.ascontiguousarray(what_T, np.int64).tobytes())
        if len(self._host) >= self.most:
            self.flush()

    def stacked(self, which: list[tuple[Recording, int, int]]) -> dict[str, Any]:
        """What the members reported last, as tensors (members, *shape)."""
        self.flush()
        boards, chosen = self.boards, [int(recording.members[m]) for recording, m, _ in which]
        index = None if len(chosen) == self.book.n else on(self.device, np.array(chosen))
        rows = {
            name: [boards.rows(b) if index is None else boards.rows(b).index_select(0, index) for b in banks]
            for name, banks in boards.reported.items()
        }
        return {name: v[0] if boards.widths[name] is None else tuple(v) for name, v in rows.items()}

    def catch_up(self, recording: Recording, mark: int) -> None:
        """Nothing to do: records say how far each host is."""

    def forget(self, recording: Recording, m: int, below: int) -> None:
        """Nothing to do: only the last report is kept."""

    def left(self, recording: Recording, m: int) -> None:
        """Nothing to do for a member that has left for good: no task of its will be asked for."""

    def _alien(self, *_: Any) -> Any:
        raise ProgramError(
            "a program that meets partners and also exchanges, averages, sends or reads is run node by node: "
            "write 'execution: {executor: one_by_one}'"
        )

    started = finished = late = averaged = closed = sent = received = read = holds = mask = _alien

    # ---- running it ------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Run everything recorded so far."""
        if not self._host:
            return
        assert self._recording is not None
        graph = self._recording.graph
        fresh = list(graph.pending)
        graph.pending.clear()
        graph.readers.clear()
        self._tasks += fresh
        self.slots.take(fresh, graph)
        host_T, what_T = np.array(self._host), np.array(self._what)
        del self._host[:], self._what[:]
        n, most = self.book.n, 2 * len(host_T)
        host_O, other_O, from_O, to_O, level_O = (np.empty(most, np.int64) for _ in range(5))
        behind = slice(len(host_T), most)
        count = operations(
            host_T, what_T, self._next_n, np.empty(n, np.int64), host_O[behind], other_O[behind], from_O[behind],
            to_O[behind],
        )  # fmt: skip
        behind = slice(len(host_T), len(host_T) + count)
        heavy, public, reports = self._marks()
        count = levels(
            count, self._base, heavy, public, np.empty(n, np.int64), np.empty(n, np.int64),
            *(a[: behind.stop] for a in (host_O, other_O, from_O, to_O)), level_O,
        )  # fmt: skip
        keep_O = np.empty(most, bool)
        last_reports(host_O, from_O, to_O, reports, self._base, count, np.empty(n, bool), keep_O)
        with self.watch.working():
            self._run(*(a[:count] for a in (host_O, other_O, from_O, to_O, level_O, keep_O)))
        low = int(self._next_n.min())
        del self._tasks[: low - self._base]
        self._base = low
        self.slots.forget(low, graph)

    def _marks(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each task kept, and one beyond: one more than the number of the last oracle before it, the number of the
        first from it on that touches what is published, and how many reports come before it.
        """
        kinds, count = [t.kind for t in self._tasks], len(self._tasks)
        here = np.arange(count)
        oracle = np.array([k == "oracle" for k in kinds], bool)
        public = np.array([k in ("publish", "published") for k in kinds], bool)
        ends = np.concatenate(([-1], np.maximum.accumulate(np.where(oracle, here, -1)))) + 1
        firsts = np.minimum.accumulate(np.append(np.where(public, here, count), count)[::-1])[::-1]
        reports = np.concatenate(([0], np.cumsum([k == "report" for k in kinds])))
        return ends + self._base, firsts + self._base, reports

    def _run(
        self, host_O: np.ndarray, other_O: np.ndarray, from_O: np.ndarray, to_O: np.ndarray, level_O: np.ndarray,
        keep_O: np.ndarray,
    ) -> None:  # fmt: skip
        count, instance_O = len(host_O), np.empty(len(host_O), np.int64)
        next_I, from_I, to_I = (np.empty(count, np.int64) for _ in range(3))
        keep_I, first_T = np.empty(count, bool), np.empty(len(self._tasks) + 1, np.int64)
        count = instances(
            host_O, from_O, to_O, keep_O, self._base, first_T, next_I, from_I, to_I, keep_I, instance_O
        )  # fmt: skip
        ranges = zip(from_I[:count].tolist(), to_I[:count].tolist(), keep_I[:count].tolist(), strict=True)
        found = [self._instance(a - self._base, b - self._base, report) for a, b, report in ranges]
        number_O = np.array([number for number, _ in found] + [-1])[instance_O]
        keys_I = [keys for _, keys in found] + [[]]
        widest = max(len(keys) for keys in keys_I)
        table = np.array([keys + [0] * (widest - len(keys)) for keys in keys_I], np.uint64).reshape(len(keys_I), widest)
        keys_O = table[instance_O]
        fits = np.array(
            [work.program is not None for work in self._by_number]
            + [COMPILED and self.slots.dtype != torch.bfloat16 and self._one_kind()]
        )
        wave_O = level_O >> 32
        small = wave_O.astype(np.uint16) if wave_O.max(initial=0) < 1 << 16 else wave_O
        order = np.argsort(small, kind="stable")  # 16 bits are sorted by counting
        for wave in np.split(order, np.flatnonzero(np.diff(wave_O[order])) + 1):
            heavy = level_O[wave] == wave_O[wave] << 32
            self._by_levels(wave[heavy], number_O, host_O, other_O, level_O, keys_O)
            light = wave[~heavy]
            if fits[number_O[light]].all():
                self._row_by_row(number_O[light], host_O[light], other_O[light])
            else:
                self._by_levels(light, number_O, host_O, other_O, level_O, keys_O)
        if len(self._by_number) > 4096:  # constants that change from round to round
            self._ranges.clear()
            self._by_number.clear()
            self._joined = None

    def _by_levels(
        self, some: np.ndarray, number_O: np.ndarray, host_O: np.ndarray, other_O: np.ndarray, level_O: np.ndarray,
        keys_O: np.ndarray,
    ) -> None:  # fmt: skip
        """Run some of the operations level by level, those of one level that do the same as one batch."""
        order = some[np.lexsort((number_O[some], level_O[some]))]
        cuts = np.flatnonzero(np.diff(level_O[order]) | np.diff(number_O[order])) + 1
        for rows_O in np.split(order, cuts) if len(order) else ():
            number, hosts = int(number_O[rows_O[0]]), host_O[rows_O]
            if number < 0:
                self._mean(hosts, other_O[rows_O])
                continue
            work, keys = self._by_number[number], keys_O[rows_O]
            size = self.chunk_rows or max(FEWEST_ROWS, self.chunk_bytes // (PIECES * 4 * work.widest))
            for a in range(0, len(hosts), size):
                part = hosts[a : a + size]
                work.run(Rows(part, on(self.device, part), keys[a : a + size]))

    def _one_kind(self) -> bool:
        """Whether what is published can be taken row by row: a vector, in the memory that compiled code sees."""
        published = self.boards.published
        return self.device.type == "cpu" and published is not None and len(published[0][0]) == 1

    def _row_by_row(self, number_O: np.ndarray, host_O: np.ndarray, other_O: np.ndarray) -> None:
        """Run light operations in their order, each on its own rows."""
        if not len(number_O):
            return
        assert self.boards.published is not None
        kind, published = self.boards.published
        rows = self.slots.pool(kind).rows
        programs = [work.program for work in self._by_number]
        if self._joined is None or len(self._joined[0]) != len(programs) + 1:
            self._joined = joined(programs, rows.numpy().dtype)
        starts, code, numbers, scratch = self._joined
        run_light(
            rows.numpy(), self.slots.pool(((), FLOAT)).rows.numpy(), np.empty((scratch, rows.shape[2]), numbers.dtype),
            published, host_O, other_O, number_O, starts, code, numbers,
        )  # fmt: skip

    def _instance(self, start: int, end: int, report: bool) -> tuple[int, list[int]]:
        """The number of the range of tasks start to end (counted from the first that is kept), and its keys."""
        assert self._recording is not None
        tasks, graph = self._tasks[start:end], self._recording.graph
        said = signature(tasks, self.slots, graph, report)
        try:
            found = self._ranges.get(said)
        except TypeError:  # a constant that cannot be compared: a range of its own
            said, found = object(), None
        if found is None:
            made = Range(tasks, self.slots, self.boards, graph, self.oracles, report)
            found = self._ranges[said] = len(self._by_number), made
            self._by_number.append(made)
        return found[0], keys_of(tasks)

    def _mean(self, one: np.ndarray, other: np.ndarray) -> None:
        """Pairs (S,), (S,) of hosts, all different, take the mean of what they have published."""
        a, b = (on(self.device, hosts) for hosts in (one, other))
        assert self.boards.published is not None
        board = self.boards.rows(self.boards.published)
        mean = board.index_select(0, a).add_(board.index_select(0, b)).mul_(0.5)
        board.index_copy_(0, a, mean)
        board.index_copy_(0, b, mean)
