"""SAVIC on digits: badly scaled and well scaled pixels, equal rounds and bytes, and what makes it fragile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from simnet.analysis.plot import BLUE, COLOURS, GREY, ORANGE
from simnet.analysis.reproduce.claims import Claim, Result, Say, above, below, between, mean
from simnet.analysis.reproduce.savic_parts import HERE, runs, scenario

SEEDS, ROUNDS, SPREADS = 3, 20, (0.3, 0.5, 0.7)
ADAM: dict[str, Any] = {"name": "adam", "beta": 0.999, "alpha": 1e-3}
RMSPROP: dict[str, Any] = {"name": "rmsprop", "beta": 0.99, "alpha": 1e-3}
OASIS: dict[str, Any] = {"name": "oasis", "beta": 0.99, "alpha": 1e-2}
ADAHESSIAN: dict[str, Any] = {"name": "adahessian", "beta": 0.999, "alpha": 1e-2}
PLAIN, SCALED_ADAM, SCALED_OASIS = "Local SGD, mom.", "SAVIC-Adam, mom.", "SAVIC-OASIS, mom."
METHODS: dict[str, dict[str, Any]] = {  # steps chosen once, at p = .5
    PLAIN: {"eta": 0.3, "beta1": 0.9},
    SCALED_ADAM: {"eta": 0.02, "beta1": 0.9, "scaling": ADAM},
    SCALED_OASIS: {"eta": 0.02, "beta1": 0.9, "scaling": OASIS},
    "Local SGD": {"eta": 1.0},
    "SAVIC-Adam": {"eta": 0.1, "scaling": ADAM},
    "SAVIC-RMSProp": {"eta": 0.1, "scaling": RMSPROP},
    "SAVIC-OASIS": {"eta": 0.1, "scaling": OASIS},
    "AdaHessian": {"eta": 0.1, "scaling": ADAHESSIAN},
    "Adam local_sync": {"eta": 0.1, "scaling": ADAM, "scope": "local_sync"},
    "OASIS local_sync": {"eta": 0.1, "scaling": OASIS, "scope": "local_sync"},
    "FedAdam": {"name": "FedOpt", "eta": 0.3, "server_eta": 0.1, "steps": 10},
}


def _digits(problem: str, spread: float, p: float, seed: int, algorithm: dict[str, Any], rounds: int = ROUNDS) -> Any:
    """Ten nodes of 140 rows, a share p of each node's rows of its main class; batch 32, H = 10."""
    told = {"name": f"{HERE}:{problem}", "data": {"name": "digits", "spread": spread}, "batch": 32,
            "split": {"name": "main_class", "fraction": p, "rows": 140}}  # fmt: skip
    return scenario(told, ({} if "steps" in algorithm else {"H": 10}) | algorithm, rounds, seed=seed)


def _reached(values: Sequence[float], goal: float = 0.3) -> float:
    """The first round at most `goal`; one more than there are where none is."""
    return next((k + 1.0 for k, value in enumerate(values) if value <= goal), len(values) + 1.0)


def badly_scaled(quick: bool, say: Say) -> Result:
    """R4: each pixel times its own factor between 1/10 and 10; loss on the nodes' rows after 20 rounds, 3 seeds."""
    found = runs([_digits("Regression", 10.0, p, seed, kind) for kind in METHODS.values() for p in SPREADS
                  for seed in range(SEEDS)])  # fmt: skip
    loss: dict[str, dict[str, float]] = {}
    rounds: dict[str, dict[str, float]] = {}
    sent: dict[str, dict[str, float]] = {}
    accuracy: dict[str, dict[str, float]] = {}
    curves: dict[str, Any] = {}
    for name in METHODS:
        loss[name], rounds[name], sent[name], accuracy[name] = {}, {}, {}, {}
        for p in SPREADS:
            each = [next(found) for _ in range(SEEDS)]
            key, seeds = f"{p:g}", range(SEEDS)
            reached = [_reached(run["objective"]) for run in each]
            loss[name][key] = mean([run["objective"][-1] for run in each])
            accuracy[name][key] = mean([run["accuracy"][-1] for run in each])
            rounds[name][key] = mean(reached)
            sent[name][key] = mean([each[s]["wire_bytes"][min(int(reached[s]), ROUNDS) - 1] for s in seeds])
            curves[f"{name}, {key}"] = {
                "loss": [mean([run["objective"][r] for run in each]) for r in range(ROUNDS)],
                "bytes": each[0]["wire_bytes"],
            }
        say(
            f"{name}: " + "; ".join(f"p={p} loss {loss[name][p]:.3f}, 0.3 in {rounds[name][p]:.3g}" for p in loss[name])
        )
    grows = [name for name in METHODS if loss[name]["0.3"] < loss[name]["0.5"] < loss[name]["0.7"]]
    claims = [
        *(below(f"loss of {name} beside {PLAIN}, worst of p = .3, .5, .7", 0.75, _worst(loss, name))
          for name in (SCALED_ADAM, SCALED_OASIS)),
        *(below(f"rounds to 0.3 of {name} beside {PLAIN}, worst p", 0.6, _worst(rounds, name))
          for name in (SCALED_ADAM, SCALED_OASIS)),
        above("accuracy gained by the worse of both, smallest over p", 0.0,
              min(accuracy[name][p] - accuracy[PLAIN][p] for name in (SCALED_ADAM, SCALED_OASIS) for p in loss[PLAIN])),
        Claim("loss grows with p", f"for {len(METHODS)} of {len(METHODS)} methods", f"for {len(grows)}",
              len(grows) == len(METHODS)),
        below(f"bytes to 0.3 of {SCALED_OASIS} beside {PLAIN}, worst p", 1.0, _worst(sent, SCALED_OASIS)),
        above(f"but of {SCALED_ADAM}, p = .3: the ten vectors of its warm-up cost more than it saves", 1.0,
              sent[SCALED_ADAM]["0.3"] / sent[PLAIN]["0.3"]),
    ]  # fmt: skip
    return Result(claims, {"loss": loss, "rounds": rounds, "curves": curves})


def _worst(values: dict[str, dict[str, float]], name: str) -> float:
    return max(values[name][p] / values[PLAIN][p] for p in values[name])


def draw_badly_scaled(figure: Figure, data: dict[str, Any]) -> None:
    """Mean loss against rounds and bytes, at the largest skew."""
    panels = figure.subplots(1, 2, sharey=True)
    chosen = (PLAIN, SCALED_ADAM, SCALED_OASIS, "Local SGD", "SAVIC-OASIS", "FedAdam")
    for k, name in enumerate(chosen):
        curve = data["curves"][f"{name}, 0.7"]
        dash = "-" if "mom." in name else "--"
        panels[0].plot(range(1, len(curve["loss"]) + 1), curve["loss"], color=COLOURS[k], ls=dash, label=name)
        panels[1].plot([b / 1e6 for b in curve["bytes"]], curve["loss"], color=COLOURS[k], ls=dash)
    panels[0].set(yscale="log", xlabel="rounds", ylabel="training loss, mean of 3 seeds", title="R4: p = 0.7")
    panels[1].set(xlabel="MB on the wire, the warm-up's included", title="the same runs by bytes")
    for panel in panels:
        panel.axhline(0.3, color=GREY, lw=0.8)
    panels[0].legend(fontsize=8)


# ---- R5 ------------------------------------------------------------------------------------------------------------


def well_scaled(quick: bool, say: Say) -> Result:
    """R5: pixels as they are, an MLP 64-32-10 with tanh; scaling gains little, or nothing."""
    kinds: dict[str, dict[str, Any]] = {
        PLAIN: {"eta": 0.4, "beta1": 0.9},
        SCALED_ADAM: {"eta": 0.005, "beta1": 0.9, "scaling": ADAM},
        "Local SGD": {"eta": 2.0},
        "SAVIC-Adam, 1 statistic": {"eta": 0.01, "scaling": ADAM | {"warm_up": 1}},
    }
    found = runs([_digits("Network", 1.0, p, seed, kind) for kind in kinds.values() for p in (0.3, 0.7)
                  for seed in range(SEEDS)])  # fmt: skip
    loss: dict[str, list[float]] = {}
    for name in kinds:
        for p in (0.3, 0.7):
            loss[f"{name}\np={p}"] = [next(found)["objective"][-1] for _ in range(SEEDS)]
            say(f"{name}, p={p}: " + ", ".join(f"{value:.4f}" for value in loss[f"{name}\np={p}"]))

    def ratio(one: str, other: str, p: float) -> float:
        return mean(loss[f"{one}\np={p}"]) / mean(loss[f"{other}\np={p}"])

    first = (
        "the first point is N(0, I/64), here and in the next line; with weights uniform on +-1/sqrt(inputs) the two "
        "ratios were 0.49 and 1.35"
    )
    claims = [
        *(between(f"with momentum, p = {p}: loss of SAVIC-Adam beside Local SGD's", 0.5, 1.15,
                  ratio(SCALED_ADAM, PLAIN, p), first if p == 0.3 else "") for p in (0.3, 0.7)),
        above("without momentum and with one warm statistic, p = .3: SAVIC-Adam loses", 1.0,
              ratio("SAVIC-Adam, 1 statistic", "Local SGD", 0.3)),
    ]  # fmt: skip
    return Result(claims, {"loss": loss})


def draw_well_scaled(figure: Figure, data: dict[str, Any]) -> None:
    """Losses of each seed, and their means."""
    shown = {name.replace(", ", "\n"): values for name, values in data["loss"].items()}
    _dots(figure, shown, "R5: well-scaled digits, MLP 64-32-10, loss after 20 rounds")


def _dots(figure: Figure, values: dict[str, list[float]], title: str) -> None:
    axes = figure.subplots()
    for k, numbers in enumerate(values.values()):
        colour = (BLUE, ORANGE)[k // 2 % 2]
        axes.plot([k] * len(numbers), numbers, "o", color=colour, alpha=0.6)
        axes.plot([k - 0.25, k + 0.25], [mean(numbers)] * 2, color=colour, lw=2.5)
    axes.set_xticks(range(len(values)), list(values), fontsize=8)
    axes.set(yscale="log", ylabel="training loss", title=title)
    axes.grid(axis="x", visible=False)


# ---- what is fragile -----------------------------------------------------------------------------------------------


def fragility(quick: bool, say: Say) -> Result:
    """R4 at p = .5 without momentum: few warm-up statistics and a small floor alpha."""
    one = {"warm_up": 1}
    kinds: dict[str, dict[str, Any]] = {
        "Adam\n10 statistics": {"eta": 0.03, "scaling": ADAM},
        "Adam\n1 statistic": {"eta": 0.03, "scaling": ADAM | one},
        "OASIS, 10\nalpha 0.01": {"eta": 0.1, "scaling": OASIS},
        "OASIS, 1\nalpha 0.0001": {"eta": 0.1, "scaling": OASIS | one | {"alpha": 1e-4, "beta": 0.95}},
    }
    count = 4 if quick else 10
    found = runs([_digits("Regression", 10.0, 0.5, seed, kind) for kind in kinds.values() for seed in range(count)])
    loss: dict[str, list[float]] = {}
    for name in kinds:
        ends = [next(found)["objective"][-1] for _ in range(count)]
        loss[name] = [value if math.isfinite(value) else 1e6 for value in ends]
        say(f"{name}: {min(loss[name]):.3g} to {max(loss[name]):.3g}".replace("\n", ", "))
    ten, single, careful, careless = loss.values()
    claims = [
        below(f"Adam, alpha 1e-3, ten warm statistics: largest loss of {count} seeds", 0.3, max(ten)),
        above("with one: largest loss", 1.0, max(single)),
        below("OASIS, alpha 1e-2, ten probes: largest loss", 0.3, max(careful)),
        above("with alpha 1e-4, one probe and beta .95: smallest loss", 1.0, min(careless)),
    ]
    return Result(claims, {"loss": loss})


def draw_fragility(figure: Figure, data: dict[str, Any]) -> None:
    """Losses of each seed, and their means."""
    _dots(figure, data["loss"], "One statistic, and a floor too low: badly scaled digits, p = 0.5")
