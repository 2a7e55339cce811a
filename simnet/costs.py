"""How long one call of an oracle takes at each host, before jitter, stragglers and accelerators: four sources.

    flops        the call's FLOP over the host's `compute`; or what a device profile says (`simnet.device_profile`)
    calibrated   the median of at least 15 turns of calls on this machine's device, alone, after a warm-up
    measured     every call as it happens: run alone and timed (a node run)
    replay       the durations that a measured run has recorded, call by call

A `step` goes before all of them. Durations of a device, measured or by its profile, are divided by the host's `speed`.

Legend: S hosts of one call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from simnet.batches import Size, rows_of
from simnet.device_profile import DeviceProfile
from simnet.errors import DataError, ProgramError, ScenarioError, nearest
from simnet.node_sections import Replay

if TYPE_CHECKING:
    from simnet.book import Book
    from simnet.recording import Recording
    from simnet.scenario import Scenario

WIDE = 0.10  # a spread above this is told


class Timing(NamedTuple):
    """What repeated calls of one oracle took."""

    median_s: float
    spread: float  # half the distance between the quartiles, over the median
    samples: int


class Costs(ABC):
    """A source of durations; one per run, shared by all attempts at it."""

    name: str
    per_call = False  # whether each call has a duration of its own
    rate: Callable[[], float] | None = None  # FLOP/s of plain arithmetic on the device that is measured
    used_rate: float | None = None  # the same, once a run has asked for it
    on_arrival = False  # whether that is known only when the node gets there: it takes a node run

    @abstractmethod
    def alone(self, book: Book, hosts: np.ndarray, oracle: str, rows: Size | None) -> np.ndarray:
        """Seconds of one call on `rows` rows (None: all of the node's) on the device, (S,); NaN where the host's
        `compute` decides.
        """

    def call(self, recording: Recording, oracle: str, occurrence: int, mark: int) -> np.ndarray:
        """Where `per_call`: seconds of the call whose task is the last below `mark`, (S,)."""
        raise ProgramError(f"{self.name} durations have none for each call")

    def flop_per_s(self, book: Book, hosts: np.ndarray) -> np.ndarray:
        """FLOP/s of plain arithmetic (`node.work`) on the device, (S,); NaN where it is not known."""
        here = np.isnan(book.profiles.compute_N[hosts]) & (book.profiles.device_N[hosts] == "")
        if self.rate is None or not here.any():
            return np.full(len(hosts), np.nan)
        self.used_rate = self.rate()
        return np.where(here, self.used_rate, np.nan)

    def facts(self) -> dict[str, Any]:
        """What the record's header says of the durations."""
        return {}

    def notes(self) -> list[str]:
        """What a user should be told."""
        return []


class Flops(Costs):
    """Counted FLOP over the host's `compute`."""

    name = "flops"

    def alone(self, book: Book, hosts: np.ndarray, oracle: str, rows: Size | None) -> np.ndarray:
        return np.full(len(hosts), np.nan)


class OnArrival:
    """Seconds that are found when a node gets to its entry, in the place of an array."""

    def __init__(self, find: Callable[[], np.ndarray]) -> None:
        self.find = find

    def tolist(self) -> list[float]:
        """The seconds, found now."""
        found: list[float] = self.find().tolist()
        return found


Meter = Callable[[str, np.ndarray, int | None], Timing]  # oracle, like hosts, rows -> what a call takes
CountOperators = Callable[[str, int, int | None], Any]  # oracle, host, rows -> the operators of a call


class Kind(NamedTuple):
    """Calls that take equally long on one device."""

    device: Any
    oracle: str
    estimator: int  # the number of a zo node's; -1 for fo nodes
    rows: int


def _kinds(book: Book, hosts: np.ndarray, rows: Size | None) -> np.ndarray:
    """Hosts with equal rows here have calls of the same size: (S, 2) estimator (-1 at fo nodes), rows."""
    estimator = np.where(book.zo_n[hosts], book.profiles.estimator_N[hosts], -1)
    return np.stack([estimator, rows_of(book, rows)[hosts]], axis=1)


def _timed_as(book: Book, oracle: str, estimator: int) -> tuple[str, float]:
    """The oracle to time, and how many of its calls make one call: a simulated derivative takes its losses' time."""
    chosen = book.profiles.estimators[estimator]
    if oracle == "gradient" and estimator >= 0 and chosen.by_jvp:
        return "loss", chosen.forward_passes(book.problem.dim)
    return oracle, 1.0


class PerKind(Costs):
    """The same seconds at all hosts whose calls are of the same size, found once for each size."""

    _MOST_SIZES = 8  # sizes measured; what lies between is interpolated

    def __init__(self) -> None:
        self._found: dict[Kind, float] = {}

    def alone(self, book: Book, hosts: np.ndarray, oracle: str, rows: Size | None) -> np.ndarray:
        out = np.full(len(hosts), np.nan)
        for device, asked in self._devices(book, hosts):
            kinds = _kinds(book, hosts[asked], rows)
            for estimator in np.unique(kinds[:, 0]).tolist():
                at = np.flatnonzero(kinds[:, 0] == estimator)
                sizes = np.unique(kinds[at, 1])
                if len(sizes) > self._MOST_SIZES:
                    sizes = sizes[np.linspace(0, len(sizes) - 1, self._MOST_SIZES).round().astype(int)]
                timed, times = _timed_as(book, oracle, estimator)
                seconds = []
                for size in sizes.tolist():
                    key = Kind(device, timed, estimator, size)
                    if key not in self._found:
                        like = hosts[asked][at[kinds[at, 1] == size]]
                        self._found[key] = self._find(book, device, timed, like, None if rows is None else size, key)
                    seconds.append(times * self._found[key])
                out[asked[at]] = np.interp(kinds[at, 1], sizes, seconds)
        return out

    @abstractmethod
    def _devices(self, book: Book, hosts: np.ndarray) -> list[tuple[Any, np.ndarray]]:
        """Each device in use, and which of `hosts` are such."""

    @abstractmethod
    def _find(self, book: Book, device: Any, oracle: str, like: np.ndarray, rows: int | None, key: Kind) -> float:
        """Seconds of one call at the hosts `like`, which are all alike."""


class ByProfile(PerKind):
    """What the device profiles that the scenario names say of the operators of a call."""

    name = "profile"

    def __init__(self, profiles: Mapping[str, DeviceProfile]) -> None:
        super().__init__()
        self.profiles = profiles
        self.count: Callable[[Book], CountOperators] | None = None  # set by who has the tensors
        self._operators: dict[Kind, Any] = {}

    def _devices(self, book: Book, hosts: np.ndarray) -> list[tuple[Any, np.ndarray]]:
        named = book.profiles.device_N[hosts]
        return [(name, np.flatnonzero(named == name)) for name in self.profiles if (named == name).any()]

    def _find(self, book: Book, device: Any, oracle: str, like: np.ndarray, rows: int | None, key: Kind) -> float:
        assert self.count is not None
        apart = key._replace(device=None)
        if apart not in self._operators:
            self._operators[apart] = self.count(book)(oracle, int(like[0]), rows)
        return self.profiles[device].seconds(self._operators[apart])

    def flop_per_s(self, book: Book, hosts: np.ndarray) -> np.ndarray:
        out = super().flop_per_s(book, hosts)
        named = book.profiles.device_N[hosts]
        for name, profile in self.profiles.items():
            out[named == name] = profile.gemm
        return out

    def facts(self) -> dict[str, Any]:
        return {"device_profiles": {name: profile.plain() for name, profile in self.profiles.items()}}

    def notes(self) -> list[str]:
        return [f"durations follow device profile {name}: {profile.error_text()}"
                for name, profile in self.profiles.items()]  # fmt: skip


class Calibrated(ByProfile):
    """Medians of calls on this machine's device; hosts with a profile or a speed of their own keep theirs."""

    name = "calibrated"
    _HERE = None

    def __init__(self, profiles: Mapping[str, DeviceProfile]) -> None:
        super().__init__(profiles)
        self.timings: dict[Kind, Timing] = {}
        self.meter: Callable[[Book], Meter] | None = None

    def _devices(self, book: Book, hosts: np.ndarray) -> list[tuple[Any, np.ndarray]]:
        profiles = book.profiles
        here = np.isnan(profiles.compute_N[hosts]) & (profiles.device_N[hosts] == "")
        return [*super()._devices(book, hosts), *([(self._HERE, np.flatnonzero(here))] if here.any() else [])]

    def _find(self, book: Book, device: Any, oracle: str, like: np.ndarray, rows: int | None, key: Kind) -> float:
        if device is not self._HERE:
            return super()._find(book, device, oracle, like, rows, key)
        assert self.meter is not None
        timing = self.timings[key] = self.meter(book)(oracle, like, rows)
        return timing.median_s

    def facts(self) -> dict[str, Any]:
        rows = [
            {
                "oracle": kind.oracle,
                "zo": kind.estimator >= 0,
                "estimator": kind.estimator,
                "rows": kind.rows,
                **timing._asdict(),
            }
            for kind, timing in self.timings.items()
        ]
        return (super().facts() if self.profiles else {}) | {"calibration": rows}

    def notes(self) -> list[str]:
        wide = [
            f"calls of {key.oracle!r} spread by {100 * timing.spread:.0f} % round their median of "
            f"{timing.median_s:.3g} s: the device was not alone; run again when nothing else does"
            for key, timing in self.timings.items()
            if timing.spread > WIDE
        ]
        return (super().notes() if self.profiles else []) + wide


@dataclass
class Call:
    """One call of an oracle in a measured run."""

    node: int
    call: int  # the occurrence in the node's program
    oracle: str
    seconds: float


@dataclass
class Measured(Costs):
    """Every call of an oracle, timed as it happens."""

    name = "measured"
    per_call = True
    on_arrival = True
    values: Any = None  # the value plane of the attempt, which runs the calls
    calls: list[Call] = field(default_factory=list)  # not yet written

    def alone(self, book: Book, hosts: np.ndarray, oracle: str, rows: Size | None) -> np.ndarray:
        raise ProgramError("measured durations are those of calls")

    def call(self, recording: Recording, oracle: str, occurrence: int, mark: int) -> np.ndarray:
        seconds = self.values.timed(recording, mark)
        self.calls.append(Call(int(recording.members[0]), occurrence, oracle, seconds))
        return np.array([seconds])

    def facts(self) -> dict[str, Any]:
        return {} if self.used_rate is None else {"work_flop_per_s": self.used_rate}


class Replayed(Costs):
    """The durations of calls as a measured run recorded them, and its rate of plain arithmetic (None: not used)."""

    name = "replay"
    per_call = True

    def __init__(self, calls: Mapping[str, np.ndarray], source: str, work_flop_per_s: float | None = None) -> None:
        self.source = source
        if work_flop_per_s is not None:
            self.rate = lambda: work_flop_per_s
        order = np.lexsort((calls["node"], calls["call"]))
        self._call, self._node = calls["call"][order], calls["node"][order]
        self._seconds, self._oracle = calls["seconds"][order], calls["oracle"][order]

    def alone(self, book: Book, hosts: np.ndarray, oracle: str, rows: Size | None) -> np.ndarray:
        raise ProgramError("replayed durations are those of calls")

    def call(self, recording: Recording, oracle: str, occurrence: int, mark: int) -> np.ndarray:
        a, b = np.searchsorted(self._call, [occurrence, occurrence + 1])
        at = a + np.searchsorted(self._node[a:b], recording.members)
        inside = np.minimum(at, max(b - 1, a))
        known = (at < b) & (self._node[inside] == recording.members) if b > a else np.zeros(len(at), bool)
        if not known.all():
            node = int(recording.members[~known][0])
            raise ScenarioError(
                f"{self.source} has no duration of call {occurrence + 1} at node {node}: it ended before, or ran "
                "another program; replay no more rounds than were measured",
                field="nodes.durations",
            )
        if (self._oracle[inside] != oracle).any():
            raise ScenarioError(
                f"call {occurrence + 1} was {self._oracle[inside][0]!r} in {self.source}, and is {oracle!r} here: "
                "replay the same algorithm",
                field="nodes.durations",
            )
        found: np.ndarray = self._seconds[inside]
        return found


def replayed(directory: Path) -> Costs:
    """The durations in the record of a measured run. Raises DataError where it has none."""
    from simnet.record import Record

    record = Record.load(directory)
    if not len(record.durations["node"]):
        source = record.header.get("cost_source", "unknown")
        raise DataError(f"{directory} has no durations to replay: its durations are {source!r}, and only a run with "
                        "'nodes: {durations: measured}' records them")  # fmt: skip
    return Replayed(record.durations, str(directory), record.header.get("work_flop_per_s"))


def source_of(scenario: Scenario) -> Costs:
    """The scenario's source of durations. Raises an InputError for a profile or a record that is not there."""
    nodes = scenario.nodes
    given = {"nodes.device": nodes.device} | {f"nodes.groups.{i}.device": g.device for i, g in enumerate(nodes.groups)}
    named = {field: name for field, name in given.items() if name is not None}
    if named and (nodes.durations == "measured" or isinstance(nodes.durations, Replay)):
        raise ScenarioError(
            "a profile prices calls of one size alike, and these durations are those of each call: give the hosts "
            "`compute`, `step` or `speed`, or take calibrated durations",
            field=next(iter(named)),
        )
    if isinstance(nodes.durations, Replay):
        try:
            return replayed(scenario.base_dir / nodes.durations.replay)
        except DataError as error:
            raise ScenarioError(str(error), field="nodes.durations.replay") from None
    profiles = {name: _profile(scenario, name, field) for field, name in named.items()}
    if nodes.durations == "calibrated":
        return Calibrated(profiles)
    if nodes.durations == "measured":
        return Measured()
    return ByProfile(profiles) if profiles else Flops()


def _profile(scenario: Scenario, name: str, field: str) -> DeviceProfile:
    path = scenario.base_dir / name
    if not path.is_file():
        cure = nearest(name, [p.name for p in scenario.base_dir.glob("*.yaml")]) or (
            f"; 'simnet calibrate --out {path.name}' measures one here"
        )
        raise ScenarioError(f"there is no device profile {name!r}{cure}", field=field)
    return DeviceProfile.load(path)
