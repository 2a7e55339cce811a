"""How far a run is: one live line on a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from simnet.jit import compiling
from simnet.units import human

NARROW = 110  # columns of a terminal
EVERY_S = 10.0  # host seconds between two plain lines
COMPILING = "compiling its loops for this machine; that takes up to a minute, once"

Progress = Callable[[dict[str, Any]], None]


@contextmanager
def shown(title: str, stream: TextIO | None = None) -> Iterator[Progress]:
    """A function that takes progress events: `round, rounds, sim_time_s, wire_bytes, messages`, maybe `objective`."""
    out = stream if stream is not None else sys.stderr
    if not out.isatty():
        with compiling(_once(lambda: print(f"{title}: {COMPILING}", file=out, flush=True))):
            yield _plain_lines(title, out)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(file=out)
    narrow = console.width < NARROW
    columns = (
        TextColumn("{task.fields[title]}", markup=False),
        BarColumn(bar_width=10 if narrow else 30),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[state]}", markup=False),
    )
    title = f"{title[:17]}\N{HORIZONTAL ELLIPSIS}" if narrow and len(title) > 18 else title
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, title=title, state="")
        started = time.perf_counter()

        def tell(event: dict[str, Any]) -> None:
            state = text(event, time.perf_counter() - started, brief=narrow)
            bar.update(task, completed=event["round"], total=event["rounds"], state=state)

        with compiling(lambda: bar.update(task, state="compiling, once" if narrow else COMPILING)):
            yield tell


def _once(do: Callable[[], None]) -> Callable[[], None]:
    left = [do]
    return lambda: left.pop()() if left else None


def text(event: dict[str, Any], host_s: float, brief: bool = False) -> str:
    """An event as a person reads it; `brief` for a narrow terminal.

    >>> text({"sim_time_s": 12.0, "wire_bytes": 3.4e6, "messages": 800, "objective": 0.5}, 2.0)
    'simulated 12 s, 3.4 MB, 400 messages/s, objective 0.5'
    """
    parts = [f"simulated {human(event['sim_time_s'], 's')}", human(event["wire_bytes"], "bytes")]
    if brief:
        return ", ".join(parts)
    if host_s > 0:
        parts.append(f"{event['messages'] / host_s:,.0f} messages/s")
    if event.get("objective") is not None:
        parts.append(f"objective {event['objective']:.4g}")
    return ", ".join(parts)


def _plain_lines(title: str, out: TextIO) -> Progress:
    started = last = time.perf_counter()

    def tell(event: dict[str, Any]) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last >= EVERY_S:
            last = now
            print(f"{title}: round {event['round']} of {event['rounds']}, {text(event, now - started)}", file=out)
            out.flush()

    return tell
