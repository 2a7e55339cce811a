"""Compiled loops where numba is installed, the same functions in plain Python where it is not (slower)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

njit: Any
try:
    from numba import njit
except ImportError:
    njit = None


def kept(function: Callable[..., Any]) -> Any:
    """Compiled, and kept for the next process where there is a folder to keep it in."""
    if njit is None:
        return function
    try:
        return njit(cache=True)(function)
    except RuntimeError as error:  # a read-only installation and no home of one's own
        if "cannot cache" not in str(error):
            raise
        return njit(function)
