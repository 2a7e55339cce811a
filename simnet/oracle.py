"""What an oracle takes and gives: the shapes by which a program's call is checked and its answers are told apart."""

from __future__ import annotations

import math
from typing import NamedTuple

Shape = tuple[int, ...]

STANDARD = ("gradient", "loss", "hvp")  # of a function of x: what every problem has, unless it says otherwise


class Oracle(NamedTuple):
    """Per-node shapes of the operands of one call and of its answers, of which one pass may give several; `like`: which
    of `STANDARD` it resembles, where a device profile has an overhead for each of them.

    >>> Oracle(((3,), (3,)), ((3,), (2, 2))).numbers
    7
    """

    takes: tuple[Shape, ...]
    gives: tuple[Shape, ...]
    like: str = "gradient"

    @property
    def numbers(self) -> int:
        """Numbers in all answers together."""
        return sum(map(math.prod, self.gives))

    @property
    def shape(self) -> Shape:
        """Of the answers as one tensor: the only one's, or all of them flat, one after another."""
        return self.gives[0] if len(self.gives) == 1 else (self.numbers,)


def first_order(x: Shape) -> dict[str, Oracle]:
    """The oracles of a function of x."""
    return {
        "gradient": Oracle((x,), (x,)), "loss": Oracle((x,), ((),), "loss"), "hvp": Oracle((x, x), (x,), "hvp"),
    }  # fmt: skip
