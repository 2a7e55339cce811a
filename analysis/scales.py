"""One unit for a whole column or axis, chosen by its largest number."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

_SECONDS = ((1e-9, "ns"), (1e-6, "us"), (1e-3, "ms"), (1.0, "s"), (60.0, "min"), (3600.0, "h"), (86400.0, "d"))
_BYTES = tuple((1000.0**i, unit) for i, unit in enumerate(("B", "kB", "MB", "GB", "TB", "PB")))
_FROM = {"min": 600.0, "h": 4 * 3600.0, "d": 4 * 86400.0}  # 90 s read better than 1.5 min


def common_unit(values: Iterable[float] | np.ndarray, name: str) -> tuple[float, str]:
    """(SI value of one unit, the unit) for a quantity whose `name` ends in `_s` or `_bytes`; (1, "") for others.

    >>> common_unit([0.0, 0.25], "sim_time_s"), common_unit([3e6], "wire_bytes"), common_unit([7], "round")
    ((0.001, 'ms'), (1000000.0, 'MB'), (1.0, ''))
    """
    units = _SECONDS if name.endswith("_s") else _BYTES if name.endswith("_bytes") else ()
    numbers = np.asarray(list(values), dtype=np.float64)
    numbers = np.abs(numbers[np.isfinite(numbers)])
    largest = float(numbers.max(initial=0.0))
    if not units:
        return 1.0, ""
    fit = [(size, unit) for size, unit in units if largest >= _FROM.get(unit, size)]
    if fit:
        return fit[-1]
    return (1.0, "s") if name.endswith("_s") and not largest else units[0]


def words(name: str) -> str:
    """A column's name as a person would say it.

    >>> words("sim_time_s"), words("consensus_distance")
    ('simulated time', 'consensus distance')
    """
    known = {"sim_time_s": "simulated time", "host_time_s": "host time", "wire_bytes": "bytes on the wire"}
    return known.get(name) or name.removesuffix("_s").replace("_", " ")
