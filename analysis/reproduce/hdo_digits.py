"""HDO on digits: populations at equal rounds, in simulated time, and with classes of their own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import simnet
from simnet.analysis.plot import BLUE, COLOURS, GREY
from simnet.analysis.reproduce.claims import Claim, Result, Say, above, all_near, below, exact, mean, rising, std
from simnet.analysis.reproduce.hdo_closed import NO_LINKS, population
from simnet.analysis.reproduce.hdo_parts import HERE
from simnet.analysis.reproduce.workers import side_by_side

Numbers = dict[str, list[float]]  # population -> a number of each seed
DIM = 650
DIGITS: dict[str, Any] = {"name": f"{HERE}:Regression", "data": f"{HERE}:standard_digits", "copies": "per_oracle"}


def fast(rv: int) -> dict[str, Any]:
    """Forward gradients by their exact sampler."""
    return {"name": "fwd_grad_fast", "rv": rv}


def label(fo: int, zo: int) -> str:
    """`1 FO + 15 ZO`."""
    return " + ".join([f"{fo} FO"] * (fo > 0) + [f"{zo} ZO"] * (zo > 0))


def parted(claim: str, smaller: Sequence[float], larger: Sequence[float], condition: str = "") -> Claim:
    """The mean of one lies below that of the other by more than two standard errors of their difference."""
    gap, error = mean(larger) - mean(smaller), two_errors(smaller, larger)
    return Claim(claim, "apart by more than 2 standard errors", f"{mean(smaller):.4g} and {mean(larger):.4g}, "
                 f"2 standard errors {error:.2g}", gap > error, condition)  # fmt: skip


def tied(claim: str, one: Sequence[float], other: Sequence[float], within: float, condition: str = "") -> Claim:
    """The means differ by at most so much."""
    gap = abs(mean(one) - mean(other))
    return Claim(claim, f"within {within:.2g}", f"{mean(one):.4g} and {mean(other):.4g}", gap <= within, condition)


def no_worse(claim: str, one: Sequence[float], other: Sequence[float]) -> Claim:
    """The mean of one exceeds that of the other by two standard errors of their difference at most, or 0.01."""
    by = max(two_errors(one, other), 0.01)
    return Claim(claim, f"at most {mean(other) + by:.4g}", f"{mean(one):.4g} (the other {mean(other):.4g})",
                 mean(one) <= mean(other) + by)  # fmt: skip


def two_errors(one: Sequence[float], other: Sequence[float]) -> float:
    """Twice the standard error of the difference of two means."""
    return 2 * math.sqrt(std(one) ** 2 / len(one) + std(other) ** 2 / len(other))


def run(scenario: dict[str, Any]) -> dict[str, Any]:
    """What the experiments look at of a run, as JSON has it."""
    record = simnet.run(scenario)
    columns = {name: record.rounds[name].tolist() for name in ("sim_time_s", "validation_loss", "accuracy")}
    return columns | {name: int(record.summary[name]) for name in ("messages", "wire_bytes")}


def _runs(scenarios: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return side_by_side(run, [[scenario] for scenario in scenarios])


def _late(made: Iterator[dict[str, Any]], seeds: int, rows: int, name: str = "validation_loss") -> list[float]:
    """The mean over the last rows, for each seed of the next runs."""
    return [mean(next(made)[name][-rows:]) for _ in range(seeds)]


def _rounds(fo: int, zo: int, rv: int, seed: int, **more: Any) -> dict[str, Any]:
    """The scenario of a population that trains in rounds."""
    parts = population(fo, zo, fast(rv)) | {"seed": seed, "problem": DIGITS | {"batch": 2}, "record": NO_LINKS}
    return parts | more


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.4f} +- {std(values):.4f}"


# ---- R3 ------------------------------------------------------------------------------------------------------------

POPULATIONS = ((0, 1), (1, 0), (2, 0), (0, 15), (1, 15), (16, 0))


def populations(quick: bool, say: Say) -> Result:
    """R3: B = 2, eta = 0.2, rv = 256 (kappa 3.5, threshold 17), 600 rounds, means of rounds 510 to 600, 8 seeds."""
    loss: Numbers = {}
    accuracy: Numbers = {}
    algorithm = {"name": "HDO", "eta": 0.2}
    made = _runs([_rounds(fo, zo, 256, seed, algorithm=algorithm, rounds=600, evaluate_every=30)
                  for fo, zo in POPULATIONS for seed in range(8)])  # fmt: skip
    for fo, zo in POPULATIONS:
        name, here = label(fo, zo), [next(made) for _ in range(8)]
        loss[name], accuracy[name] = ([mean(m[k][-4:]) for m in here] for k in ("validation_loss", "accuracy"))
        say(f"{name}: loss {_spread(loss[name])}, accuracy {mean(accuracy[name]):.3f}")
    order = ("1 FO + 15 ZO", "15 ZO", "1 FO", "1 ZO")
    quoted = {"1 ZO": 0.873, "1 FO": 0.909, "2 FO": 0.951, "15 ZO": 0.970, "1 FO + 15 ZO": 0.972, "16 FO": 0.973}
    gap = mean(loss["15 ZO"]) - mean(loss["1 FO + 15 ZO"])
    claims = [
        rising("loss, means of 8 seeds: hybrid < 15 ZO < 1 FO < 1 ZO", {name: mean(loss[name]) for name in order},
               "kappa 3.5 is below the threshold 17, and noise limits the error; the hybrid's lead over 15 ZO is "
               f"{gap:.4f}, where two standard errors are {two_errors(loss['15 ZO'], loss['1 FO + 15 ZO']):.4f}"),
        parted("one FO node beats one ZO node", loss["1 FO"], loss["1 ZO"]),
        parted("many ZO nodes beat one FO node", loss["15 ZO"], loss["1 FO"]),
        tied("the hybrid is as good as 16 FO nodes", loss["1 FO + 15 ZO"], loss["16 FO"], 0.01),
        all_near("accuracies of the six populations", {n: (quoted[n], mean(accuracy[n])) for n in quoted}, 0.03),
    ]  # fmt: skip
    return Result(claims, {"loss": loss})


def draw_populations(figure: Figure, data: dict[str, Any]) -> None:
    """Losses of each seed, and their means."""
    _dots(figure, data["loss"], "R3: validation loss, rounds 510 to 600, 8 seeds")


def _dots(figure: Figure, values: Mapping[str, Sequence[float]], title: str, log: bool = True) -> None:
    axes = figure.subplots()
    for k, numbers in enumerate(values.values()):
        axes.plot([k] * len(numbers), numbers, "o", color=COLOURS[k % len(COLOURS)], alpha=0.5, ms=5)
        axes.plot([k - 0.25, k + 0.25], [mean(numbers)] * 2, color=COLOURS[k % len(COLOURS)], lw=2.5)
        axes.annotate(f"{mean(numbers):.3g}", (k + 0.28, mean(numbers)), fontsize=8, va="center")
    axes.set_xticks(range(len(values)), list(values))
    axes.set(title=title, yscale="log" if log else "linear", xlim=(-0.5, len(values) - 0.3))
    axes.grid(axis="x", visible=False)


def bias_limited(quick: bool, say: Say) -> Result:
    """Counter-check of R3: eta = 0.01, rv = 10, 500 rounds, 3 seeds."""
    loss: Numbers = {}
    chosen = ((1, 0), (24, 0), (0, 24), (0, 64), (0, 256), (24, 256))
    algorithm = {"name": "HDO", "eta": 0.01}
    made = _runs([_rounds(fo, zo, 10, seed, algorithm=algorithm, rounds=500, evaluate_every=500)
                  for fo, zo in chosen for seed in range(3)])  # fmt: skip
    for fo, zo in chosen:
        name = label(fo, zo)
        loss[name] = _late(made, 3, 1)
        say(f"{name}: {_spread(loss[name])}")
    centre = mean([mean(v) for v in loss.values()])
    claim = all_near("all populations follow the same curve: no order may be claimed",
                     {name: (centre, mean(v)) for name, v in loss.items()}, 0.04)  # fmt: skip
    return Result([claim], {"loss": loss})


def draw_bias_limited(figure: Figure, data: dict[str, Any]) -> None:
    """Losses of each seed, and their means."""
    _dots(figure, data["loss"], "eta = 0.01, 500 rounds: all populations alike", log=False)


def rates(quick: bool, say: Say) -> Result:
    """3 FO + 90 ZO, rv = 10, 500 rounds, 3 seeds, five step sizes."""
    loss: Numbers = {}
    chosen = (0.005, 0.01, 0.05, 0.1, 0.5)
    made = _runs([_rounds(3, 90, 10, seed, algorithm={"name": "HDO", "eta": eta}, rounds=500, evaluate_every=500)
                  for eta in chosen for seed in range(3)])  # fmt: skip
    for eta in chosen:
        loss[f"{eta:g}"] = _late(made, 3, 1)
        say(f"eta {eta:g}: {_spread(loss[f'{eta:g}'])}")
    means = {name: mean(values) for name, values in loss.items()}
    return Result([
        rising("larger steps learn faster", {f"eta {e}": means[e] for e in ("0.1", "0.05", "0.01", "0.005")}),
        rising("but the largest is worse than the best", {f"eta {e}": means[e] for e in ("0.1", "0.5")}),
    ], {"loss": loss})  # fmt: skip


def draw_rates(figure: Figure, data: dict[str, Any]) -> None:
    """Loss against the step size."""
    axes = figure.subplots()
    for eta, values in data["loss"].items():
        axes.plot([float(eta)] * len(values), values, "o", color=BLUE, alpha=0.5)
    axes.plot([float(eta) for eta in data["loss"]], [mean(v) for v in data["loss"].values()], color=BLUE)
    axes.set(xscale="log", xlabel="step size", ylabel="validation loss", title="3 FO + 90 ZO nodes, 500 rounds")


# ---- R4 ------------------------------------------------------------------------------------------------------------


def networks(quick: bool, say: Say) -> Result:
    """R4: MLP 64-32-10, B = 4 and 8, rv = 64, 20 rounds of warm-up, 500 rounds, last three evaluations, 3 seeds."""
    problem = DIGITS | {"name": f"{HERE}:UniformMLP", "hidden": 32, "batch": {"fo": 4, "zo": 8}}
    loss: Numbers = {}
    for title, eta, chosen in (("0.05", 0.05, ((0, 1), (1, 0), (4, 0), (0, 16), (4, 16))),
                               ("0.2/0.1", {"fo": 0.2, "zo": 0.1}, ((4, 0), (0, 16), (4, 16)))):  # fmt: skip
        algorithm = {"name": "HDO", "eta": eta, "warmup": 20, "ramp": 20}
        made = _runs([_rounds(fo, zo, 64, seed, problem=problem, algorithm=algorithm, rounds=500, evaluate_every=50)
                      for fo, zo in chosen for seed in range(3)])  # fmt: skip
        for fo, zo in chosen:
            name = f"{label(fo, zo)}\neta {title}"
            loss[name] = _late(made, 3, 3)
            say(f"{name.replace(chr(10), ', ')}: {_spread(loss[name])}")
    means = {name.replace("\n", ", "): mean(values) for name, values in loss.items()}
    slow, quicker = "eta 0.05", "eta 0.2/0.1"
    hybrid = loss["4 FO + 16 ZO\neta 0.05"]
    claims = [
        rising("4 FO < 1 FO < 1 ZO", {k: means[k] for k in (f"4 FO, {slow}", f"1 FO, {slow}", f"1 ZO, {slow}")}),
        rising("16 ZO < 1 FO", {k: means[k] for k in (f"16 ZO, {slow}", f"1 FO, {slow}")}),
        *(no_worse(f"the hybrid is no worse than {part}", hybrid, loss[f"{part}\n{slow}"])
          for part in ("4 FO", "16 ZO")),
        rising("larger steps: the hybrid lies between its parts",
               {k: means[k] for k in (f"4 FO, {quicker}", f"4 FO + 16 ZO, {quicker}", f"16 ZO, {quicker}")},
               "kappa 38.7 is above the threshold 6 and noise limits the error"),
    ]  # fmt: skip
    return Result(claims, {"loss": loss})


def draw_networks(figure: Figure, data: dict[str, Any]) -> None:
    """Losses of each seed, and their means."""
    _dots(figure, data["loss"], "R4: MLP 64-32-10, validation loss, last three evaluations, 3 seeds")


# ---- R5 and R6: simulated time -------------------------------------------------------------------------------------


def _timed(fo: int, zo: int, rv: int, zo_step: float, seed: int, exchange: float, **more: Any) -> dict[str, Any]:
    """The scenario of a population in simulated time."""
    nodes: dict[str, Any] = {"step": 1.0, "jitter": 0.1, "estimator": fast(rv)}
    if zo:
        nodes["groups"] = [{"count": zo, "oracle": "zo", "step": zo_step}]
    told = {
        "seed": seed, "nodes": nodes, "rounds": 100_000, "record": NO_LINKS,
        "network": {"nodes": fo + zo, "graph": "complete", "link": {"latency": exchange, "bandwidth": "1 Tbit/s"}},
    }  # fmt: skip
    return told | more


TIMED = ((1, 0, 1.0), (0, 15, 1.0), (1, 15, 1.0), (0, 15, 4.0), (1, 15, 4.0))
EXCHANGES = {"15 ZO, 1": 2726, "1 FO + 15 ZO, 1": 2979, "15 ZO, 4": 704, "1 FO + 15 ZO, 4": 878}


def times(quick: bool, say: Say) -> Result:
    """R5: as R3 but by `ready`; an FO step takes 1, a ZO step 1 or 4, an exchange 0.05; horizon 400; 6 seeds."""
    early: Numbers = {}
    middle: Numbers = {}
    late: Numbers = {}
    curves: dict[str, Any] = {}
    met: Numbers = {}
    unequal = 0.0
    more = {"problem": DIGITS | {"batch": 2}, "algorithm": {"name": "HDOReady", "eta": 0.2}, "evaluate_period": 40.0,
            "stop": {"sim_time": 400.0}}  # fmt: skip
    made = _runs([_timed(fo, zo, 256, cost, seed, 0.05, **more) for fo, zo, cost in TIMED for seed in range(6)])
    for fo, zo, cost in TIMED:
        name, runs = f"{label(fo, zo)}, {cost:g}" if zo else label(fo, zo), [next(made) for _ in range(6)]
        loss, at = np.array([each["validation_loss"] for each in runs]), np.array(runs[0]["sim_time_s"])
        early[name], middle[name] = (loss[:, int(np.argmin(abs(at - t)))].tolist() for t in (80, 200))
        late[name] = loss[:, -3:].mean(1).tolist()
        met[name] = [each["messages"] / 2 for each in runs]
        unequal += sum(abs(each["wire_bytes"] - each["messages"] * 4 * DIM) for each in runs)
        curves[name] = {"t": at.tolist(), "loss": loss.mean(0).tolist()}
        say(f"{name}: t=80 {mean(early[name]):.3f}, t=200 {mean(middle[name]):.3f}, end {_spread(late[name])}, "
            f"{mean(met[name]):.0f} exchanges")  # fmt: skip
    alone, hybrid = "15 ZO, 4", "1 FO + 15 ZO, 4"
    slow = "ZO steps four times as long as FO steps"
    claims = [
        parted("15 ZO nodes as fast as an FO node beat it", late["15 ZO, 1"], late["1 FO"]),
        parted("so does the hybrid", late["1 FO + 15 ZO, 1"], late["1 FO"]),
        tied("hybrid and 15 ZO tie at equal speed", late["1 FO + 15 ZO, 1"], late["15 ZO, 1"], 0.02),
        *(rising(f"slow ZO nodes: the hybrid beats them {when}", {hybrid: mean(v[hybrid]), alone: mean(v[alone])}, slow)
          for when, v in (("at t = 80", early), ("at t = 200", middle), ("at the end", late))),
        rising("but 1 FO alone is ahead of it at t = 80", {"1 FO": mean(early["1 FO"]), hybrid: mean(early[hybrid])},
               slow),
        tied("and level with it at the end", late["1 FO"], late[hybrid],
             max(two_errors(late["1 FO"], late[hybrid]), 0.02), slow),
        all_near("exchanges", {name: (n, mean(met[name])) for name, n in EXCHANGES.items()}, 0.03),
        exact("bytes beyond 2 x 4 d an exchange", unequal, 0.5),
    ]  # fmt: skip
    return Result(claims, {"curves": curves})


def draw_times(figure: Figure, data: dict[str, Any]) -> None:
    """Mean loss against simulated time."""
    axes = figure.subplots()
    for k, (name, curve) in enumerate(data["curves"].items()):
        slow = name.endswith(", 4")
        axes.plot(curve["t"], curve["loss"], color=COLOURS[k], ls="--" if slow else "-",
                  label=name.replace(", 4", ", ZO step 4").replace(", 1", ", ZO step 1"))  # fmt: skip
    axes.set(yscale="log", xlabel="simulated time", ylabel="validation loss", title="R5: equal simulated time, 6 seeds")
    axes.legend()


def classes(quick: bool, say: Say) -> Result:
    """R6: FO nodes hold digits 0-4, ZO nodes 5-9; B = 8, eta = 0.05, rv = 64, exchange 0.1, horizon 300, 4 seeds."""
    split = {"name": "by_oracle", "fo": [0, 1, 2, 3, 4], "zo": [5, 6, 7, 8, 9]}
    problem = DIGITS | {"copies": "one", "split": split, "batch": 8}
    found: Numbers = {}
    chosen = ((4, 0), (0, 16), (4, 16))
    more = {"problem": problem, "algorithm": {"name": "HDOReady", "eta": 0.05}, "evaluate_period": 100.0,
            "stop": {"sim_time": 300.0}}  # fmt: skip
    made = _runs([_timed(fo, zo, 64, 1.0, seed, 0.1, **more) for fo, zo in chosen for seed in range(4)])
    for fo, zo in chosen:
        name = label(fo, zo)
        found[name] = _late(made, 4, 1, "accuracy")
        say(f"{name}: accuracy {_spread(found[name])}")
    claims = [
        below("accuracy of 4 FO nodes alone, who hold digits 0 to 4", 0.57, mean(found["4 FO"])),
        below("accuracy of 16 ZO nodes alone, who hold digits 5 to 9", 0.49, mean(found["16 ZO"])),
        above("accuracy of both together", 0.82, mean(found["4 FO + 16 ZO"])),
    ]
    return Result(claims, {"accuracy": found})


def draw_classes(figure: Figure, data: dict[str, Any]) -> None:
    """Accuracies of each seed, and their means."""
    _dots(figure, data["accuracy"], "R6: accuracy on all ten digits; FO nodes hold 0-4, ZO nodes 5-9", log=False)
    figure.axes[0].axhline(0.5, color=GREY, lw=0.8)
    figure.axes[0].set_ylim(0, 1)
    figure.axes[0].set_ylabel("accuracy")
