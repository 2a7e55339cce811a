"""What a link's profiles say of it over time."""

from __future__ import annotations

import math

import numpy as np

from simnet.errors import DataError
from simnet.network.flows.traces import Changes, Steps, Trace
from simnet.network.simgrid.platform import Link, SimgridPlatform
from simnet.network.simgrid.profiles import Profile


def link_changes(platform: SimgridPlatform, link: Link) -> Changes:
    """A link's profiles as changes; one of state is a bandwidth, 0 while the link is off.

    Raises DataError for profiles that do not go together, or that let nothing through.
    """
    made: dict[str, Steps] = {}
    for attribute, profile in link.profiles.items():
        values, before = np.array(profile.values, np.float64), link.bandwidth
        kind, steps = "bandwidth", Trace  # type: str, type[Steps]
        if attribute == "latency_file":
            kind, steps, before = "latency", Steps, link.latency_s
        elif attribute == "state_file":
            values = np.where(values > 0, link.bandwidth, 0.0)
        where = f"{platform.file.name}: link {link.name}"
        if kind in made:
            raise DataError(f"{where}: has profiles of bandwidth and of state; write one that says both")
        try:
            made[kind] = steps(np.array(profile.times_s, np.float64), values, before, _period(profile))
        except DataError as error:
            raise DataError(f"{where}: {attribute}: {error}") from None
    return Changes(**made)  # type: ignore[arg-type]


def _period(profile: Profile) -> float:
    """As SimGrid counts: the first change comes again its own time after the pause that follows the last."""
    return profile.times_s[-1] + profile.again_s if profile.again_s < math.inf else math.inf
