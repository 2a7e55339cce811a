"""What is refused before the start, since it would only fail later or quietly mean something else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simnet import mixing as mixings
from simnet.batches import check_batch
from simnet.errors import CapabilityError, ScenarioError, TopologyError, UnknownName, nearest
from simnet.network.places import host_number
from simnet.recording import capability
from simnet.topology import is_connected, require_connected, require_tree

if TYPE_CHECKING:
    from simnet.prepare import Plan


def check(plan: Plan) -> None:
    """Raises an InputError for what would only fail later, or quietly mean something else."""
    scenario, algorithm, topology = plan.scenario, plan.algorithm, plan.topology
    name = type(algorithm).__name__
    if not algorithm.roles:
        if algorithm.connected:
            require_connected(topology, name)
        if algorithm.tree:
            require_tree(topology, name)
        if algorithm.mixing is not None:
            _check_mixing(plan, name)
    _check_oracles(plan, name)
    _check_ways(plan)
    _check_compressors(plan, name)
    capability(algorithm, plan.book())
    _check_second_derivatives(plan)
    algorithm.check(plan.book())
    if algorithm.partners_by_time:
        for role in plan.members:
            plan.book().partners(role)
    elif scenario.evaluate_period is not None:
        raise ScenarioError(
            f"rows of {name} end with its rounds: say 'evaluate_every', in rounds",
            field="evaluate_period",
            value=scenario.evaluate_period,
        )
    if scenario.collective.server is not None:
        host_number(plan.network, scenario.collective.server, "collective.server")
    book = plan.book()
    if book.batch is not None:
        check_batch(book, book.batch)
    by_jvp = np.array([each.by_jvp for each in plan.profiles.estimators])[plan.profiles.estimator_N]
    if plan.costs.on_arrival and (by_jvp & book.zo_n).any():
        raise ScenarioError(
            "a forward gradient is simulated by a gradient and products, whose time is not that of the derivatives: "
            "take `durations: calibrated`, which times losses, or an estimator of finite differences",
            field="nodes.durations",
        )
    declared, wire = plan.problem.wire_dtype, scenario.network.wire_dtype
    if declared is not None and declared != wire:
        raise ScenarioError(
            f"the problem declares {declared} numbers; write 'network: {{wire_dtype: {declared}}}', or declare {wire}",
            field="network.wire_dtype",
            value=wire,
        )
    known = (*METRICS, *plan.problem.own_metrics)
    for metric in scenario.target:
        if metric not in known:
            hint = nearest(metric, known) or "."
            raise UnknownName(f"no such metric{hint} There are {', '.join(known)}", field=f"target.{metric}")
        if not plan.problem.has_test and ("accuracy" in metric or "validation" in metric):
            raise ScenarioError("the problem has no test data to take this metric on", field=f"target.{metric}")


def _check_oracles(plan: Plan, name: str) -> None:
    """Refuse an algorithm whose oracles the problem does not declare."""
    declared, problem = plan.problem.oracles(), type(plan.problem).__name__
    lacking = [oracle for oracle in plan.algorithm.asks if oracle not in declared]
    if lacking:
        raise ScenarioError(
            f"{name} asks for {', '.join(lacking)}, and {problem} has {', '.join(declared)}: take a problem of two "
            "levels, such as BilevelQuadratic",
            field="problem",
        )


def _check_ways(plan: Plan) -> None:
    """Refuse a topology one of whose edges has no way over the network."""
    network, topology = plan.network, plan.topology
    if network.way is not None or not topology.static or (network.link_between(*topology.edges(0)) >= 0).all():
        return
    if not is_connected(network.link_source, network.link_target, len(network.node_names)):
        for source, target in zip(*(ends.tolist() for ends in topology.edges(0)), strict=True):
            network.path(source, target)


def _check_compressors(plan: Plan, name: str) -> None:
    """Refuse a compressor that does not fit the problem's vectors, or the algorithm's needs."""
    algorithm, d = plan.algorithm, plan.problem.dim
    for field, each in algorithm.compressors.items():
        where, kind = f"algorithm.{field}", type(each).__name__
        try:
            each.check(d)
        except ScenarioError as error:
            raise error.within(where, plan.scenario.place(where)) from None
        if algorithm.contracts and each.omega(d) is None:
            raise ScenarioError(
                f"{name} needs a compressor that contracts, and {kind} adds more noise than there is signal in vectors "
                f"of {d} numbers: take one that scales (qsgd) or selects (top_k), or more levels",
                field=where,
            )
        if algorithm.unbiased and not each.unbiased:
            raise ScenarioError(
                f"{name} needs an unbiased compressor, and the mean of what {kind} sends is not the vector: take "
                "qsgd_unbiased, or an algorithm that feeds errors back (CHOCOSGD)",
                field=where,
            )


def _check_second_derivatives(plan: Plan) -> None:
    """Refuse a model of straight pieces where the algorithm rests on second derivatives."""
    asking, kink = plan.algorithm.second_derivatives, plan.problem.kink
    if asking and kink:
        raise CapabilityError(
            f"{asking} rests on second derivatives, and {type(plan.problem).__name__} has {kink} in it, which has none "
            "at its kink and 0 elsewhere, so that Hessian-vector products miss what the kinks do: take a smooth "
            "activation ('activation: tanh' or gelu), or what rests on gradients alone, such as the scaling adam"
        )


def notes(plan: Plan) -> list[str]:
    """What a reader of the results should know of an algorithm in this network."""
    algorithm, network = plan.algorithm, plan.network
    said = algorithm.notes({role: len(hosts) for role, hosts in plan.members.items()}, plan.problem.dim)
    said += plan.problem.notes()
    if algorithm.lost_for_good and network.policy != "retry" and _can_lose(plan):
        said.append(
            f"messages can get lost for good (policy {network.policy}), and {type(algorithm).__name__} needs every "
            f"one: {algorithm.lost_for_good}. With 'network: {{policy: retry}}' none is lost"
        )
    return said


def guessed_sizes(plan: Plan) -> list[str]:
    """What a reader of an estimate should know: no vector is there to take the size of its message from."""
    return [
        f"messages of {type(each).__name__} are as long as the vectors in them ask, and an estimate has none: it "
        f"charges {each.wire_bits(plan.problem.dim):,} bits each, the length of its fixed code"
        for each in plan.algorithm.compressors.values()
        if each.by_value
    ]


def _can_lose(plan: Plan) -> bool:
    network = plan.network
    losses = any(change.loss is not None for change in network.changes.values())
    return bool((network.loss > 0).any() or network.burst.any()) or losses or plan.presence.anybody_leaves


METRICS = (
    "objective", "objective_gap", "node_objective_mean", "node_objective_spread", "consensus_distance",
    "stationarity_gap", "validation_loss", "accuracy", "validation_loss_mean_model", "accuracy_mean_model",
    "tracker_residual", "distance_to_optimum",
)  # fmt: skip


def first_mixing(plan: Plan) -> mixings.Mixing:
    """The mixing of the first exchange: the topology's own weights where it prescribes them."""
    (source, target), given = plan.topology.edges(0), plan.topology.weights(0)
    if given is None:
        return plan.make_mixing(source, target, plan.network.n)
    return mixings.from_weights(source, target, given, plan.network.n, grain=plan.grain)


def _check_mixing(plan: Plan, name: str) -> None:
    needed, known = (
        str(plan.algorithm.mixing),
        ("doubly_stochastic", "row_stochastic", "column_stochastic", "symmetric"),
    )
    if needed not in known:
        raise ScenarioError(
            f"{name}.mixing = {needed!r} is no kind of mixing matrix{nearest(needed, known)}; "
            f"there are {', '.join(known)}, and None",
            field="algorithm",
        )
    mixing = first_mixing(plan)
    if not getattr(mixing, needed):
        kind = plan.scenario.mixing.name
        words = str(needed).replace("_", " ")
        cure = (
            "take an undirected topology with 'mixing: metropolis'"
            + (", or 'mixing: uniform' on a regular one" if needed == "doubly_stochastic" else "")
            if needed in ("doubly_stochastic", "symmetric")
            else f"use 'mixing: {needed}'"
        )
        raise TopologyError(f"{name} needs a {words} mixing matrix, and 'mixing: {kind}' gives none on this topology: "
                            f"{cure}")  # fmt: skip
