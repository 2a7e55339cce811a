"""How near a model comes to real TCP: scored as the README of the measurements says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from simnet.errors import InputError
from simnet.network.flows.files import case_from_json
from simnet.network.flows.models import MODELS
from simnet.network.flows.transfers import transfer_times

QUANTITIES = ("makespan", "mean flow time", "sorted flow times")


class Score(NamedTuple):
    """Relative errors of one model on one measured case."""

    case: str
    model: str
    lossy: bool
    errors: tuple[float, float, float]  # of QUANTITIES, the median over seeds against the median over repetitions
    makespan_s: tuple[float, float, float]  # 10 %, median and 90 % over seeds
    measured_s: tuple[float, float, float]  # least, median and most over repetitions


def score(path: Path, model: str, seeds: int) -> Score:
    """A model's errors on the measured case in a file; models that draw nothing are run once."""
    data = json.loads(path.read_text(encoding="utf-8"))
    real = data.get("real")
    if not isinstance(real, dict):
        raise InputError(f"{path.name}: holds no measurement (`real`)")
    case = case_from_json(data, path.name)
    runs = [transfer_times(case, model, seed) for seed in range(seeds if MODELS[model].tcp else 1)]
    makespan = np.array([run.finish_s.max() for run in runs])
    spent = np.array([np.sort(run.finish_s - run.start_s) for run in runs])
    errors = (
        abs(np.median(makespan) / real["makespan"]["median"] - 1),
        abs(np.median(spent.mean(1)) / real["mean_flow_time"]["median"] - 1),
        np.mean(abs(np.median(spent, 0) / real["sorted_median"] - 1)),
    )
    low, middle, high = (float(q) for q in np.quantile(makespan, (0.1, 0.5, 0.9)))
    measured = real["makespan"]
    lossy = bool(np.any(case.links.loss) or np.any(case.links.burst))
    return Score(
        path.stem, model, lossy, (float(errors[0]), float(errors[1]), float(errors[2])), (low, middle, high),
        (measured["min"], measured["median"], measured["max"]),
    )  # fmt: skip


def medians(scores: list[Score], share: float = 0.5) -> tuple[float, float, float]:
    """A quantile over cases (the median) of each quantity's error."""
    a, b, c = np.quantile(np.array([each.errors for each in scores]), share, axis=0).tolist()
    return a, b, c
