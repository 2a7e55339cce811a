"""Files of intervals per host: when each was away.

    # host, from, to: seconds; `never` for one that did not come back
    host,from_s,to_s
    a,10,20.5
    b,0,never

One interval a line, in any order; comments begin with `#`, the line of names may be missing.
"""

from __future__ import annotations

from pathlib import Path

from simnet.errors import DataError

INF = float("inf")

Interval = tuple[float, float]


def read_intervals(path: Path) -> dict[str, list[tuple[float, float, int]]]:
    """Host, as written -> (start, end, number of the line) of each interval, ascending.

    Raises DataError, with file and line, for a line that is none, an interval that ends before it starts or lies over
    another of its host, and for a file without any.
    """
    each: dict[str, list[tuple[float, float, int]]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text ({error.reason} at byte {error.start})") from None
    begun = False
    for number, line in enumerate(lines, 1):
        words = [word.strip() for word in line.partition("#")[0].split(",")]
        if words == [""]:
            continue
        if not begun and words[1:] == ["from_s", "to_s"]:
            begun = True
            continue
        begun = True
        start, end = _interval(words, f"{path}:{number}")
        each.setdefault(words[0], []).append((start, end, number))
    if not each:
        raise DataError(f"{path}: has no interval; a line is 'host,from_s,to_s', such as 'a,10,20.5'")
    for host, intervals in each.items():
        intervals.sort()
        for (_, before, _), (start, _, number) in zip(intervals, intervals[1:], strict=False):
            if start < before:
                raise DataError(f"{path}:{number}: host {host} is away from {start:g} s, and by another line until "
                                f"{before:g} s: intervals of one host must not overlap")  # fmt: skip
    return each


def _interval(words: list[str], where: str) -> Interval:
    if len(words) != 3:
        raise DataError(f"{where}: has {len(words)} columns; needs three, 'host,from_s,to_s', such as 'a,10,20.5'")
    moments = []
    for name, word in zip(("from_s", "to_s"), words[1:], strict=True):
        try:
            moments.append(INF if word == "never" and name == "to_s" else float(word))
        except ValueError:
            raise DataError(f"{where}: {name} = {word!r} is no number of seconds") from None
    start, end = moments
    if not 0.0 <= start < INF:
        raise DataError(f"{where}: from_s = {words[1]}: needs at least 0 s, and finite")
    if not start < end:
        raise DataError(f"{where}: is from {start:g} s to {end:g} s: give an end after the start, or `never`")
    return start, end
