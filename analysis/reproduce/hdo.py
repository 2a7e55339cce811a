"""The claims of HDO, hybrid decentralized optimization with first-order and zeroth-order nodes."""

from __future__ import annotations

from simnet.analysis.reproduce.claims import Experiment
from simnet.analysis.reproduce.hdo_closed import draw_floors, draw_moments, floors, moments
from simnet.analysis.reproduce.hdo_digits import (
    bias_limited,
    classes,
    draw_bias_limited,
    draw_classes,
    draw_networks,
    draw_populations,
    draw_rates,
    draw_times,
    networks,
    populations,
    rates,
    times,
)

TITLE = "HDO: hybrid decentralized optimization"
REFERENCE = (
    'Ansaripour, Talaei, Nadiradze and Alistarh, "Hybrid Decentralized Optimization: Leveraging Both First- and '
    'Zeroth-Order Optimizers for Faster Convergence", AAAI 2025, arXiv 2210.07703.'
)
EXPERIMENTS = [
    Experiment("R1", "averaging contracts, and estimators have their moments", moments, draw_moments),
    Experiment("R2", "noise floors in closed form", floors, draw_floors),
    Experiment("R3", "populations on digits", populations, draw_populations),
    Experiment("R3a", "where noise does not limit, no order follows", bias_limited, draw_bias_limited, quick=False),
    Experiment("R3b", "step sizes of 3 FO and 90 ZO nodes", rates, draw_rates, quick=False),
    Experiment("R4", "a small network", networks, draw_networks, quick=False),
    Experiment("R5", "equal simulated time, whoever is ready", times, draw_times),
    Experiment("R6", "each kind holds half of the classes", classes, draw_classes),
]
