"""The lowest of the levels at which something happens at a link, as links come and their levels change.

A level changes far more often than the lowest is asked for, so a change costs one look: levels stand in blocks, each of
which knows a bound that is no higher than its lowest. Whoever asks goes through the bounds, then through one block.
Levels are not negative, so they are in the order of their bits; with the place in a block in the stead of the last of
these, the least whole number tells both, and such are compared by eights. Levels that differ by less (2e-14 of them)
are equals.

Legend: `BLOCK` levels are a block, a power of two; room, that for all blocks; the bound of block b stands at room + b.
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
        first, least = np.uint64(block * BLOCK), np.int64(NEVER)
        for i in range(np.uint64(BLOCK)):
            key = (bits[first + i] & -BLOCK) | np.int64(i)
            least = key if key < least else least
        at = first + np.uint64(least & (BLOCK - 1))
        if bits[at] > low:
            bits[room + block] = bits[at]
        else:
            place = int(np.int64(at))
    return place
