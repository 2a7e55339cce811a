"""Water-filling: links that are passed over change no rate, and the lowest level is found as levels come and change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simnet.network.flows.links import Links
from simnet.network.flows.lowest import lowest, new_place, set_level
from simnet.network.flows.models import MODELS, route_table
from simnet.network.flows.moves import add, advance, next_time
from simnet.network.flows.state import BLOCK, CREDIT, MOST_CREDIT, PASSED_FROM, make_engine, rates_of

A, B, C = 0, 1, 2


@pytest.mark.parametrize("credit", [MOST_CREDIT, -MOST_CREDIT])
def test_a_link_that_was_passed_over_limits_whom_it_has_to(credit: int) -> None:
    links = Links(
        np.array([10.0, 10.0, 4.0]), np.zeros(3), np.zeros(3, bool), np.zeros(3), np.zeros((3, 3)), np.full(3, np.inf),
        ("A", "B", "C"),
    )  # fmt: skip
    engine = make_engine(*route_table(links, [[A], [A, B], [B, C]], [[], [], []], MODELS["maxmin"]), 3)
    engine.state[CREDIT] = credit
    slots = [add(engine, 0.0, route, size, route) for route, size in enumerate((5.0, 100.0, 100.0))]
    assert next_time(engine) == 1.0
    np.testing.assert_array_equal(rates_of(engine)[slots], [5.0, 5.0, 4.0])  # B carries 9 of 10 and limits nobody
    assert advance(engine, 1.0) == 1
    next_time(engine)
    np.testing.assert_array_equal(rates_of(engine)[slots], [0.0, 6.0, 4.0])  # A alone would give 10
    assert (engine.chain[B, PASSED_FROM] > 0) == (credit > 0)


@given(
    st.lists(
        st.tuples(st.integers(0, 3 * BLOCK), st.integers(0, 30).map(float) | st.just(np.inf)), min_size=1, max_size=300
    )
)
def test_the_lowest_level_is_the_first_of_the_least(changes: list[tuple[int, float]]) -> None:
    room = 4 * BLOCK
    levels = np.zeros(room + 4)  # as dirty as a settling leaves it
    known: list[float] = []
    for place, level in changes:
        if place >= len(known):
            place = len(known)
            new_place(levels, room, place)
            known.append(np.inf)
        known[place] = level
        set_level(levels, room, place, level)
        least = int(np.argmin(known))
        assert lowest(levels.view(np.int64), room, len(known)) == (least if known[least] < np.inf else -1)
