"""SimGrid's profiles: lines `time value`, and how long after the last of them all begins anew."""

from __future__ import annotations

import math
from typing import NamedTuple

from simnet.network.simgrid.tree import Element


class Profile(NamedTuple):
    """A value that changes at given times. Before the first of them the element's own value counts."""

    times_s: tuple[float, ...]
    values: tuple[float, ...]
    again_s: float  # it begins anew this long after the last change; infinity: the last value stays


def read_profile(element: Element, text: str, source: str, again_s: float = math.inf) -> Profile:
    """The profile in `text`. Raises DataError that names `element`, the `source` and its line."""
    times: list[float] = []
    values: list[float] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        where = f"{source}, line {number}: {line.strip()!r}"
        try:
            first, second = words[0], float(words[1])
            if len(words) != 2 or not math.isfinite(second):
                raise ValueError
            if first in ("LOOPAFTER", "PERIODICITY"):
                if second <= 0:
                    raise element.error(f"{where}: must be above 0 s")
                again_s = second
                continue
            time = float(first)
        except (ValueError, IndexError):
            raise element.error(f"{where} is no `time value`, and no LOOPAFTER or PERIODICITY") from None
        if not 0 <= time < math.inf or (times and time <= times[-1]):
            raise element.error(f"{where}: times must be finite, at least 0, and rise")
        if second < 0:
            raise element.error(f"{where}: the value must be at least 0")
        times.append(time)
        values.append(second)
    if not times:
        raise element.error(f"{source}: holds no `time value`")
    return Profile(tuple(times), tuple(values), again_s)


def profile_file(element: Element, attribute: str) -> Profile | None:
    """The profile in the file that an attribute names, relative to the platform; None where it is not given."""
    name = element.get(attribute)
    if not name:
        return None
    file = element.file.parent / name
    try:
        return read_profile(element, file.read_text(encoding="utf-8"), file.name)
    except (OSError, UnicodeDecodeError) as error:
        raise element.error(f"{attribute} = {name!r}: cannot be read: {error}") from None
