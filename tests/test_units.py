"""Text to SI numbers and back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simnet.errors import UnitError
from simnet.units import UNITS, Dimension, human, quantity


@pytest.mark.parametrize(
    ("text", "dimension", "expected"),
    [
        ("10 Mbit/s", "bytes/s", 1.25e6),
        ("10 MB/s", "bytes/s", 1e7),
        ("10 MiB/s", "bytes/s", 10 * 2**20),
        ("10 Mibit/s", "bytes/s", 10 * 2**20 / 8),
        ("10Mbit / s", "bytes/s", 1.25e6),
        ("20 ms", "s", 0.02),
        ("3 us", "s", 3e-6),
        ("3 µs", "s", 3e-6),
        ("2 min", "s", 120.0),
        ("50 GFLOP/s", "flop/s", 5e10),
        ("5 Mflop", "flop", 5e6),
        ("1 GB", "bytes", 1e9),
        ("1_000 kB", "bytes", 1e6),
        ("1 %", "fraction", 0.01),
        ("12.5 %", "fraction", 0.125),
        ("-1.5e-3", "s", -0.0015),
        (".inf", "bytes/s", math.inf),
        (7, "bytes", 7.0),
        (0.25, "fraction", 0.25),
    ],
)
def test_text_becomes_the_si_number(text: str | float, dimension: Dimension, expected: float) -> None:
    assert quantity(text, dimension) == expected


@pytest.mark.parametrize(
    ("value", "dimension", "says"),
    [
        ("20 ms", "bytes/s", "'20 ms' is a duration. Expected a bandwidth in bytes/s, such as '100 Mbit/s' "
         "or the bare number 1.25e7"),
        ("4 Mbit", "bytes/s", "'4 Mbit' is a size. Expected a bandwidth"),
        ("100 Mbps", "bytes/s", "unknown unit 'Mbps'; did you mean 'Mbit/s'? Expected"),
        ("10 mbit/s", "bytes/s", "did you mean 'Mbit/s'?"),
        ("10 GFLOPS", "flop/s", "did you mean 'GFLOP/s'?"),
        ("10 parsec", "s", "unknown unit 'parsec'"),
        ("fast", "s", "'fast' does not begin with a number. Expected a duration in seconds, such as '20 ms' "
         "or the bare number 0.02"),
        (True, "s", "True is not a quantity"),
        (math.nan, "s", "nan is not a quantity"),
        ([1], "s", "[1] is not a quantity"),
    ],
)  # fmt: skip
def test_a_refusal_names_what_came_what_was_expected_and_an_example(
    value: object, dimension: Dimension, says: str
) -> None:
    with pytest.raises(UnitError) as error:
        quantity(value, dimension)  # type: ignore[arg-type]
    assert says in str(error.value)


def test_prefixes_keep_their_case() -> None:
    assert len({quantity(f"1 {unit}", "bytes") for unit in ("MB", "MiB", "Mbit", "Mibit", "kB", "B")}) == 6
    assert all("mB" not in units for units in UNITS.values())


@given(st.integers(0, 10**6), st.sampled_from(["s", "ms", "us", "ns"]))
def test_a_decimal_unit_rounds_once(number: int, unit: str) -> None:
    power = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    assert quantity(f"{number} {unit}", "s") == number / power


@pytest.mark.parametrize(
    ("value", "dimension", "text"),
    [
        (0.02, "s", "20 ms"),
        (61.5, "s", "61.5 s"),
        (125.0, "s", "2 min 5 s"),
        (3700.0, "s", "1 h 1 min"),
        (0.0, "s", "0 s"),
        (1.25e7, "bytes/s", "100 Mbit/s"),
        (3.4e6, "bytes", "3.4 MB"),
        (999_999.0, "bytes", "1 MB"),
        (1e10, "flop/s", "10 GFLOP/s"),
        (0.01, "fraction", "1 %"),
        (math.inf, "s", "inf"),
    ],
)
def test_numbers_are_printed_as_a_person_would(value: float, dimension: Dimension, text: str) -> None:
    assert human(value, dimension) == text


@given(st.floats(1e-9, 1e15), st.sampled_from(["bytes", "bytes/s", "flop", "flop/s"]))
def test_what_is_printed_reads_back_to_four_digits(value: float, dimension: Dimension) -> None:
    assert quantity(human(value, dimension), dimension) == pytest.approx(value, rel=5e-4)
