"""The compiled walk's traces are those of the plain one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba")

from simnet.network.flows.traces import Steps
from simnet.timeplane.compiled_shifts import piece, pieces_of
from tests.test_traces import traces


@st.composite
def moments(draw: st.DrawFn, steps: Steps) -> float:
    """Any moment, and those at and around which a value changes."""
    t = draw(st.floats(0, 100))
    if draw(st.booleans()):
        turn = draw(st.integers(0, 20)) * steps.period_s if np.isfinite(steps.period_s) else 0.0
        t = float(draw(st.sampled_from(steps.times_s.tolist()))) + turn
        t = float(draw(st.sampled_from((t, np.nextafter(t, 0), np.nextafter(t, np.inf)))))
    return max(t, 0.0)


@given(data=st.data(), scale=st.sampled_from((1.0, 0.1, 1 / 3)), made=st.lists(traces(), min_size=1, max_size=3))
def test_a_piece_is_the_same_to_the_last_bit(data: st.DataObject, scale: float, made: list[Steps]) -> None:
    """At times that are no whole numbers, a change that comes again is at a rounded moment."""
    steps = [Steps(m.times_s * scale, m.values, m.before, m.period_s * scale) for m in made]
    pieces = pieces_of(steps)
    for q, each in enumerate(steps):
        t = data.draw(moments(each))
        assert piece(pieces, q, t) == each.piece(t)
