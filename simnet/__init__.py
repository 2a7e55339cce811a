"""simnet: simulate clusters that train models without a central boss.

record = simnet.run("scenario.yaml", set={"network.link.loss": 0.1})
record.rounds["objective"]
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

_root = Path(__file__).resolve().parent.parent
if (_root / "setup.cfg").is_file() and str(_root) not in __path__:
    __path__.append(str(_root))  # a checkout: simnet.models is the folder models/ beside this package

if TYPE_CHECKING:
    from simnet.network.flows.transfers import transfer_times as transfer_times
    from simnet.record import Record as Record
    from simnet.scenario import Scenario as Scenario
    from simnet.session import estimate as estimate
    from simnet.session import run as run

__all__ = ["Record", "Scenario", "estimate", "run", "transfer_times"]
__version__ = "0.1.0"

_HOMES = {
    "Record": "simnet.record",
    "Scenario": "simnet.scenario",
    "run": "simnet.session",
    "estimate": "simnet.session",
    "transfer_times": "simnet.network.flows.transfers",
}


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for, so that `import simnet` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'simnet' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
