"""Ctrl-C during a run: it ends with the next row that can be made, its record whole; a second one ends at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_WORD = b"\ninterrupted: ends with this round; Ctrl-C again: at once, with the rows so far\n"


class Interrupt:
    """Whether Ctrl-C has asked for the end. A mark, and not an exception: one that is raised inside a `__del__` (and
    Values have one) is printed and forgotten.
    """

    asked = False

    @contextmanager
    def heard(self, watched: bool) -> Iterator[None]:
        """Take Ctrl-C for this run while it lasts, where it is ours to take; `watched`: say so to who looks on."""
        ours = threading.current_thread() is threading.main_thread()
        if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return

        def mark(number: int, frame: Any) -> None:
            if self.asked:
                signal.default_int_handler(number, frame)
            self.asked = True
            if watched:
                os.write(2, _WORD)  # not `print`, inside which this may have come

        signal.signal(signal.SIGINT, mark)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
