"""OptEx in simulated time: what a round takes, in closed form and on the simulated clock, and what that leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

import simnet
from simnet.analysis.plot import COLOURS, GREY
from simnet.analysis.reproduce.claims import Result, Say, all_near, near

SPEEDUP, POINTS, NUMBERS = 3.5, 4, 10**6  # rounds saved by N = 4 (R4), and the size of a point, 4 MB
PORT_BITS_PER_S = 10e9
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
    for port in PORTS:
        measured = {g: round_s(port, g, PORT_BITS_PER_S) for g in GRADIENTS_S}
        words = "N points share the port" if port == "shared" else "the port serves one by one, each way"
        claims += [
            all_near(f"{words}: seconds of a round against the closed form",
                     {f"{1e3 * g:g} ms": (closed_form(port, g, PORT_BITS_PER_S), t) for g, t in measured.items()},
                     0.01),
            all_near(f"{words}: gain in time over the plain method, against the list",
                     {f"{1e3 * g:g} ms": (gain, SPEEDUP * g / measured[g])
                      for g, gain in zip(GRADIENTS_S, GAINS[port], strict=True)}, 0.01),
        ]  # fmt: skip
        for gbit in (1, 10, 40):
            sweep = np.geomspace(0.002, 0.5, 7 if quick else 15).tolist()
            times = [round_s(port, g, gbit * 1e9) for g in sweep]
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
                  color=COLOURS[("1", "10", "40").index(gbit)],
                  label=f"{gbit} Gbit/s, {'points share it' if port == 'shared' else 'one by one'}")  # fmt: skip
    axes.axhline(1.0, color=GREY, lw=1)
    axes.annotate("break-even", (2, 1.03), color=GREY, fontsize=8)
    axes.axhline(SPEEDUP, color=GREY, lw=0.8, ls=":")
    axes.annotate("S: rounds alone", (2, SPEEDUP + 0.05), color=GREY, fontsize=8)
    axes.set(xscale="log", xlabel="milliseconds of a gradient", ylabel="gain in simulated time", ylim=(0, 3.8),
             title="R6: OptEx, N = 4, 4 MB a point, against one worker alone")  # fmt: skip
    axes.legend(loc="upper left", bbox_to_anchor=(0.0, 0.9), fontsize=7.5)
