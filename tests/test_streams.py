"""Counter-based draws: known numbers, the same whatever the cut, and the laws that they claim to follow."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simnet import streams


def test_the_numbers_are_splitmix64() -> None:
    # First outputs of the reference implementation (Vigna, splitmix64.c) from seed 1234567.
    seed = np.array([1234567 + streams.GOLDEN], dtype=np.uint64)
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert streams.bits(seed, 5)[0].tolist() == expected


def test_keys_tell_words_numbers_and_their_order_apart() -> None:
    names = [
        (),
        ("a",),
        ("b",),
        ("a", "b"),
        ("b", "a"),
        ("ab",),
        (1,),
        (1, 2),
        (2, 1),
        ("1",),
        ("", "a"),
        ("a" * 8,),
        ("a" * 9,),
    ]
    found = {streams.key(0, *parts) for parts in names} | {streams.key(1, *parts) for parts in names}
    assert len(found) == 2 * len(names)


@given(st.integers(0, 2**63), st.integers(1, 40), st.integers(0, 40))
def test_a_draw_does_not_depend_on_how_it_is_cut(base: int, m: int, start: int) -> None:
    keys = streams.keys(base, np.arange(7))
    for draw in (streams.uniform, streams.normal, streams.sign):
        whole = draw(keys, start + m)
        np.testing.assert_array_equal(draw(keys, m, start=start), whole[:, start:])
        np.testing.assert_array_equal(draw(keys[3:4], start + m), whole[3:4])


def test_uniforms_lie_in_the_unit_interval_and_are_uniform() -> None:
    u = streams.uniform(streams.keys(1, np.arange(500)), 400)
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 5 * math.sqrt(1 / 12 / u.size)
    counts = np.histogram(u, bins=50, range=(0, 1))[0]
    chi2 = ((counts - u.size / 50) ** 2 / (u.size / 50)).sum()
    assert chi2 < 49 + 5 * math.sqrt(98)


def test_streams_of_neighbouring_keys_do_not_resemble_each_other() -> None:
    u = streams.uniform(streams.keys(9, np.arange(40)), 5000) - 0.5
    correlation = np.corrcoef(u) - np.eye(40)
    assert np.abs(correlation).max() < 5 / math.sqrt(5000)


def test_normals_have_the_moments_and_tails_of_a_normal() -> None:
    z = streams.normal(streams.keys(2, np.arange(500)), 400)
    n = z.size
    assert abs(z.mean()) < 5 / math.sqrt(n)
    assert abs(z.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs((z**4).mean() - 3) < 5 * math.sqrt(96 / n)
    assert abs((z > 3).mean() - 0.5 * math.erfc(3 / math.sqrt(2))) < 5 * math.sqrt(0.00135 / n)


def test_normals_invert_the_error_function() -> None:
    for u in (1e-16, 1e-12, 0.01, 0.2, 0.425, 0.5, 0.6, 0.93, 1 - 1e-9):
        z = float(streams._normal_quantile(np.array([u]))[0])
        assert 0.5 * math.erfc(-z / math.sqrt(2)) == pytest.approx(u, rel=1e-13)


def test_the_largest_uniform_still_gives_a_finite_normal() -> None:
    z = streams._normal_quantile(np.array([1.0 - 2.0**-53, 1.0, 2.0**-54]))
    assert np.isfinite(z).all()


def test_signs_are_fair() -> None:
    s = streams.sign(streams.keys(3, np.arange(100)), 1000)
    assert set(np.unique(s)) == {-1.0, 1.0}
    assert abs(s.mean()) < 5 / math.sqrt(s.size)


@given(st.integers(0, 2**63), st.integers(0, 50))
def test_permutations_are_permutations(base: int, n: int) -> None:
    assert sorted(streams.permutation(base, n).tolist()) == list(range(n))


def test_all_permutations_of_three_come_equally_often() -> None:
    seen = [tuple(streams.permutation(streams.key(0, i), 3).tolist()) for i in range(3000)]
    counts = np.array([seen.count(p) for p in set(seen)])
    assert len(counts) == 6
    assert np.abs(counts - 500).max() < 5 * math.sqrt(500)


def test_exact_logarithm_and_exponential_agree_with_the_library() -> None:
    x = np.concatenate((np.exp(np.linspace(-700, 700, 2001)), np.linspace(0.5, 2.0, 1001)))
    x = x[(x > 1.0 + 1e-6) | (x < 1.0 - 1e-6)]
    np.testing.assert_allclose(streams.exact_log(x), np.log(x), rtol=1e-14)
    assert streams.exact_log(np.array([1.0]))[0] == 0.0
    y = np.linspace(-600, 600, 4001)
    np.testing.assert_allclose(streams.exact_exp(y), np.exp(y), rtol=1e-15 * 600)
    assert streams.exact_exp(np.array([0.0]))[0] == 1.0


def test_exact_normals_agree_with_the_others() -> None:
    u = streams.uniform(streams.keys(4, np.arange(20)), 500) + 2.0**-54
    np.testing.assert_allclose(streams.exact_normal(u), streams._normal_quantile(u), rtol=1e-12, atol=1e-15)
