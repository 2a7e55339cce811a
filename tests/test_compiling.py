"""Whoever waits for loops to be compiled is told so, once."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest

from simnet import jit
from simnet.progress import COMPILING, shown


def made_anew(name: str) -> Any:
    def loop(x: Any) -> Any:
        return x + 1

    loop.__name__ = name
    return jit._compiled(loop)


def test_slow_loops_say_that_they_are_compiled_and_others_do_not() -> None:
    pytest.importorskip("numba")
    out = StringIO()
    slow, quick = made_anew("walk"), made_anew("turn")
    with shown("my run", out):
        assert quick(1) == 2
        assert not out.getvalue()
        assert slow(1) == slow(3) - 2 == 2
        assert slow(1.5) == 2.5  # other types, other code
    assert out.getvalue() == f"my run: {COMPILING}\n"
    assert made_anew("walk")(1) == 2
    assert out.getvalue().count("\n") == 1  # who does not listen any more is not told
