"""Decentralized stochastic bilevel optimisation: the claims of DSVRBGD, run again beside other methods."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from simnet.analysis.hypergradient import largest_error
from simnet.analysis.reproduce import bilevel_data as data
from simnet.analysis.reproduce.bilevel_runs import QUADRATIC, A, Found, S, go, megabytes, steps, together
from simnet.analysis.reproduce.claims import (
    Claim,
    Experiment,
    Result,
    Say,
    above,
    all_near,
    below,
    exact,
    mean,
    near,
    rising,
)  # fmt: skip
from simnet.lazy import torch
from simnet.models.problems.bilevel_quadratic import BilevelQuadratic
from simnet.models.problems.hyper_cleaning import SyntheticHyperCleaning
from simnet.models.problems.l2_coefficients import SyntheticL2Coefficients

TITLE = "Decentralized stochastic bilevel optimisation (DSVRBGD)"
REFERENCE = (
    "Zhang, Thai, Wu and Gao, arXiv 2311.11342. The numbers that are expected here were measured by an independent "
    "prototype of the same rules; the paper's own tables were not at hand."
)
GAP = "stationarity_gap"
DSOBA = {"name": "DSOBA"}
LOCAL = {"name": "MDBO", "ex": 0.05, "ey": 0.05, "c": 0.15, "J": 60}
SEEDS = range(8)


# ---- E0, E1: correctness -------------------------------------------------------------------------------------------


def hypergradients(quick: bool, say: Say) -> Result:
    """The exact hypergradient against central differences, and the instance against its listed values."""
    zero = np.zeros(5)
    quadratic = BilevelQuadratic(8)
    problems = {
        "the quadratic instance": (quadratic, np.linspace(-1, 1, 5)),
        "ridge coefficients": (SyntheticL2Coefficients(8), np.linspace(-0.5, 0.5, 20)),
        "hyper-cleaning": (SyntheticHyperCleaning(4, dim=4, train=6, validation_rows=10), np.linspace(-1, 1, 24)),
    }
    claims = [
        exact(f"{name}: largest difference from central differences", largest_error(problem, x), 1e-8)
        for name, (problem, x) in problems.items()
    ]
    best, value = quadratic.optimum()
    listed = [-0.01602907, -0.11871214, -0.04033996, -0.69576384, 0.35128010]
    at_zero = float(quadratic.objective(torch.as_tensor(zero)))
    claims += [
        exact("F(0) of the quadratic instance against 6.2646155414", abs(at_zero - 6.2646155414), 1e-10),
        exact("F(x*) against 6.0697700813", abs(float(value) - 6.0697700813), 1e-10),
        exact("x* against its listed coordinates", float(np.abs(best.numpy() - listed).max()), 1e-8),
    ]
    return Result(claims)


def correctness(quick: bool, say: Say) -> Result:
    """E1: exact oracles, a = 1; and what holds at every iteration."""
    claims, curves = [], {}
    problem = BilevelQuadratic(8)
    problem.prepare("cpu", torch.float64)
    for name, order, listed in (("S", S, 3380), ("A", A, 3400)):
        record = go(steps(order, 0.02, 0.05, 0.05), listed + 20, 20)
        found = {column: values[-1] for column, values in record.rounds.items()}
        hit = record.reached(GAP, 1e-18)
        state = [torch.as_tensor(record.final[v]) for v in "xyz"]
        (hx,) = problem.answers("hx", state, torch.arange(8), None)
        off = torch.linalg.vector_norm(hx.mean(0) - problem.objective_gradient(state[0].mean(0)))
        claims += [
            near(
                f"{name}: iterations until |grad F|^2 <= 1e-18", listed, np.inf if hit is None else hit["round"], 0.01
            ),
            exact(f"{name}: distance of x to x*", float(found["distance_to_optimum"] ** 0.5), 1e-7),
            exact(f"{name}: distance of y to y*(x)", float(found["lower_error"]), 1e-7),
            exact(f"{name}: distance of z to z*(x)", float(found["multiplier_error"]), 1e-7),
            exact(f"{name}: mean hx against the exact hypergradient", float(off), 1e-7),
        ]
        noisy = {**QUADRATIC, "noise": 0.3, "batch": 1}
        watched = go(steps(order, 0.02, 0.03, 0.03, a=0.1), 200, 1, noisy)
        worst = float(watched.rounds["tracker_residual"].max())
        claims.append(exact(f"{name}, noisy: |mean p - mean u| at each of 200 iterations, at most", worst, 1e-10))
        apart = _from_centralised(order)
        claims.append(exact(f"{name}, W = 11'/n, equal nodes: distance from centralised descent", apart, 1e-10))
        keep = slice(None, None, 5)
        curves[name] = [record.rounds["round"][keep].tolist(), record.rounds[GAP][keep].tolist()]
        say(f"{name}: done")
    return Result(claims, {"curves": curves})


def _from_centralised(order: dict[str, Any]) -> float:
    """The largest distance of any node's x, y, z from single-loop descent by one node that knows the averages."""
    ex, ey, ez = 0.02, 0.05, 0.05
    record = go(steps(order, ex, ey, ez), 300, 300, {**QUADRATIC, "het": 0.0}, graph="complete")
    A_YY, B_YX, b, c, e = (v.mean(0) for v in BilevelQuadratic(8).arrays)
    x, y, z = np.zeros(5), np.zeros(10), np.zeros(10)
    for _ in range(300):
        new_y = y - ey * (A_YY @ y - B_YX @ x - b)
        at_y, at_z = (new_y, None) if "order" in order else (y, z)
        new_z = z - ez * (A_YY @ z - at_y + c)
        x = x - ex * (0.1 * (x - e) + B_YX.T @ (new_z if at_z is None else at_z))
        y, z = new_y, new_z
    return max(float(np.abs(record.final[name] - own).max()) for name, own in (("x", x), ("y", y), ("z", z)))


# ---- E2: heterogeneity ---------------------------------------------------------------------------------------------

SWEEP = {  # het -> |grad F|^2 of S, A, D-SOBA after 1,500 iterations, and of LOCAL after 500
    0.0: (6.1e-14, 8.4e-14, 6.1e-14, 4.6e-9), 0.1: (6.1e-14, 8.4e-14, 4.3e-7, 7.1e-5),
    0.25: (6.2e-14, 8.4e-14, 1.6e-5, 2.6e-3), 0.5: (6.3e-14, 8.6e-14, 2.6e-4, 3.7e-2),
    1.0: (6.9e-14, 9.4e-14, 3.8e-3, 5.2e-1),
}  # fmt: skip
NAMES = ("S", "A", "D-SOBA", "LOCAL")


def heterogeneity(quick: bool, say: Say) -> Result:
    """E2: how far each method's limit moves as nodes differ."""
    kinds = [steps(S, 0.03, 0.05, 0.05), steps(A, 0.03, 0.05, 0.05), steps(DSOBA, 0.03, 0.05, 0.05), LOCAL]
    tasks = {
        f"{name}, het {het:g}": [kind, 500 if name == "LOCAL" else 1500, 500, {**QUADRATIC, "het": het}]
        for het in SWEEP
        for name, kind in zip(NAMES, kinds, strict=True)
    }
    found = dict(together(tasks, say))
    gap = {name: [found[f"{name}, het {het:g}"].last(GAP) for het in SWEEP] for name in NAMES}
    pairs = {
        f"{name} at {het:g}": (listed[k], gap[name][h])
        for h, (het, listed) in enumerate(SWEEP.items())
        for k, name in enumerate(NAMES)
        if listed[k] > 1e-13  # below, rounding has a say
    }
    far = found["LOCAL, het 1"].last("distance_to_optimum") ** 0.5
    return Result([
        below("S: |grad F|^2 after 1,500 iterations, the worst of all het", 1e-12, max(gap["S"])),
        below("A: the same", 1e-12, max(gap["A"])),
        above("D-SOBA at het 1", 1e-4, gap["D-SOBA"][-1]),
        above("LOCAL at het 1, 500 iterations", 1e-1, gap["LOCAL"][-1]),
        rising("D-SOBA over het", {f"{het:g}": v for het, v in zip(SWEEP, gap["D-SOBA"], strict=True)}),
        all_near("D-SOBA and LOCAL against the prototype's table", pairs, 0.05),
        near("LOCAL at het 1: distance of its x to x*, where it has nearly converged", 1.25, far, 0.02),
    ], {"het": list(SWEEP), "gap": gap})  # fmt: skip


def draw_heterogeneity(figure: Figure, found: dict[str, Any]) -> None:
    """Final gradient against heterogeneity."""
    panel = figure.subplots()
    for (name, values), mark in zip(found["gap"].items(), "os^D", strict=True):
        panel.semilogy(found["het"], values, marker=mark, label=name)
    panel.set(xlabel="heterogeneity of the nodes (het)", ylabel="final |grad F|^2",
              title="Trackers take the nodes' differences out; a local Hessian leads astray")  # fmt: skip
    panel.legend()


# ---- E3: variance reduction ----------------------------------------------------------------------------------------


def variance(quick: bool, say: Say) -> Result:
    """E3: the floor under noise by momentum a, and by the number of nodes; means over 8 seeds."""
    noisy = {**QUADRATIC, "noise": 0.3, "batch": 1}
    shares: dict[str, dict[str, Any]] = {"1": {"a": 1.0}, "0.001": {"a": 0.001}}
    if not quick:
        shares = {
            "1": {"a": 1.0}, "0.1": {"a": 0.1}, "0.02": {"a": 0.02}, "0.005": {"a": 0.005}, "0.001": {"a": 0.001},
            "0.001, b0 = 100": {"a": 0.001, "b0": 100},
        }  # fmt: skip
    tasks = {f"a = {name}, seed {seed}": [steps(S, 0.02, 0.03, 0.03, **share), 6000, 20, noisy, {"seed": seed}]
             for name, share in shares.items() for seed in SEEDS}  # fmt: skip
    runs = dict(together(tasks, say))
    floors = {name: [_floor(runs[f"a = {name}, seed {seed}"]) for seed in SEEDS] for name in shares}
    average = {name: mean(values) for name, values in floors.items()}
    claims = [above("mean floor of a = 1 over that of a = 0.001", 10.0, average["1"] / average["0.001"])]
    result: dict[str, Any] = {"floors": floors}
    if not quick:
        listed = {"1": 1.1e-3, "0.1": 1.05e-3, "0.02": 5.7e-4, "0.005": 1.7e-4, "0.001": 4.5e-5}
        claims += [
            near("a = 0.1 beside a = 1: momentum too large to filter anything", average["1"], average["0.1"], 0.3),
            rising("floors fall with a", {f"a = {name}": average[name] for name in reversed(listed)}),
            below("a first batch of 100 at a = 0.001, beside none", 1.0, average["0.001, b0 = 100"] / average["0.001"]),
        ]
        result["copies"] = by_nodes = _speed_up(noisy, say)
        gain = mean(by_nodes["8"]) / mean(by_nodes["32"])
        claims.append(Claim("floor at 8 nodes over that at 32, a = 1, complete", "2 to 6 (1/n is 4)", f"{gain:.3g}",
                            2 <= gain <= 6))  # fmt: skip
    return Result(claims, result)


def _floor(found: Found) -> float:
    """Mean |grad F|^2 over the last third of the iterations."""
    gap = found.rounds[GAP]
    return float(gap[len(gap) * 2 // 3 :].mean())


def _speed_up(noisy: dict[str, Any], say: Say) -> dict[str, list[float]]:
    """Floors of 8, 16 and 32 nodes, which hold the same instance so many times."""
    sizes = (8, 16, 32)
    tasks = {
        f"{n} nodes, seed {seed}": [
            steps(S, 0.02, 0.03, 0.03), 6000, 20, {**noisy, "tiles": n // 8},
            {"seed": seed, "nodes": n, "graph": "complete"},
        ] for n in sizes for seed in SEEDS
    }  # fmt: skip
    runs = dict(together(tasks, say))
    return {str(n): [_floor(runs[f"{n} nodes, seed {seed}"]) for seed in SEEDS] for n in sizes}


def draw_variance(figure: Figure, found: dict[str, Any]) -> None:
    """Every seed's floor by a, and by nodes where that was measured."""
    groups = [("momentum a", found["floors"])] + ([("nodes", found["copies"])] if "copies" in found else [])
    for panel, (label, floors) in zip(np.atleast_1d(figure.subplots(1, len(groups), sharey=True)), groups, strict=True):
        for k, values in enumerate(floors.values()):
            panel.semilogy([k] * len(values), values, "o", alpha=0.4, color="tab:blue")
            panel.semilogy([k - 0.25, k + 0.25], [mean(values)] * 2, color="black")
        panel.set_xticks(range(len(floors)), [name.replace(", ", "\n") for name in floors])
        panel.set(xlabel=label)
    figure.axes[0].set_ylabel("mean |grad F|^2 over the last third")


# ---- E4: bytes -----------------------------------------------------------------------------------------------------

# name -> section, rounds, evaluated every, MB and gossip rounds to 2e-3, MB to 1e-8
TABLE: dict[str, tuple[dict[str, Any], int, int, tuple[float, int] | None, float | None]] = {
    "S": (steps(S, 0.05, 0.05, 0.05), 600, 10, (0.26, 80), 1.60),
    "A": (steps(A, 0.05, 0.05, 0.05), 600, 10, (0.26, 80), 1.44),
    "D-SOBA": (steps(DSOBA, 0.003, 0.005, 0.005), 5000, 50, (2.08, 1300), None),
    "MA-DSBO-GT 5, 10": ({"name": "MADSBO", "Ty": 5, "N": 10}, 60, 2, (0.32, 256), None),
    "MA-DSBO-GT 10, 20": ({"name": "MADSBO", "Ty": 10, "N": 20}, 60, 2, (0.62, 496), None),
    "JHIP 5, 10": ({"name": "DSBO", "Ty": 5, "N": 10}, 60, 2, (1.56, 352), None),
    "JHIP 10, 20": ({"name": "DSBO", "Ty": 10, "N": 20}, 60, 2, (2.83, 620), None),
    "Gossip-DSBO": ({"name": "GossipDSBO"}, 600, 50, (24.6, 300), None),
    "LOCAL": (LOCAL, 500, 50, None, None),
}


def bytes_to_tolerance(quick: bool, say: Say) -> Result:
    """E4: bytes on all links and gossip rounds until |grad F(xbar)|^2 is first at a tolerance."""
    tasks = {name: [section, rounds, every] for name, (section, rounds, every, _, _) in TABLE.items()}
    tasks |= {f"{name}, steps (.05, .1, .1)": [steps(order, 0.05, 0.1, 0.1), 3000, 100]
              for name, order in (("S", S), ("A", A))}  # fmt: skip
    found = dict(together(tasks, say))
    loose = {name: found[name].until(GAP, 2e-3) for name in TABLE}
    tight = {name: found[name].until(GAP, 1e-8) for name in TABLE}
    mb = {f"{name} to 2e-3": (entry[3][0], megabytes(loose[name])) for name, entry in TABLE.items() if entry[3]}
    mb |= {f"{name} to 1e-8": (entry[4], megabytes(tight[name])) for name, entry in TABLE.items() if entry[4]}
    turns = {name: (float(entry[3][1]), _turns(loose[name])) for name, entry in TABLE.items() if entry[3]}
    s_bytes, s_rounds = loose["S"] or (np.inf, 10**9)
    quarter = min(megabytes(loose[name]) for name in ("D-SOBA", "JHIP 5, 10", "JHIP 10, 20", "Gossip-DSBO")) * 1e6
    inner = min(spent[1] for name, spent in loose.items() if name.startswith(("MA", "JHIP")) and spent)
    short = loose["MA-DSBO-GT 5, 10"] or (np.inf, 0)
    reached = [name for name, spent in tight.items() if spent]
    diverged = sorted(name[0] for name in found if "(.05" in name and found[name].outcome == "diverged")
    return Result([
        all_near("MB to 2e-3 and to 1e-8 against the table", mb, 0.05),
        all_near("gossip rounds to 2e-3 against the table", turns, 0.05),
        Claim("who gets to 1e-8", "S and A alone", ", ".join(reached), reached == ["S", "A"]),
        below("S and A to 1e-8, MB", 2.0, max(megabytes(tight["S"]), megabytes(tight["A"]))),
        below("bytes of S to 2e-3 beside the least of D-SOBA, JHIP, Gossip-DSBO", 0.25, s_bytes / quarter),
        below("gossip rounds of S to 2e-3 beside the least of all inner loops", 0.5, s_rounds / inner),
        Claim("LOCAL gets to 2e-3", "never", "never" if loose["LOCAL"] is None else "yes", loose["LOCAL"] is None),
        Claim("steps (.05, .1, .1) diverge", "A and S", " and ".join(diverged), diverged == ["A", "S"]),
        near("bytes of S beside short loops of MA-DSBO-GT at the loose tolerance: no great gain", 0.8,
             s_bytes / short[0], 0.25),
    ], {"curves": {name: found[name].line("wire_bytes", GAP) for name in TABLE}, "by_variable": {
        name: found[name].by_variable for name in TABLE}})  # fmt: skip


def _turns(spent: tuple[float, int] | None) -> float:
    """Gossip rounds of `until`; infinite where it was never reached."""
    return np.inf if spent is None else float(spent[1])


def draw_bytes(figure: Figure, found: dict[str, Any]) -> None:
    """Gradient against bytes, and what the bytes are."""
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for k, (name, (x, y)) in enumerate(found["curves"].items()):
        left.loglog(np.array(x) / 1e6, y, label=name, color=f"C{k}", ls="-" if k < 2 else "--")
    left.set(xlabel="MB on all links", ylabel="|grad F|^2 at the mean x", ylim=(1e-10, None))
    left.legend(fontsize=7)
    shares = found["by_variable"]
    bottom = np.zeros(len(shares))
    for k, variable in enumerate(("x", "y", "z", "trackers", "matrices")):
        part = np.array([100 * own.get(variable, 0) / sum(own.values()) for own in shares.values()])
        right.barh(list(shares), part, left=bottom, label=variable, color=f"C{k}")
        bottom += part
    right.invert_yaxis()
    right.tick_params(axis="y", labelsize=7)
    right.set(xlabel="% of the bytes")
    right.legend(fontsize=7, ncols=3, loc="lower center", bbox_to_anchor=(0.4, 1.0))


# ---- lost messages -------------------------------------------------------------------------------------------------


def losses(quick: bool, say: Say) -> Result:
    """Section 8: what one message in a hundred does, and what repairs it."""

    def lossy(policy: str, part: float) -> dict[str, Any]:
        link = {"bandwidth": "1 Mbit/s", "latency": "1 ms", "loss": part}
        return {"network": {"policy": policy, "loss_unit": "message", "link": link}}

    s, d = steps(S, 0.03, 0.05, 0.05), steps(DSOBA, 0.003, 0.005, 0.005)
    parts = (0.01,) if quick else (0.01, 0.05, 0.1)
    tasks: dict[str, Any] = {"S, no loss": [s, 3000, 60]}
    tasks |= {f"S, {p:.0%} lost": [s, 3000, 60, None, lossy("drop", p)] for p in parts}
    tasks |= {f"S, 1% lost, {policy}": [s, 3000, 60, None, lossy(policy, 0.01)] for policy in ("retry", "symmetric")}
    if not quick:
        tasks |= {f"D-SOBA, {p:.0%} lost": [d, 3000, 60, None, lossy("drop", p)] for p in (0.0, 0.01)}
    found = dict(together(tasks, say))
    lost = found["S, 1% lost"]
    claims = [
        below("S: |grad F|^2 after 3,000 iterations without loss", 1e-20, found["S, no loss"].last(GAP)),
        above("S, 1 % lost for good", 1e-5, lost.last(GAP)),
        below("S, 1 % lost for good: disagreement of the nodes, which shows nothing", 1e-20,
              lost.last("consensus_distance")),
        above("S, 1 % lost for good: the tracker residual, which shows it", 1e-4, lost.last("tracker_residual")),
        below("S, 1 % lost, sent again (retry)", 1e-20, found["S, 1% lost, retry"].last(GAP)),
        below("S, 1 % lost in both directions (symmetric)", 1e-20, found["S, 1% lost, symmetric"].last(GAP)),
    ]  # fmt: skip
    if not quick:
        without, with_ = (found[f"D-SOBA, {p}% lost"].last(GAP) for p in (0, 1))
        claims.append(near("D-SOBA: 1 % lost beside none, since it has no trackers to lose", 1.0, with_ / without, 0.3))
    return Result(claims, {"curves": {name: each.line("round", GAP) for name, each in found.items()},
                           "residuals": {name: each.line("round", "tracker_residual") for name, each in found.items()
                                         if "tracker_residual" in each.rounds}})  # fmt: skip


def draw_losses(figure: Figure, found: dict[str, Any]) -> None:
    """Gradient and tracker residual against iterations."""
    left, right = figure.subplots(1, 2)
    for k, name in enumerate(found["curves"]):
        x, y = found["curves"][name]
        left.semilogy(x, y, label=name, color=f"C{k}", ls=":" if "retry" in name else "-")
        if name in found["residuals"]:
            x, y = found["residuals"][name]
            right.semilogy(x, np.maximum(y, 1e-17), color=f"C{k}", ls=":" if "retry" in name else "-")
    left.set(xlabel="iterations", ylabel="|grad F|^2")
    right.set(xlabel="iterations", ylabel="tracker residual |mean p - mean u|")
    left.legend(fontsize=7)


def draw_correctness(figure: Figure, found: dict[str, Any]) -> None:
    """Gradient against iterations."""
    panel = figure.subplots()
    for name, (x, y) in found["curves"].items():
        panel.semilogy(x, y, label=name, ls="-" if name == "S" else "--")
    panel.set(xlabel="iterations", ylabel="|grad F|^2 at the mean x", title="exact oracles, eight nodes on a ring")
    panel.legend()


EXPERIMENTS = [
    Experiment("E0", "the exact hypergradient", hypergradients),
    Experiment("E1", "correctness", correctness, draw_correctness),
    Experiment("E2", "heterogeneity", heterogeneity, draw_heterogeneity),
    Experiment("E3", "variance reduction", variance, draw_variance),
    Experiment("E4", "bytes and gossip rounds to a tolerance", bytes_to_tolerance, draw_bytes),
    Experiment("E5", "ridge coefficients of logistic regression", data.coefficients, data.draw_coefficients),
    Experiment("E6", "hyper-cleaning", data.cleaning, data.draw_cleaning),
    Experiment("L", "lost messages", losses, draw_losses),
]
