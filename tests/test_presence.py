"""Absences and slow periods: when a host is back, and when its work ends."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simnet.laws import INF, Cycle, Law, Renewal, day_and_night, exact_gamma, weibull
from simnet.presence import Presence


def test_a_host_is_away_at_the_start_and_back_at_the_end_of_an_interval() -> None:
    presence = Presence(3, {1: [(1.0, 2.0), (3.0, INF)]})
    assert [presence.back(1, t) for t in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 9.0)] == [0.5, 2.0, 2.0, 2.0, 2.5, INF, INF]
    assert [presence.away(1, t) for t in (0.5, 1.0, 2.0, 4.0)] == [False, True, False, True]
    assert presence.back(0, 1.5) == 1.5
    assert presence.left_s.tolist() == [INF, 3.0, INF]


def test_intervals_that_touch_are_one() -> None:
    assert Presence(1, {0: [(1.0, 2.0), (2.0, 4.0)]}).back(0, 1.0) == 4.0


def test_absence_pauses_work_and_who_is_done_as_it_leaves_goes_on_at_its_return() -> None:
    presence = Presence(2, {0: [(1.0, 2.0), (3.0, 5.0), (9.0, INF)]})
    assert presence.work(0, 0.0, 0.75) == 0.75
    assert presence.work(0, 0.0, 1.0) == 2.0
    assert presence.work(0, 0.0, 1.5) == 2.5
    assert presence.work(0, 0.5, 2.0) == 5.5
    assert presence.work(0, 5.0, 5.0) == INF
    assert presence.work(1, 1.5, 1.0) == 2.5


def test_slow_periods_stretch_the_work_that_falls_into_them() -> None:
    presence = Presence(2, slow={0: [(1.0, 3.0, 4.0), (8.0, INF, 2.0)]})
    assert presence.work(0, 0.0, 1.0) == 1.0
    assert presence.work(0, 0.0, 1.25) == 2.0  # the last quarter takes four times as long
    assert presence.work(0, 0.0, 2.0) == 3.5  # half a second's work in two, and the rest at full speed
    assert presence.work(0, 2.0, 0.25) == 3.0
    assert presence.work(0, 7.0, 3.0) == 12.0
    assert presence.work(1, 2.0, 1.0) == 3.0
    assert presence.back(0, 2.0) == 2.0


def test_a_slow_period_goes_on_while_its_host_is_away() -> None:
    presence = Presence(1, {0: [(2.0, 4.0)]}, slow={0: [(1.0, 5.0, 2.0)]})
    assert presence.work(0, 0.0, 2.5) == 5.5  # 1 s, half a second's work in 1 s, away, half in 1 s, and half a second
    assert presence.there(0, 0.0, 5.5) == 3.5
    assert list(presence.pieces(0, 0.0, 5.5)) == [(0.0, 2.0), (4.0, 5.5)]


def test_drawn_absences_have_the_means_asked_for_and_do_not_depend_on_who_looks_when() -> None:
    def made(hosts: tuple[int, ...] = (0, 2), seed: int = 3) -> Presence:
        return Presence(4, drawn=dict.fromkeys(hosts, Renewal(10.0, 2.0)), seed=seed)

    forwards, backwards, alone = made(), made(), made((0,))
    times = np.linspace(0.0, 20_000.0, 4001)
    ahead = [forwards.back(0, float(t)) for t in times]
    assert ahead == [backwards.back(0, float(t)) for t in times[::-1]][::-1]
    assert ahead == alone.back_each(np.zeros(4001, np.int64), times).tolist()
    share = np.mean([b > t for b, t in zip(ahead, times, strict=True)])
    assert share == pytest.approx(2.0 / 12.0, abs=0.03)  # 1,700 intervals: five standard deviations
    assert [forwards.back(2, float(t)) for t in times] != ahead
    assert [made(seed=4).back(0, float(t)) for t in times[:400]] != ahead[:400]
    assert forwards.back(1, 5.0) == 5.0


def test_nobody_departs_after_the_end_of_a_law() -> None:
    presence = Presence(1, drawn={0: Renewal(1.0, 1.0, 50.0)})
    spells = presence.reach(1e9)
    assert 10 < len(spells.start) < 45 and (spells.start[:-1] <= 50.0).all()
    assert presence.known_s == INF and presence.back(0, 1e8) == 1e8


@st.composite
def presences(draw: st.DrawFn) -> Presence:
    def spans(most: int) -> list[tuple[float, float]]:
        at = sorted(draw(st.lists(st.floats(0, 40), min_size=0, max_size=2 * most, unique=True)))
        pairs = list(zip(at[::2], at[1::2], strict=False))
        return [*pairs[:-1], (pairs[-1][0], INF)] if pairs and draw(st.booleans()) else pairs

    away = {host: spans(3) for host in (0, 1)}
    slow = {host: [(a, b, draw(st.sampled_from((1.5, 3.0, 7.1)))) for a, b in spans(2)] for host in (1, 2, 3)}
    return Presence(5, away, {3: Renewal(draw(st.sampled_from((0.3, 5.0))), 1.1, 60.0)}, slow, draw(st.integers(0, 9)))


@given(presence=presences(), t=st.lists(st.floats(0, 50), min_size=5, max_size=5), s=st.floats(0, 30))
def test_one_host_at_a_time_and_all_at_once_give_the_same_bits(presence: Presence, t: list[float], s: float) -> None:
    hosts, seconds = np.arange(5), np.full(5, s)
    begin = presence.back_each(hosts, np.array(t))
    assert begin.tolist() == [presence.back(i, t[i]) for i in range(5)]
    end = presence.work_each(hosts, begin, seconds)
    assert end.tolist() == [presence.work(i, begin[i], s) if s > 0 else begin[i] for i in range(5)]
    assert all(presence.back(i, end[i]) == end[i] for i in range(5))
    there = presence.there_each(begin, end)
    assert there.tolist() == [presence.there(i, begin[i], end[i]) if begin[i] < end[i] else 0.0 for i in range(5)]
    for i in range(3):  # a slow period stretches, an absence pauses: the time there is at least the work
        assert end[i] == INF or there[i] >= s * (1 - 1e-12) - 1e-12


# ---- laws ----------------------------------------------------------------------------------------------------------


def test_gamma_is_right_and_made_of_sums_products_and_quotients_alone() -> None:
    for x in np.linspace(1.05, 11.0, 200).tolist():
        assert exact_gamma(x) == pytest.approx(math.gamma(x), rel=2e-14)


@pytest.mark.parametrize("shape", (0.4, 1.0, 2.5))
def test_weibull_times_have_mean_one_and_their_own_distribution(shape: float) -> None:
    u = (np.arange(200_000) + 0.5) / 200_000
    spans = weibull(-np.log1p(-u), shape)
    scale = 1.0 / math.gamma(1 + 1 / shape)
    assert np.allclose(spans, scale * (-np.log1p(-u)) ** (1 / shape), rtol=1e-13)  # the quantiles, by the library
    assert spans.mean() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("law", (Renewal(10.0, 2.0, shape=0.6), Renewal(3.0, 1.0, shape=3.0, shape_away=0.8)))
def test_weibull_absences_have_the_availability_of_their_means(law: Renewal) -> None:
    presence = Presence(40, drawn=dict.fromkeys(range(40), law), seed=5)
    end = 2_000.0
    share = np.mean([presence.there(h, 0.0, end) / end for h in range(40)])
    assert share == pytest.approx(law.every_s / (law.every_s + law.for_s), abs=0.02)


def test_a_law_of_shape_one_is_poisson() -> None:
    plain, other = (Presence(1, drawn={0: law}, seed=1) for law in (Renewal(3.0, 1.0), Renewal(3.0, 1.0, shape=1.0)))
    times = np.linspace(0, 500, 999)
    assert [plain.back(0, t) for t in times] == [other.back(0, t) for t in times]


def test_nights_come_again_each_day_and_the_phase_is_given_or_drawn() -> None:
    given = Presence(1, drawn={0: day_and_night(24.0, 0.25, 20.0, INF, 0, 0)})
    assert [given.back(0, t) for t in (0.0, 1.0, 2.0, 19.0, 20.0, 25.0, 44.0, 50.0)] == [2, 2, 2, 19, 26, 26, 50, 50]
    assert given.there(0, 0.0, 2400.0) == pytest.approx(1800.0, rel=1e-12)  # whole days: exactly the share
    drawn = {h: day_and_night(24.0, 0.25, None, INF, 7, h) for h in range(400)}
    presence = Presence(400, drawn=drawn, seed=7)
    assert all(presence.there(h, 0.0, 240.0) == pytest.approx(180.0, rel=1e-12) for h in range(400))
    for t in (0.0, 3.0, 100.0):  # at any moment a quarter are away: 400 draws, four standard deviations
        assert np.mean([presence.away(h, t) for h in range(400)]) == pytest.approx(0.25, abs=0.09)
    assert len({law.intervals for law in drawn.values()}) == 400
    assert day_and_night(24.0, 0.25, None, INF, 7, 3) == drawn[3] != day_and_night(24.0, 0.25, None, INF, 8, 3)


def test_nights_end_with_the_law() -> None:
    presence = Presence(1, drawn={0: day_and_night(10.0, 0.5, 1.0, 25.0, 0, 0)})
    assert [presence.away(0, t) for t in (1.0, 11.0, 21.0, 31.0, 1e6)] == [True, True, True, False, False]


@pytest.mark.parametrize(
    "law",
    (
        Renewal(2.0, 0.5, shape=0.5),
        Cycle(((1.0, 2.0), (4.0, 4.5)), 5.0),
        day_and_night(3.0, 0.4, 2.5, 50.0, 0, 0),
    ),
)
def test_one_host_and_many_agree_whatever_the_law_and_whoever_looks_first(law: Law) -> None:
    one, many = Presence(3, drawn={1: law}), Presence(3, drawn={1: law})
    times = np.random.default_rng(0).uniform(0, 120, 500)
    hosts = np.ones(500, np.int64)
    assert many.back_each(hosts, times).tolist() == [one.back(1, t) for t in times.tolist()]
    assert many.work_each(hosts, times, np.full(500, 0.75)).tolist() == [one.work(1, t, 0.75) for t in times.tolist()]
