"""The arrays in which a flow engine lives: all of its state, so that compiled code can own the loop.

Few arrays with many columns: compiled code counts every array that it hands on, and what is used together lies
together.

Legend: F slots of flows, S room for the links of a route (a power of two), L links, R routes, Z links of all routes
together. The j-th link of flow f (0 <= j < S) has the *entry* f S + j.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

# columns of `route`: penalty, rate bound (bytes/s), seconds before bytes flow, share of the rate that is payload
# and for TCP: round trip, seconds; probability that a packet begins a loss event; least bandwidth (bytes/s of payload);
# packets that the queue before it holds
PENALTY, BOUND, WAIT_S, FACTOR, RTT, LOSS, BOTTLENECK, QUEUE = range(8)
ROUTE_COLUMNS = 8
# columns of `flow`: most = its own bound; left = bytes (over the factor) to go at `since` until its next stop, after =
# those behind that stop; queued = the time under which the heap holds the stop (no later than the true one, `finish`),
# or infinity; new_rate = while settling; done_s (a list, not by flow) = when those of done_tag ended
RATE, MOST, WEIGHT, NEW_RATE, LEFT, SINCE, FINISH, QUEUED, AFTER = range(9)
# and for TCP: length of the way to the stop, bytes; window and highest window, packets; bytes left of the burst and to
# the next loss; packets lost; the bound while it runs; and done_lost, a list like done_s, of packets lost
STEP, WINDOW, HIGHEST_WINDOW, BURST, TO_LOSS, LOST, RUN = range(9, 16)
# where a pool looks after it: the pool's virtual time at which it is at its next stop
VIRTUAL, DONE_S, DONE_LOST = range(16, 19)
FLOW_COLUMNS = 24
# columns of `slot`: limit = the link that limits the flow, OWN (its own bound) or NONE (not yet settled); mark = stamp
# of its last settling; new limit, whether it has its new rate, and how many of its links take part; the pool that looks
# after it, or -1
ROUTE, LIMIT, MARK, NEW_LIMIT, FROZEN, WATCHES, POOL, PHASE = range(8)
# next and previous flow with the same limit; for TCP: in slow start; waits for its timer; numbers drawn
TAG, SERIAL, NEXT, PREVIOUS, SLOW, PAUSED, DRAWN = range(8, 15)
# its place in a pool: first child, next sibling, previous sibling or parent
CHILD, SIBLING, ABOVE = range(15, 18)
# and lists (not by flow): free slots; flows that ended and were not taken yet, their tags and limits, and their places
# in these lists, by `in_order`
FREE_SLOT, DONE_SLOT, DONE_TAG, DONE_LIMIT, DONE_ORDER = range(18, 23)
SLOT_COLUMNS = 24
OWN, NONE, POOLED = -1, -2, -3
FREE, WAITING, FLOWING = 0, 1, 2  # phases
BLOCK = 64  # levels of links that stand together: a power of two
FEWEST_POOLED = 32  # flows that one link limits: fewer are not worth a pool
# columns of `entry`: next and previous entry through the same link, or -1. While settling, by flow and from the first
# on: links of its route that take part, by their places in the table of routes; and the next one at the same link
ENTRY_NEXT, ENTRY_PREVIOUS, OPEN_NEXT, WATCHED = range(4)
# columns of `link`: level = that of the flows limited here; top = no flow limited elsewhere has a higher one. While
# settling: capacity that held and frozen flows leave; what one unit of level of the open flows takes, and the most that
# it took; the level at which the link became saturated, or -1
CAPACITY, LOAD, LINK_LEVEL, TOP, LEFT_NOW, PER_LEVEL, LARGEST, SATURATED = range(8)
# what one unit of level of the flows in its pool takes, and the most that it took; and of a pool (which has the number
# of some link): its virtual time at `moved_s`; the lowest bound of its flows, as a level; the level up to which none of
# its links is full
POOL_PER, POOL_MOST, NOW, MOVED_S, LEAST_BOUND, SAFE = range(8, 14)
LINK_COLUMNS = 16
# columns of `chain`: first entry through the link; first flow limited here, and how many; flows; changes of the load
# since it was last counted; the pool of flows that it limits, and the pool that has flows here, or -1. While settling:
# stamp; first entry being settled; open flows; held flows that the link limits, and whether it is to be looked at
# whether it limits them still; whether its level was looked at since it changed; its place among the links that take
# part; and a stamp, where it is passed over
FIRST, LIMITED, LIMITED_COUNT, COUNT, CHANGES, LIMITS, POOL_HERE = range(7)
LINK_MARK, SETTLED, OPEN, HELD, CHECK, LOOKED_AT, PLACE, PASSED_MARK = range(7, 15)
# how many flows of a pool are here; the next and previous link where the same pool has flows; settlings until a pool
# may begin again, and how many the last time; and the stamp from which on the link may be passed over
POOL_COUNT, NEXT_LINK, PREVIOUS_LINK, REST, RESTS, PASSED_FROM = range(15, 21)
# and of a pool: the link that limits it; its flow that stops first, and how many it has; its first link; another link
# that all of its flows may cross, or -1; whether something else changed on its links; stamp of its last settling; and a
# list of the pools to be settled
LIMITED_BY, ROOT, SIZE, FIRST_LINK, RIVAL, LOOK, POOL_MARK, POOL_SEED = range(21, 29)
CHAIN_COLUMNS = 32
# what `state` holds; SHIFT: S = 2 ** SHIFT; congestion control (0: no TCP) and key of the draws; fewest flows of a
# pool; flows settled less, many times, those settled again since a link was wrongly passed over
HEAP_SIZE, STAMP, SEEDS, FREE_COUNT, SERIALS, DONE, FLOWS, SOLVES, WORK, SHIFT, CONTROL, KEY = range(12)
POOL_SEEDS, FEWEST, CREDIT = 12, 13, 14
MOST_CREDIT = 100_000  # and that at first
# and from there on the flows to be settled; and from its end the links that a settling touches, the last one first
SEED = 16


class Engine(NamedTuple):
    """Routes, links, flows and events."""

    route_start: Any  # int64 (R + 1,)
    route_link: Any  # uint32 (Z,)
    route_share: Any  # float64 (Z,): what a byte/s of the flow takes of the link
    route: Any  # float64 (R, ROUTE_COLUMNS)
    link: Any  # float64 (L, LINK_COLUMNS)
    chain: Any  # int32 (L, CHAIN_COLUMNS)
    flow: Any  # float64 (F, FLOW_COLUMNS)
    slot: Any  # int64 (F, SLOT_COLUMNS)
    entry: Any  # int32 (F S, 4)
    heap_t: Any  # float64 (2 F,): events by time, then by
    heap_row: Any  # int64 (2 F, 3): order; which event; and (by event) its place in the heap, or -1
    levels: Any  # float64: of the links that take part in a settling, by `lowest`
    bits: Any  # int64: the same memory
    state: Any  # int64 (16 + F + L,): numbers, and two lists
    clock: Any  # float64 (1,)


def make_engine(
    capacity: np.ndarray, route_start: np.ndarray, route_link: np.ndarray, route_share: np.ndarray,
    route: np.ndarray, flows: int,
) -> Engine:  # fmt: skip
    """An engine at time 0 without flows, with room for `flows` at a time."""
    links = len(capacity)
    shift = (int(np.diff(route_start).max(initial=1)) - 1).bit_length()
    link = _rows(links, LINK_COLUMNS)
    link[:, CAPACITY] = capacity
    chain = _rows(links, CHAIN_COLUMNS, np.int32)
    chain[:, (FIRST, LIMITED, POOL_HERE, ROOT, FIRST_LINK, RIVAL)] = -1
    chain[:, LIMITS] = chain[:, LIMITED_BY] = np.arange(links)
    rooms = _rooms(flows, 1 << shift, links)
    state = rooms["state"]
    state[STAMP], state[FREE_COUNT], state[SHIFT] = 1, flows, shift
    state[FEWEST], state[CREDIT] = FEWEST_POOLED, MOST_CREDIT
    return Engine(
        route_start=route_start, route_link=route_link.astype(np.uint32), route_share=route_share, route=route,
        link=link, chain=chain, clock=np.zeros(1), **rooms,
    )  # fmt: skip


def _rows(rows: int, columns: int, dtype: type = np.float64) -> np.ndarray:
    """Zeros whose rows begin with a cache line."""
    size = rows * columns * np.dtype(dtype).itemsize
    raw = np.zeros(size + 128, np.uint8)
    first = -raw.ctypes.data % 128
    return raw[first : first + size].view(dtype).reshape(rows, columns)


def _rooms(flows: int, room: int, links: int) -> dict[str, np.ndarray]:
    """The arrays whose size is the room for flows."""
    blocks = (links + BLOCK - 1) // BLOCK
    levels = np.zeros(blocks * (BLOCK + 1))
    rooms: dict[str, np.ndarray] = {
        "flow": _rows(flows, FLOW_COLUMNS), "slot": _rows(flows, SLOT_COLUMNS, np.int64),
        "entry": np.full((flows * room, 4), -1, np.int32), "heap_t": np.zeros(2 * flows),
        "heap_row": np.full((2 * flows, 3), -1), "levels": levels, "bits": levels.view(np.int64),
        "state": np.zeros(SEED + flows + links, np.int64),
    }  # fmt: skip
    rooms["slot"][:, FREE_SLOT] = np.arange(flows - 1, -1, -1)
    rooms["slot"][:, POOL] = -1
    return rooms


def with_longer_routes(engine: Engine, links: int) -> Engine:
    """The same engine with room for routes of so many links, no shorter than before."""
    before, after = int(engine.state[SHIFT]), (links - 1).bit_length()
    if after <= before:
        return engine
    rooms = _rooms(len(engine.flow), 1 << after, len(engine.link))
    row = np.arange(len(engine.entry))
    moved = (row >> before << after) | (row & ((1 << before) - 1))
    others = engine.entry[:, : ENTRY_PREVIOUS + 1].copy()
    others[others >= 0] = moved[others[others >= 0]]
    rooms["entry"][moved, : ENTRY_PREVIOUS + 1] = others
    some = engine.chain[:, FIRST] >= 0
    engine.chain[some, FIRST] = moved[engine.chain[some, FIRST]]
    engine.state[SHIFT] = after
    return engine._replace(entry=rooms["entry"])


def with_more_routes(engine: Engine, table: Any) -> Engine:
    """The same engine knowing the routes of `table` (a `RouteTable`) too, numbered after those it knows."""
    longer = with_longer_routes(engine, int(np.diff(table.route_start).max(initial=1)))
    return longer._replace(
        route_start=np.concatenate((engine.route_start, engine.route_start[-1] + table.route_start[1:])),
        route_link=np.concatenate((engine.route_link, table.route_link.astype(np.uint32))),
        route_share=np.concatenate((engine.route_share, table.route_share)),
        route=np.concatenate((engine.route, table.route)),
    )


def with_room(engine: Engine, flows: int) -> Engine:
    """The same engine with room for `flows` at a time, no fewer than before."""
    before = len(engine.flow)
    if flows <= before:
        return engine
    rooms = _rooms(flows, 1 << int(engine.state[SHIFT]), len(engine.link))
    more = flows - before
    first_free = rooms["slot"][:more, FREE_SLOT].copy()
    for name, room in rooms.items():
        old = getattr(engine, name)
        room[: len(old)] = old
    rooms["state"][SEED + before :] = 0  # the lists' rooms, of which only the first is in use between settlings
    free = int(engine.state[FREE_COUNT])
    rooms["slot"][:more, FREE_SLOT] = first_free
    rooms["slot"][more : more + free, FREE_SLOT] = engine.slot[:free, FREE_SLOT]
    rooms["state"][FREE_COUNT] += more
    return engine._replace(**rooms)


def rates_of(engine: Engine) -> np.ndarray:
    """The rate of each slot's flow as settled last, bytes/s over the factor, float64 (F,); 0 where none moves."""
    flow, slot, chain = engine.flow, engine.slot, engine.chain
    moves = slot[:, PHASE] == FLOWING
    pool = np.maximum(slot[:, POOL], 0)
    pooled = engine.link[chain[pool, LIMITED_BY], LINK_LEVEL] / np.where(moves, flow[:, WEIGHT], 1.0)
    rate: np.ndarray = np.where(slot[:, POOL] >= 0, pooled, flow[:, RATE])
    return np.where(moves, rate, 0.0)


def loads_of(engine: Engine) -> np.ndarray:
    """What the flows take of each link, bytes/s, float64 (L,)."""
    link, chain = engine.link, engine.chain
    here = chain[:, POOL_HERE]
    level = link[chain[np.maximum(here, 0), LIMITED_BY], LINK_LEVEL]
    load: np.ndarray = link[:, LOAD] + np.where(here >= 0, link[:, POOL_PER] * level, 0.0)
    return load
