"""Rows of the record on a grid of simulated time, where partners are set by time and nobody's rounds are another's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from simnet.errors import Outcome

if TYPE_CHECKING:
    from simnet.simulation import Simulation


def lay(run: Simulation, first_s: float) -> None:
    """Rows as far apart as was asked for, or so that a run has about 50: by its limit of time, or as many times
    `first_s`, when the last node has made its first report, as there are rounds between evaluations.
    """
    scenario, until = run.plan.scenario, run.account.until
    period = scenario.evaluate_period
    if period is None and until < np.inf and scenario.evaluate_every is None:
        period = until / 50
    run.row_period = period or max(first_s, 1e-12) * run.plan.evaluate_every
    run.row_at = run.row_period * (first_s // run.row_period + 1)


def due(run: Simulation, reports_n: Sequence[int]) -> bool:
    """The clock has come to the next row; each host has made `reports_n` reports. True where bytes or Ctrl-C end it."""
    at = run.row_at
    run.row_at += run.row_period
    row(run, at, reports_n)
    limit = run.plan.scenario.stop.bytes
    if limit is not None and run.account.ledger.wire_bytes >= limit:
        run.outcome = Outcome.BYTES_LIMIT
    elif run.interrupt.asked:
        run.stopped_by_user(int(run.last_row.get("round", 0)) - 1)
    return run.outcome in (Outcome.BYTES_LIMIT, Outcome.INTERRUPTED)


def row(run: Simulation, at: float, reports_n: Sequence[int]) -> None:
    """A row of each node's own last report by now; who has left for good is out of it."""
    left_s = run.book.presence.left_s
    made = {
        (r.index_, m): int(reports_n[h]) - 1
        for r in run.reporting
        for m, h in enumerate(r.members.tolist())
        if left_s[h] > at
    }
    fewest = min(made.values(), default=-1)
    if fewest < 0:
        return
    hosts = np.sort(np.concatenate([r.members[left_s[r.members] > at] for r in run.reporting]))
    states = {} if run.estimating else run.stack(made)
    run.write(fewest, at, run.account.ledger.wire_bytes, states, hosts, run.account.ledger.messages)
    run.tell(fewest, at)
