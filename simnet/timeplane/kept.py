"""Compiled code that the next process finds again."""

# numba knows no types for mypy
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def kept(function: Callable[..., Any]) -> Any:
    """Compiled, and kept for the next process where there is a folder to keep it in."""
    try:
        return njit(cache=True)(function)
    except RuntimeError as error:  # a read-only installation and no home of one's own
        if "cannot cache" not in str(error):
            raise
        return njit(function)
