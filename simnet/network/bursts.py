"""Losses in bursts: a Gilbert-Elliott chain of a good and a bad state, stepped once a packet.

Nothing is remembered between messages: each time that packets of a message enter a link, its chain begins in its
long-run state. Only + - * / are used, so what is drawn does not depend on the processor.

Legend: E messages. A chain is its probabilities from good to bad and from bad to good, and the loss while bad.
"""

# numba infers the types of the inner functions
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from functools import lru_cache

import numpy as np

from simnet.jit import kept
from simnet.network.flows.draws import packets_to_loss, uniform


@kept
def _bad_packets(packets, to_bad, to_good, keys, draw, out):
    for e in range(len(packets)):
        left, counter = np.float64(packets[e]), 1
        bad = uniform(keys[e], draw, 0) * (to_bad[e] + to_good[e]) < to_bad[e]
        while left > 0.0:
            leave = to_good[e] if bad else to_bad[e]
            stay = min(left, packets_to_loss(uniform(keys[e], draw, counter), leave))
            if bad:
                out[e] += np.int64(stay)
            left -= stay
            bad = not bad
            counter += 1


def bad_packets(packets_E: np.ndarray, chain_E: np.ndarray, keys_E: np.ndarray, draw: int) -> np.ndarray:
    """How many of each message's packets find the link bad, int64 (E,): its stays in each state, drawn in turn.

    `chain_E` (E, 3) are the chains; zeros are links without bursts.
    """
    out = np.zeros(len(packets_E), dtype=np.int64)
    at = np.flatnonzero((chain_E[:, 0] > 0) & (packets_E > 0))
    if len(at):
        found = np.zeros(len(at), dtype=np.int64)
        to_bad, to_good = np.ascontiguousarray(chain_E[at, 0]), np.ascontiguousarray(chain_E[at, 1])
        _bad_packets(packets_E[at], to_bad, to_good, keys_E[at], draw, found)
        out[at] = found
    return out


def bad_share(to_bad: float, to_good: float) -> float:
    """The share of packets that find the link bad in the long run."""
    return to_bad / (to_bad + to_good) if to_bad else 0.0


def mean_loss(loss: float, chain: tuple[float, float, float]) -> float:
    """The share of packets that are lost in the long run, by bursts or besides."""
    to_bad, to_good, while_bad = chain
    return 1.0 - (1.0 - loss) * (1.0 - bad_share(to_bad, to_good) * while_bad)


@lru_cache(maxsize=4096)
def none_lost(packets: int, loss: float, to_bad: float, to_good: float, while_bad: float) -> float:
    """The probability that none of so many packets in a row is lost."""
    bad = bad_share(to_bad, to_good)
    good_through, bad_through = 1.0 - loss, (1.0 - loss) * (1.0 - while_bad)
    # one packet, then a step of the chain: columns are the state before, rows the state behind
    step = ((good_through * (1.0 - to_bad), bad_through * to_good),
            (good_through * to_bad, bad_through * (1.0 - to_good)))  # fmt: skip
    good, left = 1.0 - bad, packets
    while left:
        if left & 1:
            good, bad = step[0][0] * good + step[0][1] * bad, step[1][0] * good + step[1][1] * bad
        (a, b), (c, d) = step
        step = ((a * a + b * c, a * b + b * d), (c * a + d * c, c * b + d * d))
        left >>= 1
    return good + bad
