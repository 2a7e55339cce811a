"""What can go wrong, as a tree of small classes, and how a run can end.

SimnetError
├── InputError                 refused before any work starts
│   ├── ScenarioError          a field of the scenario is wrong; knows its place
│   │   ├── UnknownName        no such key or name; knows the nearest one
│   │   └── UnitError          a quantity with the wrong unit, or none that can be read
│   ├── DataError              a data file is missing or corrupt
│   ├── TopologyError          a graph does not fit the algorithm or the network
│   ├── CapabilityError        a node cannot do what the algorithm asks of it
│   └── MemoryTooSmall         the run would not fit, found before it starts
├── ProgramError               a program breaks a rule of its verbs
└── RunError                   a run that ended badly, with a named outcome
    ├── Diverged
    └── Starved

Interrupted is a KeyboardInterrupt: Ctrl-C is no error, and passes through whatever catches errors.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import Enum
from typing import Any


class SimnetError(Exception):
    """Any error that simnet raises on purpose."""


class InputError(SimnetError):
    """The input is refused before any work starts."""


class ScenarioError(InputError):
    """A field of the scenario is wrong.

    `place` is where it stands (`scenario.yaml:14:11`), `field` its dotted name, `value` what came.
    """

    def __init__(self, message: str, *, place: str = "", field: str = "", value: object = None) -> None:
        self.message, self.place, self.field, self.value = message, place, field, value
        head = " ".join(part for part in (place, field) if part)
        if field and value is not None:
            head += f" = {value!r}"
        super().__init__(f"{head}: {message}" if head else message)

    def within(self, field: str, place: str = "") -> ScenarioError:
        """The same error of a part that stands at `field`, seen from the whole scenario."""
        whole = f"{field}.{self.field}" if self.field else field
        return type(self)(self.message, place=self.place or place, field=whole, value=self.value)


class UnknownName(ScenarioError):
    """No such key or name; the message suggests the nearest one."""


class UnitError(ScenarioError):
    """A quantity whose unit is missing, unknown or of another kind."""


class DataError(InputError):
    """A data file is missing or corrupt."""


class TopologyError(InputError):
    """A graph does not fit the algorithm or the network."""


class CapabilityError(InputError):
    """A node cannot do what the algorithm asks of it."""


class MemoryTooSmall(InputError):
    """The run would need more memory than the machine has; found before it starts."""


class ProgramError(SimnetError):
    """A program breaks a rule of its verbs (`SEMANTICS`: a Value has no truth, no length, no float)."""


class Outcome(Enum):
    """How a run ended; `advice` says what to try next."""

    FINISHED = "finished"
    TARGET_REACHED = "target reached"
    TIME_LIMIT = "simulated time limit"
    BYTES_LIMIT = "bytes limit"
    DIVERGED = "diverged"
    STARVED = "starved"
    TOO_LARGE = "too large"
    INTERRUPTED = "interrupted"

    @property
    def advice(self) -> str:
        return _ADVICE[self]


_ADVICE = {
    Outcome.FINISHED: "all rounds were run",
    Outcome.TARGET_REACHED: "every target was met and `stop.at_target` asked to stop there",
    Outcome.TIME_LIMIT: "`stop.sim_time` was reached; raise it to see more rounds",
    Outcome.BYTES_LIMIT: "`stop.bytes` was reached; raise it to see more rounds",
    Outcome.DIVERGED: "a reported value is no longer finite; try a smaller step size, or `missing` other than this one",
    Outcome.STARVED: "a node waits for a message that nobody will send; give the verb a deadline or a timeout",
    Outcome.TOO_LARGE: "the machine's memory would not do; try fewer nodes, a smaller model or `execution.chunk_rows`",
    Outcome.INTERRUPTED: "the run was stopped from outside; what it had reported is in the record",
}


class RunError(SimnetError):
    """A run that ended badly."""

    outcome: Outcome = Outcome.INTERRUPTED


class Diverged(RunError):
    """A reported value is no longer finite."""

    outcome = Outcome.DIVERGED


class Starved(RunError):
    """A node waits for a message that nobody will send."""

    outcome = Outcome.STARVED


class Interrupted(KeyboardInterrupt):
    """Ctrl-C ended a run; `record` (a `simnet.record.Record`) is whole up to its last row."""

    def __init__(self, record: Any) -> None:
        self.record = record
        super().__init__(str(record.outcome))


def nearest(name: str, known: Iterable[str]) -> str:
    """The text `; did you mean 'x'?` for the closest known name, or an empty one.

    >>> nearest("metroplis", ["metropolis", "uniform"])
    "; did you mean 'metropolis'?"
    """
    choices = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), choices, n=1, cutoff=0.5)
    return f"; did you mean {choices[close[0]]!r}?" if close else ""
