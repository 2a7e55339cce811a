"""One row per in-neighbour, for all nodes at once: the values of `node.exchange`.

Legend: R rows (members of a role), E edges of the exchange.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from simnet.exchange import Exchange
from simnet.network.network import EdgeSet
from simnet.valueplane import device
from simnet.valueplane.mixing import Stale


def neighbour_rows(
    x: Exchange,
    row_of: np.ndarray,
    shape: tuple[int, ...],
    value: torch.Tensor,
    stand_in: torch.Tensor | None,
    active: np.ndarray | None,
    stale: Stale | None,
) -> torch.Tensor:
    """What every node gets, padded with zeros to the largest degree: shape (R, *shape).

    `value` is (R, d), the same row to all, or (R, out, d), one row for each out-neighbour in node order. `stand_in` is
    the Value of `missing=`; `active` says who takes part (the others get zeros); `stale` keeps what was last received.
    """
    edges = x.edges
    per_neighbour = value.dim() == 3
    source, target = row_of[edges.source], row_of[edges.target]
    position = np.arange(edges.size) - edges.in_ptr[edges.target]
    out_rank = _out_ranks(edges)

    on = partial(device.on, value.device)

    def own(which: np.ndarray) -> torch.Tensor:
        """What the receiver itself sends to the neighbour whose message is missing (zero where it sends none)."""
        if not per_neighbour:
            return value[on(target[which])]
        back = edges.reverse_E[which]
        rows = value[on(target[which]), on(np.where(back >= 0, out_rank[np.maximum(back, 0)], 0))]
        return rows.index_fill_(0, on(np.flatnonzero(back < 0)), 0)

    sent = value[on(source), on(out_rank)] if per_neighbour else value[on(source)]
    everything = np.arange(edges.size)
    if stale is not None:
        messages_then_own = torch.cat((sent, own(everything)))
        sent = stale.update(x, messages_then_own, everything, everything + edges.size).clone()
    elif x.got_E is not None:
        lost = np.flatnonzero(~x.got_E)
        if x.missing == "zero":
            sent.index_fill_(0, on(lost), 0)
        elif stand_in is not None and stand_in.dim() == 3:
            sent[on(lost)] = stand_in[on(target[lost]), on(position[lost])]
        else:
            sent[on(lost)] = own(lost) if stand_in is None else stand_in[on(target[lost])]
    out = torch.zeros((len(value), *shape), dtype=value.dtype, device=value.device)
    out[on(target), on(position)] = sent
    if active is not None:
        out.index_fill_(0, on(np.flatnonzero(~active)), 0)
    return out


def _out_ranks(edges: EdgeSet) -> np.ndarray:
    """The place of each edge among its source's edges, targets ascending."""
    rank = np.empty(edges.size, np.int64)
    for of_host in edges.out_edges:
        rank[of_host] = np.arange(len(of_host))
    return rank
