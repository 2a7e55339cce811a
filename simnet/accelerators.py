"""Nodes that are several accelerators behind one network port.

An oracle's work is split evenly over the k accelerators of a node, and they average what they found among themselves,
by a ring all-reduce of their own:

    seconds = base / k + 2 (k - 1) (latency + bytes / (k bandwidth))

`base` is what one accelerator would take (its FLOP over `compute`, or `step`); `bytes` are those of the answer, in the
wire's format: D numbers for a gradient or a Hessian-vector product, one for a loss, and the losses of all directions
for the gradient of a zo node. Without `inner` the second term is left out. The split is ideal: batches divide, and all
are equally fast. Plain arithmetic (`node.work`) is not split. Jitter and stragglers apply to the sum. What travels
inside a node is on no link and in no ledger: the network sees one host with one port.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from simnet.errors import ScenarioError
from simnet.fields import Bandwidth, Count, Seconds, Section


class Inner(Section):
    """The connection between the accelerators of one node."""

    bandwidth: Bandwidth
    """Bytes a second from each accelerator to the next."""
    latency: Seconds = 0.0
    """Seconds of each step of the ring."""


class Accelerated(Section):
    """How many accelerators a host is, and how they are connected."""

    accelerators: Count | None = None
    """Accelerators behind the host's one port, which share each oracle call; 1 by default."""
    inner: Inner | None = None
    """The accelerators' own connection; by default their averages take no time."""


@dataclass(frozen=True)
class Accelerators:
    """The accelerators of N nodes, arrays of shape (N,); `latency_N` and 1/`bandwidth_N` are 0 without `inner`."""

    count_N: np.ndarray
    bandwidth_N: np.ndarray
    latency_N: np.ndarray

    @classmethod
    def none(cls, nodes: int) -> Accelerators:
        """One accelerator at each node."""
        return cls(np.ones(nodes, np.int64), np.full(nodes, np.inf), np.zeros(nodes))

    def apply(self, section: Mapping[str, Any], who: np.ndarray, where: str) -> None:
        """Write what a section says into the rows `who`. Raises ScenarioError for a number out of its range."""
        if (count := section.get("accelerators")) is not None:
            if count < 1 or count != int(count):
                raise ScenarioError(
                    "a node is at least 1 accelerator, a whole number", field=f"{where}.accelerators", value=count
                )
            self.count_N[who] = count
        if (inner := section.get("inner")) is not None:
            self.bandwidth_N[who], self.latency_N[who] = inner["bandwidth"], inner.get("latency", 0.0)

    def check(self, section: Mapping[str, Any], who: np.ndarray, where: str) -> None:
        """Raises ScenarioError where a section connects accelerators that no host of it has."""
        if section.get("inner") is not None and len(who) and (self.count_N[who] == 1).all():
            raise ScenarioError(
                "there is one accelerator at each of these hosts, so nothing to connect: "
                "give `accelerators: 8`, or leave `inner` out",
                field=f"{where}.inner",
            )

    def share(self, base_S: np.ndarray, answer_bytes_S: np.ndarray | float, who: np.ndarray) -> np.ndarray:
        """Seconds of one call that takes one accelerator `base_S` and whose answer has so many bytes, shape (S,)."""
        k = self.count_N[who]
        steps = 2.0 * (k - 1)
        return base_S / k + steps * (self.latency_N[who] + answer_bytes_S / (k * self.bandwidth_N[who]))
