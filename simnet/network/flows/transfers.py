"""What a list of transfers costs on a network: the flow engine driven from start to end.

Legend: F transfers, L links.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simnet.errors import InputError, nearest
from simnet.network.flows.case import Case, Transfers
from simnet.network.flows.drive import NEEDS_ROOM, drive
from simnet.network.flows.files import read_case
from simnet.network.flows.models import MODELS, RouteTable, route_table
from simnet.network.flows.state import FACTOR, OWN, Engine, make_engine, with_room

FIRST_ROOM = 1024  # flows at a time that an engine has room for before it grows


@dataclass(frozen=True)
class TransferTimes:
    """When each transfer started and ended, and what limited it."""

    case: Case
    model: str
    start_s: np.ndarray  # float64 (F,): before any latency is paid
    finish_s: np.ndarray  # float64 (F,): the last byte has arrived
    limit: np.ndarray  # int64 (F,): the link that limited it in the end, or -1: nothing shared did
    carried_bytes: np.ndarray  # float64 (L,): what crossed each link
    engine: Engine  # as the run left it; its counters are for measuring

    @property
    def mean_rate(self) -> np.ndarray:
        """Bytes/s of each transfer from its start to its end, float64 (F,)."""
        spent = self.finish_s - self.start_s
        return np.divide(self.case.transfers.bytes, spent, out=np.zeros(len(spent)), where=spent > 0)

    @property
    def utilisation(self) -> np.ndarray:
        """The share of each link's bandwidth that was used until the last transfer ended, float64 (L,)."""
        makespan = float(self.finish_s.max(initial=0.0))
        return (
            self.carried_bytes / (self.case.links.bandwidth * makespan)
            if makespan
            else np.zeros_like(self.carried_bytes)
        )

    def bottleneck(self, i: int) -> str:
        """The name of the link that limited transfer i in the end."""
        if self.limit[i] >= 0:
            return self.case.links.names[self.limit[i]]
        t = self.case.transfers
        route = self.case.routes[int(t.source[i]), int(t.target[i])]
        own = min(
            (k for k in route if self.case.links.fatpipe[k]), key=self.case.links.bandwidth.__getitem__, default=None
        )
        return self.case.links.names[own] if own is not None else "its window"


def transfer_times(source: str | Path | Mapping[str, Any] | Case, model: str = "lv08") -> TransferTimes:
    """Start and finish of every transfer of a case: a file's name, a dict, or a `Case`.

    `model` is maxmin, cm02, lv08 (the default) or lv08_noxt.
    Raises InputError for what cannot be simulated.
    """
    case = read_case(source)
    if model not in MODELS:
        raise InputError(f"model = {model!r}: must be one of {', '.join(MODELS)}{nearest(model, MODELS)}")
    pairs = dict.fromkeys(zip(case.transfers.source.tolist(), case.transfers.target.tolist(), strict=True))
    number = {pair: i for i, pair in enumerate(pairs)}
    forward = [case.routes[pair] for pair in pairs]
    backward = [case.routes.get((b, a), ()) for a, b in pairs]
    table = route_table(case.links, forward, backward, MODELS[model])
    t = case.transfers
    route = np.array([number[pair] for pair in zip(t.source.tolist(), t.target.tolist(), strict=True)], np.int64)
    start, finish, limit, engine = run_transfers(table, route, t)
    if not np.isfinite(finish).all():
        i = int(np.nonzero(~np.isfinite(finish))[0][0])
        raise InputError(f"{case.name}: flows.{i}: never ends: its links have no bandwidth left")
    return TransferTimes(case, model, start, finish, limit, _carried(table, route, t.bytes), engine)


def run_transfers(
    table: RouteTable, route: np.ndarray, transfers: Transfers
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Engine]:
    """Start, finish (infinity: never) and last limit of transfers over `route` (F,) of a table, and the engine."""
    n = len(transfers)
    engine = make_engine(*table, min(max(n, 1), FIRST_ROOM))
    next_start, next_who, waits = _followers(transfers)
    start, finish, limit = transfers.start_s.copy(), np.full(n, np.inf), np.full(n, OWN)
    free = np.nonzero(waits == 0)[0]
    first = free[np.lexsort((free, (start + transfers.delay_s)[free]))]
    progress, when, who = np.zeros(2, np.int64), np.zeros(n), np.zeros(n, np.int64)
    while (
        drive(
            engine, progress, first, when, who, route, transfers.bytes, transfers.delay_s, waits, next_start, next_who,
            start, finish, limit,
        )
        == NEEDS_ROOM
    ):  # fmt: skip
        engine = with_room(engine, 2 * len(engine.flow))
    return start, finish, limit, engine


def _followers(transfers: Transfers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Who waits for whom: the followers of each transfer (starts and members), and how many each waits for."""
    n = len(transfers)
    waits = np.fromiter((len(before) for before in transfers.after), np.int64, n)
    followers = np.repeat(np.arange(n), waits)
    leaders = np.fromiter((j for before in transfers.after for j in before), np.int64, int(waits.sum()))
    order = np.argsort(leaders, kind="stable")
    next_start = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(leaders, minlength=n), out=next_start[1:])
    return next_start, followers[order], waits


def _carried(table: RouteTable, route: np.ndarray, bytes_: np.ndarray) -> np.ndarray:
    """Bytes over each link, float64 (L,)."""
    over = np.bincount(route, bytes_, minlength=len(table.route)) / table.route[:, FACTOR]
    per_entry = np.repeat(over, np.diff(table.route_start)) * table.route_share
    return np.bincount(table.route_link, per_entry, minlength=len(table.capacity))
