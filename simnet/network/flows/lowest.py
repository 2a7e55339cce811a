"""The lowest of the levels at which something happens at a link, as links come and their levels change.

A level changes far more often than the lowest is asked for, so a change costs one look: levels stand in blocks, each of
which knows a bound that is no higher than its lowest. Whoever asks goes through the bounds, then through one block.
Levels are not negative, so they are in the order of their bits, and whole numbers are compared by eights.

Legend: K links, B blocks of `BLOCK`, room for K rounded up to whole blocks; the bound of block b stands at room + b.
"""

# numba infers the types of these functions
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np

from simnet.jit import inlined
from simnet.network.flows.state import BLOCK

NEVER = 0x7FF0000000000000  # the bits of infinity


@inlined
def new_place(levels, room, place):
    """Make room for the link at `place`, the places before it being taken."""
    if place % BLOCK == 0:
        levels[room + place // BLOCK] = np.inf
        for i in range(BLOCK):
            levels[place + i] = np.inf


@inlined
def set_level(levels, room, place, level):
    """The link at `place` has this level now."""
    levels[place] = level
    block = room + place // BLOCK
    if level < levels[block]:
        levels[block] = level


@inlined
def lowest(bits, room, count):
    """The place of the lowest of `count` levels, the first of equals; -1 where all are infinite."""
    place = -1
    blocks = (count + BLOCK - 1) // BLOCK
    while place < 0:
        block, low = 0, NEVER
        for b in range(blocks):
            if bits[room + b] < low:
                block, low = b, bits[room + b]
        if low == NEVER:
            break
        first = np.uint64(block * BLOCK)
        true = NEVER
        for i in range(np.uint64(BLOCK)):
            true = min(true, bits[first + i])
        if true > low:
            bits[room + block] = true
            continue
        at = none = np.int64(BLOCK)
        for i in range(np.uint64(BLOCK)):
            at = min(at, np.int64(i) if bits[first + i] == low else none)
        place = int(block * BLOCK + at)
    return place
