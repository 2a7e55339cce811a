"""The claims of SAVIC, local methods with adaptivity via scaling."""

from __future__ import annotations

from simnet.analysis.reproduce.claims import Experiment
from simnet.analysis.reproduce.savic_digits import (
    badly_scaled,
    draw_badly_scaled,
    draw_fragility,
    draw_well_scaled,
    fragility,
    well_scaled,
)
from simnet.analysis.reproduce.savic_exact import (
    bytes_of_a_round,
    conditioning,
    draw_conditioning,
    draw_fixed_points,
    draw_noise_floors,
    fixed_points,
    identities,
    noise_floors,
)

TITLE = "SAVIC: local methods with adaptivity via scaling"
REFERENCE = (
    "Chezhegov, Skorik, Khachaturov, Shalagin, Avetisyan, Takac, Kholodov and Beznosikov, Russian Math. Surveys 79(6), "
    "2024, arXiv 2406.00846."
)
EXPERIMENTS = [
    Experiment("E", "what it equals", identities),
    Experiment("B", "bytes of a round", bytes_of_a_round),
    Experiment("R1", "the condition number does not matter", conditioning, draw_conditioning),
    Experiment("R2", "global against local scaling: fixed points", fixed_points, draw_fixed_points),
    Experiment("R3", "noise floors", noise_floors, draw_noise_floors),
    Experiment("R4", "badly scaled digits", badly_scaled, draw_badly_scaled),
    Experiment("R5", "well-scaled digits", well_scaled, draw_well_scaled),
    Experiment("F", "what is fragile", fragility, draw_fragility),
]
