"""Links that change with time: what may, when a message is through, and what is lost by then.

A message's way has, at each moment, the rate of its slowest link at that moment: its bits have passed when the integral
of that rate since the message began is its size. Latency and loss are those of the moment at which it begins. At a rate
of 0 it waits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from simnet.errors import DataError, ScenarioError, Starved
from simnet.links import LinkTrace
from simnet.network.flows.models import added
from simnet.network.flows.traces import Changes, Steps, Trace, read_changes

PATIENCE = 100_000  # changes without a byte, after which none is expected any more


def read_link_trace(asked: LinkTrace, folder: Path, policy: str) -> Changes:
    """The trace that a link names, beside the scenario. Raises DataError for one that no message could get over."""
    changes = read_changes(folder / asked.file, asked.at_end, asked.bin)
    check_changes(changes, policy, asked.file)
    return changes


def check_changes(changes: Changes, policy: str, name: str) -> None:
    """Raises DataError for a link that lets nothing through from some moment on."""
    rate = changes.bandwidth
    if rate is not None and rate.period_s == math.inf and rate.rates[-1] == 0:
        raise DataError(
            f"{name}: holds its last rate, which is 0: a message would wait for ever; say at_end: wrap, or end it with "
            "a rate above 0"
        )
    if changes.loss is not None and policy == "retry" and (changes.loss.values >= 1).any():
        raise DataError(
            f"{name}: a loss of 1 under `policy: retry` would send for ever, since a message keeps the loss of its "
            "start; take less, a bandwidth of 0, or `policy: drop`"
        )


def set_starts(
    changes: Mapping[int, Changes], bandwidth: np.ndarray, latency_s: np.ndarray, loss: np.ndarray, fatpipe: np.ndarray,
    policy: str, model: str,
) -> None:  # fmt: skip
    """Enter into the links' arrays what those that change begin with (of bandwidth, the mean). Raises ScenarioError for
    changes that a policy or a model cannot have.
    """
    for k, trace in changes.items():
        if trace.bandwidth is not None and fatpipe[k] and model != "independent":
            raise ScenarioError(
                "a link that does not share (fatpipe) has one bandwidth where messages are flows: leave out its trace, "
                "or fatpipe",
                field="network.link.trace",
            )
        bandwidth[k] = bandwidth[k] if trace.bandwidth is None else trace.bandwidth.mean
        latency_s[k] = latency_s[k] if trace.latency is None else trace.latency.at(0.0)
        loss[k] = loss[k] if trace.loss is None else trace.loss.at(0.0)


def never_open(links: Sequence[str], since: float) -> str:
    """Why a message never arrives."""
    return (
        f"nothing gets over the links {', '.join(links)} from {since:g} s on: at every moment the trace of one of them "
        "has a rate of 0; let one be open while the others are"
    )


class WayInTime:
    """One message's way over links of which some change."""

    def __init__(
        self, links: Sequence[int], names: Sequence[str], changes: Mapping[int, Changes], bandwidth: np.ndarray,
        latency_s: np.ndarray,
    ) -> None:  # fmt: skip
        each = [changes.get(k, Changes()) for k in links]
        self.names = names
        self._rates: list[Trace] = [c.bandwidth for c in each if c.bandwidth is not None]
        steady = [float(bandwidth[k]) for k, c in zip(links, each, strict=True) if c.bandwidth is None]
        self._most = min(steady, default=math.inf)
        self._latencies: list[Steps | float] = [
            float(latency_s[k]) if c.latency is None else c.latency for k, c in zip(links, each, strict=True)
        ]

    def latency_s(self, t: float) -> float:
        """Seconds from the last bit sent to the last bit arrived, of a message that begins at t."""
        return added(s if isinstance(s, float) else s.at(t) for s in self._latencies)

    def end(self, t: float, size: float) -> float:
        """When `size` bytes have passed that begin at time t. Raises RunError where they never would."""
        left, idle, since = float(size), 0, t
        if not self._rates:
            return t + left / self._most
        while True:
            rate, until = self._most, math.inf
            for trace in self._rates:
                now, stays = trace.piece(t)
                rate, until = min(rate, now), min(until, stays)
            if rate * (until - t) >= left if until < math.inf else rate > 0:
                return t + left / rate if left else t
            left -= rate * (until - t)
            idle = 0 if rate else idle + 1
            since = until if rate else since
            if idle > PATIENCE:
                raise Starved(never_open(self.names, since))
            t = until
