"""The verb table's rows: what a program asked for, as both the walkers and the value plane read it."""

from __future__ import annotations

from typing import Any

from simnet.graph import Value


class Op:
    """What an entry asks of the time plane (plain integers: the table is walked millions of times)."""

    WORK = 0
    EXCHANGE = 1  # START and FINISH in one
    START = 2
    FINISH = 3
    AVERAGE = 4
    START_AVERAGE = 5
    FINISH_AVERAGE = 6
    SEND = 7
    RECEIVE = 8
    WAIT = 9
    READ = 10
    PUBLISH = 11
    TAKE = 12  # read what is published
    MEET = 13
    START_WAIT = 14


class Entry:
    """One row of the verb table.

    `mark`: tasks with a smaller number are what the entry's operands rest on. `tasks` are its operands, `results` the
    Values that the program gets. `seconds` of work per member; `active` who of the members takes part (None: all).
    """

    __slots__ = (
        "active", "frm", "listed", "mark", "number", "occurrence", "op", "peers", "plain", "pool", "reliable",
        "results", "rows", "seconds", "shapes", "stand_ins", "tasks", "timeout_s", "timer", "to", "travel", "when_task",
        "wires",
    )  # fmt: skip

    def __init__(self, op: int, mark: int) -> None:
        self.op, self.mark = op, mark
        self.tasks: tuple[int, ...] = ()
        self.results: tuple[Value, ...] = ()
        self.seconds: Any = None  # float64 per member
        self.listed: Any = None  # the same as a list, once a walker asks
        self.active: Any = None  # list of bool per member
        self.travel: Any = None  # the Exchange or Average
        self.when_task: int | None = None
        self.number: Any = None  # what `read` got; the payload bytes of a send
        self.to: Any = None  # hosts, ascending
        self.peers: Any = None  # of a send: the one target of each member, where members differ
        self.frm: Any = None  # hosts, or "any"
        self.pool: Any = None  # of a meeting: who may be met
        self.timer: Any = None  # of a receive: the started wait that ends it
        self.wires: list[Any] = []  # what each operand takes on the wire; None: its numbers
        self.rows = False  # scatter: row i to the i-th host
        self.reliable = True
        self.timeout_s: float | None = None
        self.occurrence = 0  # of a send: keys what becomes of it
        self.shapes: Any = None  # of what a receive got
        self.plain = False  # a receive whose result is None
        self.stand_ins = 0  # of a receive: Values given for what may not come


class Report:
    """The end of a round: its Values are kept only where they will be evaluated."""

    __slots__ = ("index", "mark", "mixings", "position", "values")

    def __init__(self, index: int, position: int, mark: int, values: dict[str, Any], mixings: int = 0) -> None:
        self.index, self.position, self.mark, self.values = index, position, mark, values
        self.mixings = mixings  # gossip steps and exchanges of the program so far, one after another
