"""OptEx in simulated time: what a round takes, in closed form and on the simulated clock, and what that leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

import simnet
from simnet.analysis.plot import COLOURS, GREY
from simnet.analysis.reproduce.claims import Result, Say, above, all_near, below, near
from simnet.analysis.reproduce.workers import side_by_side

SPEEDUP, POINTS, NUMBERS = 3.5, 4, 10**6  # rounds saved by N = 4 (R4), and the size of a point, 4 MB
PORT_BITS_PER_S, GBITS = 10e9, (1, 10, 40)  # the listed port, and those of the sweep
GRADIENTS_S = (0.005, 0.01024, 0.05, 0.2)
GAINS = {"shared": (0.57, 1.00, 2.31, 3.10), "serial": (0.83, 1.37, 2.65, 3.24)}  # as listed, at GRADIENTS_S
PORTS: dict[str, dict[str, Any]] = {
    "shared": {"graph": "switch", "model": "maxmin"},
    "serial": {"graph": "star", "model": "independent", "receive_ports": "serial"},
}


def round_s(port: str, gradient_s: float, bits_per_s: float) -> float:
    """Seconds of a round of N = 4 points on the simulated clock, whose fit and proxy steps take no time."""
    record = simnet.estimate({
        "network": {"nodes": POINTS + 1, "link": {"bandwidth": bits_per_s / 8, "latency": 0.0}, **PORTS[port]},
        "topology": "star", "roles": {"coordinator": [0]}, "nodes": {"step": {"gradient": gradient_s, "work": 0.0}},
        "problem": {"name": "Declared", "parameters": NUMBERS}, "algorithm": {"name": "OptEx", "N": POINTS},
        "rounds": 4, "evaluate_every": 1,
    }, full=True)  # fmt: skip
    return float(np.diff(record.rounds["sim_time_s"])[-1])


def closed_form(port: str, gradient_s: float, bits_per_s: float) -> float:
    """A shared link carries N points, then N answers. A port that serves one by one, each way, staggers the workers:
    the last has its point after N points' time, and its answer takes one more.
    """
    return gradient_s + (2 * POINTS if port == "shared" else POINTS + 1) * 32 * NUMBERS / bits_per_s


def clock(quick: bool, say: Say) -> Result:
    """R6: S = 3.5 with N = 4, d = 10^6, a port of 10 Gbit/s, no latency, free fit and proxy steps."""
    claims, curves = [], {}
    sweep = np.geomspace(0.002, 0.5, 7 if quick else 15).tolist()
    asked = [(port, g, PORT_BITS_PER_S) for port in PORTS for g in GRADIENTS_S]
    asked += [(port, g, gbit * 1e9) for port in PORTS for gbit in GBITS for g in sweep]
    took = dict(zip(asked, side_by_side(round_s, asked), strict=True))
    for port in PORTS:
        measured = {g: took[port, g, PORT_BITS_PER_S] for g in GRADIENTS_S}
        words = "N points share the port" if port == "shared" else "the port serves one by one, each way"
        claims += [
            all_near(f"{words}: seconds of a round against the closed form",
                     {f"{1e3 * g:g} ms": (closed_form(port, g, PORT_BITS_PER_S), t) for g, t in measured.items()},
                     0.01),
            all_near(f"{words}: gain in time over the plain method, against the list",
                     {f"{1e3 * g:g} ms": (gain, SPEEDUP * g / measured[g])
                      for g, gain in zip(GRADIENTS_S, GAINS[port], strict=True)}, 0.01),
        ]  # fmt: skip
        for gbit in GBITS:
            times = [took[port, g, gbit * 1e9] for g in sweep]
            pairs = {f"{gbit} Gbit/s, {1e3 * g:.3g} ms": (closed_form(port, g, gbit * 1e9), t)
                     for g, t in zip(sweep, times, strict=True)}  # fmt: skip
            claims.append(all_near(f"{words}: rounds for gradients of 2 to 500 ms, {gbit} Gbit/s", pairs, 0.01))
            curves[f"{port}, {gbit}"] = [sweep, [SPEEDUP * g / t for g, t in zip(sweep, times, strict=True)]]
        say(f"{words}: " + ", ".join(f"{1e3 * g:g} ms {SPEEDUP * g / t:.2f}" for g, t in measured.items()))
    even = 2 * POINTS * 32 * NUMBERS / PORT_BITS_PER_S / (SPEEDUP - 1)
    claims.append(near("a shared port breaks even where a gradient takes t_comm/(S - 1)", 1.0,
                       SPEEDUP * even / round_s("shared", even, PORT_BITS_PER_S), 0.01))  # fmt: skip
    return Result(claims, {"curves": curves})


def draw_clock(figure: Figure, data: dict[str, Any]) -> None:
    """Gain in time against the seconds of a gradient, for three ports and both ways to share one."""
    axes = figure.subplots()
    for name, (gradient_s, gain) in data["curves"].items():
        port, gbit = name.split(", ")
        axes.plot([1e3 * g for g in gradient_s], gain, "--" if port == "serial" else "-",
                  color=COLOURS[GBITS.index(int(gbit))],
                  label=f"{gbit} Gbit/s, {'points share it' if port == 'shared' else 'one by one'}")  # fmt: skip
    axes.axhline(1.0, color=GREY, lw=1)
    axes.annotate("break-even", (2, 1.03), color=GREY, fontsize=8)
    axes.axhline(SPEEDUP, color=GREY, lw=0.8, ls=":")
    axes.annotate("S: rounds alone", (2, SPEEDUP + 0.05), color=GREY, fontsize=8)
    axes.set(xscale="log", xlabel="milliseconds of a gradient", ylabel="gain in simulated time", ylim=(0, 3.8),
             title="R6: OptEx, N = 4, 4 MB a point, against one worker alone")  # fmt: skip
    axes.legend(loc="upper left", bbox_to_anchor=(0.0, 0.9), fontsize=7.5)


# ---- R7: time against N --------------------------------------------------------------------------------------------

SCENARIO, WIDTHS, MBITS = "optex_by_port", (2, 4, 6, 8), (100, 20, 5)
MODES = ("vanilla", "zero", "last_grad")


def rounds_to_level(mode: str, points: int) -> tuple[int, float]:
    """Rounds that the scenario needs to its level, and seconds of one gradient."""
    record = simnet.run(SCENARIO, {"algorithm.mode": mode, "algorithm.N": points, "evaluate_every": 1})
    rounds = int(record.summary["targets"]["objective"]["round"])
    return rounds, float(record.nodes["compute_s"][1]) / rounds


def time_to_level(mode: str, points: int, mbit_per_s: float, rounds: int) -> float:
    """Simulated seconds of so many rounds behind a port of that width."""
    changed = {"algorithm.mode": mode, "algorithm.N": points, "network.link.bandwidth": f"{mbit_per_s:g} Mbit/s",
               "rounds": rounds, "target": {}, "stop": {}}  # fmt: skip
    return float(simnet.estimate(SCENARIO, changed, full=True).summary["sim_time_s"])


def workers(quick: bool, say: Say) -> Result:
    """R7: the scenario `optex_by_port`: rounds are those of training, fit and proxy steps are charged."""
    runs = [("optex", n) for n in WIDTHS] + [(mode, 4) for mode in MODES]
    found = {run: tuple(each) for run, each in zip(runs, side_by_side(rounds_to_level, runs), strict=True)}
    alone_s = found["vanilla", 4][0] * found["vanilla", 4][1]
    asked = [(mode, n, mbit, found[mode, n][0]) for mode, n in runs for mbit in MBITS]
    took = {task[:3]: seconds for task, seconds in zip(asked, side_by_side(time_to_level, asked), strict=True)}
    curves = {str(mbit): [took["optex", n, mbit] for n in WIDTHS] for mbit in MBITS}
    for (mode, n), (rounds, _) in found.items():
        say(f"{mode}, N = {n}: {rounds} rounds; " + ", ".join(f"{took[mode, n, m]:.3g} s at {m} Mbit/s" for m in MBITS))
    wide, even, narrow = (curves[str(mbit)] for mbit in MBITS)
    claims = [
        below(f"a port of 100 Mbit/s: any N of 2 to 8 beats one machine alone ({alone_s:.3g} s)", alone_s, max(wide)),
        above("and N = 4 gains twice its time", 2.0, alone_s / wide[1]),
        near("20 Mbit/s: the best N breaks even", alone_s, min(even), 0.15),
        above("5 Mbit/s: every N loses", alone_s, min(narrow)),
        above("there more workers make it worse: N = 8 takes longer than N = 4", narrow[1], narrow[3]),
        above("guessing nothing (zero) never pays, whatever the port", alone_s, min(took["zero", 4, m] for m in MBITS)),
        above("the last gradient for a guess (last_grad) needs more rounds than OptEx", found["optex", 4][0],
              found["last_grad", 4][0]),
    ]  # fmt: skip
    controls = {mode: [took[mode, 4, m] for m in MBITS] for mode in MODES[1:]}
    return Result(claims, {"N": list(WIDTHS), "curves": curves, "alone_s": alone_s, "controls": controls})


def draw_workers(figure: Figure, data: dict[str, Any]) -> None:
    """Time to the level against N for three ports, with the time of one machine alone."""
    axes = figure.subplots()
    for k, (mbit, seconds) in enumerate(data["curves"].items()):
        axes.plot(data["N"], seconds, "o-", color=COLOURS[k], label=f"OptEx, port of {mbit} Mbit/s")
        for mode, marker in (("zero", "x"), ("last_grad", "v")):
            axes.plot([4], [data["controls"][mode][k]], marker, color=COLOURS[k], label=mode if k == 0 else None)
    axes.axhline(data["alone_s"], color=GREY, lw=1)
    axes.annotate("break-even: one machine alone", (data["N"][-1], data["alone_s"] * 1.05), color=GREY,
                  fontsize=8, ha="right")  # fmt: skip
    axes.set(yscale="log", xlabel="N, points a round", ylabel="simulated seconds to the level",
             title="R7: digits, time to an objective of 0.208")  # fmt: skip
    axes.set_xticks(data["N"])
    axes.legend(fontsize=8)
