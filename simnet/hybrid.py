"""What theory says of a run's zeroth-order nodes: their noise, and whether they help the first-order ones.

With n1 FO and n0 ZO nodes, where noise limits the error, that of the mean is proportional to (n0 kappa + n1)/n^2 for
all together, 1/n1 for the FO nodes alone, kappa/n0 for the ZO nodes alone. So the hybrid beats the FO nodes alone iff
kappa < 2 + n0/n1, and the ZO nodes alone always. Where noise does not limit the error, no order follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simnet.estimator import Estimator

if TYPE_CHECKING:
    from simnet.prepare import Plan

_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "bfloat16": 2.0**-9}
_DIGITS = 2.0**14  # a slope over nu is known to roundoff/nu of the loss: 1/_DIGITS of it is resolved


def _zo(plan: Plan) -> tuple[list[Estimator], int]:
    """The estimator of each ZO node that holds data, and the number of FO nodes that do."""
    hosts, profiles = plan.data_hosts, plan.profiles
    zo = np.asarray(profiles.oracle_N)[hosts] == "zo"
    return [profiles.estimators[k] for k in profiles.estimator_N[hosts[zo]]], int((~zo).sum())


def hybrid_facts(plan: Plan) -> dict[str, Any]:
    """For the record's header: `fo_nodes`, `zo_nodes`, `kappa` (mean over ZO nodes), `kappa_threshold`; of a run with
    ZO nodes.
    """
    estimators, fo = _zo(plan)
    if not estimators:
        return {}
    kappa = float(np.mean([each.kappa(plan.problem.dim) for each in estimators]))
    facts = {"fo_nodes": fo, "zo_nodes": len(estimators), "kappa": kappa}
    return facts | ({"kappa_threshold": 2 + len(estimators) / fo} if fo else {})


def hybrid_notes(plan: Plan) -> list[str]:
    """What a user should be told of the ZO nodes, and of nu where the format of numbers cannot resolve it."""
    estimators, fo = _zo(plan)
    if not estimators:
        return ["a hybrid method without a zeroth-order node"] if plan.algorithm.hybrid else []
    d, zo = plan.problem.dim, len(estimators)
    facts = hybrid_facts(plan)
    kappa = facts["kappa"]
    usual = all(each.kappa(d) == 1 + (d + 1) / getattr(each, "rv", np.nan) for each in estimators)
    said = f"kappa = {'1 + (d + 1)/rv = ' if usual else ''}{kappa:.4g}"
    notes = [f"a zeroth-order estimate has {said} times a gradient's noise"]
    if not fo:
        notes += ["a hybrid method without a first-order node"] if plan.algorithm.hybrid else []
    else:
        threshold = facts["kappa_threshold"]
        helps = kappa < threshold
        notes[0] += f"; threshold 2 + n0/n1 = {threshold:.4g} ({zo} ZO, {fo} FO nodes)"
        notes.append(
            "where noise limits the error, "
            + ("the hybrid beats its FO nodes alone and its ZO nodes alone" if helps else
               "the hybrid does worse than its FO nodes alone, and beats its ZO nodes alone")
        )  # fmt: skip
        notes.append("where it does not (small steps, few rounds), all follow the same curve")
    return notes + _unresolved(plan, estimators)


def _unresolved(plan: Plan, estimators: list[Estimator]) -> list[str]:
    dtype = plan.scenario.execution.dtype
    roundoff = _ROUNDOFF[dtype]
    small = sorted({each.difference for each in estimators if each.difference is not None})
    return [
        f"nu = {nu:g} in {dtype}: a loss is known to {roundoff:.0e} of itself, so a slope over nu to "
        f"{roundoff / nu:.0e} of the loss; take nu of at least {roundoff * _DIGITS:.0e}"
        + ("" if dtype == "float64" else ", or float64")
        for nu in small
        if nu < roundoff * _DIGITS
    ]
