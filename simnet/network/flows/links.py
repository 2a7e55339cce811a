"""The directed links of a network on which flows share."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Links(NamedTuple):
    """L directed links."""

    bandwidth: np.ndarray  # float64 (L,): bytes/s
    latency_s: np.ndarray  # float64 (L,)
    fatpipe: np.ndarray  # bool (L,): caps each flow, but flows do not share it
    loss: np.ndarray  # float64 (L,): probability that a packet is lost
    burst: np.ndarray  # float64 (L, 3): Gilbert-Elliott chain: good to bad, bad to good, loss while bad; zeros: none
    queue_bytes: np.ndarray  # float64 (L,): room of the drop-tail queue; infinity where none is given
    names: tuple[str, ...]
