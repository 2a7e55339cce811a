"""Node profiles: how long one call of an oracle takes at each node, in simulated seconds.

    seconds = shared x jitter factor x (slowdown, with the straggler's probability)
    shared  = base / k + the k accelerators' own average, where a node is several (`simnet.accelerators`); else base
    base    = the step given for the oracle, else its cost in FLOP / the node's FLOP/s, else the device's seconds
              (measured, or by a profile: `simnet.costs`) / the node's speed

Laws of the jitter factor, all with mean 1; s is the spread, u a uniform number in [0, 1):

    law           factor                              spread
    uniform       1 + s (2u - 1)                      half-width, 0 <= s < 1
    exponential   1 - s + s E, E ~ Exp(1)             standard deviation, 0 <= s <= 1
    lognormal     exp(s z - s^2/2), z ~ N(0, 1)       deviation of the logarithm, 0 <= s <= 8
    pareto        U^(-1/a) / (1 + s), U = 1 - u       a = 1 + 1/s, 0 <= s <= 100; infinite variance from 1 on

Draws are keyed by (seed, "work" | "straggler", occurrence, node): whatever part of the nodes is asked for,
each gets its own number. Only exactly rounded operations turn draws into times, so times are equal on every
processor.

Shapes: N nodes of the network, S nodes of one call.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simnet import streams
from simnet.accelerators import Accelerators
from simnet.errors import ScenarioError, UnknownName, nearest
from simnet.estimator import Estimator, made, merged
from simnet.fields import Part

LAWS = ("uniform", "exponential", "lognormal", "pareto")
_LARGEST = {"uniform": 1.0, "exponential": 1.0, "lognormal": 8.0, "pareto": 100.0}
ORACLES = ("fo", "zo")
ANY = "*"  # the step of every oracle that has none of its own


@dataclass(frozen=True)
class Profiles:
    """The profiles of N nodes as arrays of shape (N,); `Profiles.of` builds them from a scenario's section.

    `compute_N` FLOP/s, NaN where only steps or a device are given; `speed_N` how many times as fast as the device;
    `device_N` the name of its profile, empty for none; `step_s` maps an oracle (or `*`) to seconds, NaN where
    a node has none; `law_N` indexes `LAWS`; `oracle_N` is `fo` or `zo`; `estimator_N` numbers, for each node, the
    entry of `estimators` by which a zo node answers `gradient`.
    `accelerators` says how many share a node's oracle calls, and how they average.
    """

    compute_N: np.ndarray
    step_s: Mapping[str, np.ndarray]
    law_N: np.ndarray
    spread_N: np.ndarray
    probability_N: np.ndarray
    slowdown_N: np.ndarray
    oracle_N: np.ndarray
    estimator_N: np.ndarray
    estimators: list[Estimator]
    accelerators: Accelerators
    speed_N: np.ndarray
    device_N: np.ndarray

    @property
    def nodes(self) -> int:
        return len(self.compute_N)

    @classmethod
    def of(cls, section: Mapping[str, Any], hosts: int | Sequence[Hashable], base_dir: Path | None = None) -> Profiles:
        """Profiles from the `nodes` section of a scenario (SI numbers) for `hosts` (a number or names).

        Groups apply in order, later ones over earlier ones; what a group says of `compute` or `step` replaces
        all steps from above it. `file.py:Name` of an estimator counts from `base_dir`. Raises ScenarioError for a
        number out of its range, UnknownName for an unknown law, oracle kind, estimator or host.
        """
        names: list[Hashable] = list(range(hosts)) if isinstance(hosts, int) else list(hosts)
        n = len(names)
        steps: dict[str, np.ndarray] = {}
        profiles = cls(
            compute_N=np.full(n, np.nan),
            step_s=steps,
            law_N=np.zeros(n, np.int64),
            spread_N=np.zeros(n),
            probability_N=np.zeros(n),
            slowdown_N=np.ones(n),
            oracle_N=np.full(n, "fo"),
            estimator_N=np.zeros(n, np.int64),
            estimators=[],
            accelerators=Accelerators.none(n),
            speed_N=np.ones(n),
            device_N=np.full(n, "", dtype=object),
        )
        sections = [(section, np.arange(n), "nodes")]
        grouped: set[int] = set()
        for g, group in enumerate(section.get("groups") or ()):
            where = f"nodes.groups.{g}"
            chosen = _members(group, names, grouped, where)
            grouped.update(chosen.tolist())
            sections.append((group, chosen, where))
        parts: list[Part] = []
        for given, who, where in sections:
            profiles._apply(given, who, steps, where)
            profiles._estimate(given, who, parts, where, base_dir)
            profiles.accelerators.apply(given, who, where)
        for given, who, where in sections:
            profiles.accelerators.check(given, who, where)
        return profiles

    def _apply(self, section: Mapping[str, Any], who: np.ndarray, steps: dict[str, np.ndarray], where: str) -> None:
        """Write the fields that `section` gives into the rows `who`."""
        if (compute := section.get("compute")) is not None:
            if not compute > 0:
                raise ScenarioError(
                    "a node needs a positive speed; give FLOP/s such as '10 GFLOP/s', or seconds per call as "
                    "`nodes.step: 10 ms`",
                    field=f"{where}.compute",
                    value=compute,
                )
            self.compute_N[who], self.device_N[who] = compute, ""
        if (device := section.get("device")) is not None:
            self.compute_N[who], self.device_N[who] = np.nan, device
        if (speed := section.get("speed")) is not None:
            self.speed_N[who] = speed
        step = section.get("step")
        if compute is not None or step is not None or device is not None:
            for row in steps.values():  # a speed or a step replaces all steps from above
                row[who] = np.nan
        if step is not None:
            for oracle, seconds in (step if isinstance(step, Mapping) else {ANY: step}).items():
                if seconds is None:
                    continue
                if not 0 <= seconds < np.inf:
                    raise ScenarioError("a duration is at least 0 s and finite", field=f"{where}.step", value=seconds)
                steps.setdefault(oracle, np.full(self.nodes, np.nan))[who] = seconds
        if (jitter := section.get("jitter")) is not None:
            self.law_N[who], self.spread_N[who] = _jitter(jitter, f"{where}.jitter")
        if (straggler := section.get("straggler")) is not None:
            self.probability_N[who], self.slowdown_N[who] = _straggler(straggler, f"{where}.straggler")
        if (oracle := section.get("oracle")) is not None:
            self.oracle_N[who] = _known(oracle, ORACLES, f"{where}.oracle")

    def _estimate(
        self, section: Mapping[str, Any], who: np.ndarray, parts: list[Part], where: str, base_dir: Path | None
    ) -> None:
        """Give the rows `who` the section's estimator; what it leaves out is taken from the one that they had."""
        given = section.get("estimator")
        if not parts:
            given = given or {}
        if given is None:
            return
        for number in np.unique(self.estimator_N[who]) if parts else (None,):
            at = who if number is None else who[self.estimator_N[who] == number]
            part = merged(given, None if number is None else parts[number])
            self.estimators.append(made(part, f"{where}.estimator", base_dir))
            self.estimator_N[at] = len(parts)
            parts.append(part)

    def forward_passes(self, who: np.ndarray, d: int) -> np.ndarray:
        """Evaluations of the loss that an estimate costs at each of these nodes, float64 (S,)."""
        return np.array([each.forward_passes(d) for each in self.estimators], dtype=np.float64)[self.estimator_N[who]]

    def numbers(self, who: np.ndarray, d: int) -> np.ndarray:
        """Numbers that the accelerators of each of these nodes average for an estimate, float64 (S,)."""
        return np.array([each.numbers(d) for each in self.estimators], dtype=np.float64)[self.estimator_N[who]]

    def base_seconds(
        self,
        oracle: str,
        flop_S: np.ndarray | float,
        nodes: np.ndarray | None = None,
        alone_S: np.ndarray | None = None,
        dim: int = 0,
    ) -> np.ndarray:
        """Seconds of one call of `oracle` before jitter and stragglers, shape (S,).

        A step of the scenario counts for the call as a whole. Where a zo node answers `gradient` and a step for `loss`
        is given, the call takes one of those for each forward pass of an estimate of `dim` numbers. `work` is charged
        by its FLOP alone, and may be 0. `alone_S` are the seconds on the device, where the node has no FLOP/s of its
        own. Raises ScenarioError where neither a step nor a positive cost in FLOP and a speed are known.
        """
        who = np.arange(self.nodes) if nodes is None else np.asarray(nodes)
        cost = np.asarray(flop_S, dtype=np.float64)
        base = np.broadcast_to(cost / self.compute_N[who], who.shape).copy()
        if alone_S is not None:
            on_device = np.isnan(self.compute_N[who])
            base[on_device] = (alone_S / self.speed_N[who])[on_device]
        priced = np.zeros(who.shape, dtype=bool)
        for name in (oracle,) if oracle == "work" else (ANY, oracle):
            if name in self.step_s:
                step = self.step_s[name][who]
                given = ~np.isnan(step)
                base[given], priced[given] = step[given], True
        if oracle == "gradient" and "loss" in self.step_s:
            step = self.step_s["loss"][who]
            estimated = (self.oracle_N[who] == "zo") & ~np.isnan(step)
            if estimated.any():
                base[estimated] = (self.forward_passes(who, dim) * step)[estimated]
            priced |= estimated
        known = priced | ((base > 0) & (base < np.inf))
        if oracle == "work":
            known |= base == 0
        if not known.all():
            self._refuse(oracle, int(who[~known][0]), float(np.broadcast_to(cost, who.shape)[~known][0]))
        return base

    def _refuse(self, oracle: str, node: int, flop: float) -> None:
        speed = self.compute_N[node]
        why = (
            f"node {node} has no `compute` (FLOP/s)"
            if np.isnan(speed)
            else f"its cost in FLOP is {'unknown' if np.isnan(flop) else f'{flop:g}'} at node {node}"
        )
        raise ScenarioError(
            f"no duration of the oracle {oracle!r} is known: {why}. Say how long a call takes, e.g. "
            f"`nodes: {{step: {{{oracle}: 10 ms}}}}` (0 s is allowed when you write it)",
            field="nodes.step",
        )

    def seconds(
        self,
        oracle: str,
        flop_S: np.ndarray | float,
        occurrence: int,
        seed: int,
        nodes: np.ndarray | None = None,
    ) -> np.ndarray:
        """Seconds of one call of `oracle` at each of `nodes` (default: all), float64 of shape (S,).

        `flop_S` is the call's cost at those nodes in FLOP (NaN: unknown); `occurrence` counts calls in the
        program. Raises as `base_seconds` does.
        """
        who = np.arange(self.nodes) if nodes is None else np.asarray(nodes)
        return self.varied(self.base_seconds(oracle, flop_S, who), occurrence, seed, who)

    def varied(self, base_S: np.ndarray, occurrence: int, seed: int, who: np.ndarray) -> np.ndarray:
        """Base durations of one call with the draws of jitter and stragglers, float64 of shape (S,)."""
        seconds = base_S
        if self.spread_N.any():
            u = streams.uniform(streams.keys(streams.key(seed, "work", occurrence), who), 1)[:, 0]
            seconds = seconds * jitter_factor(u, self.law_N[who], self.spread_N[who])
        if self.probability_N.any():
            u = streams.uniform(streams.keys(streams.key(seed, "straggler", occurrence), who), 1)[:, 0]
            seconds = seconds * np.where(u < self.probability_N[who], self.slowdown_N[who], 1.0)
        return seconds


def jitter_factor(u_S: np.ndarray, law_S: np.ndarray, spread_S: np.ndarray) -> np.ndarray:
    """Factors of mean 1 from uniforms in [0, 1) by each node's law and spread, all of shape (S,)."""
    if (law_S == law_S[0]).all() and (spread_S > 0).all():  # the usual case: one law for all
        return _LAW[LAWS[int(law_S[0])]](u_S, spread_S)
    factor = np.ones_like(u_S)
    for index in np.unique(law_S[spread_S > 0]):
        at = (law_S == index) & (spread_S > 0)
        factor[at] = _LAW[LAWS[index]](u_S[at], spread_S[at])
    return factor


def _uniform(u: np.ndarray, s: np.ndarray) -> np.ndarray:
    return 1.0 + s * (2.0 * u - 1.0)


def _exponential(u: np.ndarray, s: np.ndarray) -> np.ndarray:
    return 1.0 - s - s * streams.exact_log(1.0 - u)


def _lognormal(u: np.ndarray, s: np.ndarray) -> np.ndarray:
    inner = np.minimum(u + 2.0**-54, 1.0 - 2.0**-53)  # open at both ends, also where the sum rounds up to 1
    return streams.exact_exp(s * streams.exact_normal(inner) - 0.5 * s * s)


def _pareto(u: np.ndarray, s: np.ndarray) -> np.ndarray:
    return streams.exact_exp(-s / (1.0 + s) * streams.exact_log(1.0 - u)) / (1.0 + s)


_LAW = {"uniform": _uniform, "exponential": _exponential, "lognormal": _lognormal, "pareto": _pareto}


# ---- reading the section -------------------------------------------------------------------------------------------


def _known(name: object, known: Sequence[str], where: str) -> str:
    if name not in known:
        hint = nearest(str(name), known)
        raise UnknownName(f"known are {', '.join(known)}{hint}", field=where, value=name)
    return str(name)


def _jitter(jitter: float | Mapping[str, Any], where: str) -> tuple[int, float]:
    """(index of the law, spread); a number alone is the half-width of a uniform factor."""
    given = jitter if isinstance(jitter, Mapping) else {"spread": jitter}
    law = _known(given.get("law", "uniform"), LAWS, f"{where}.law")
    spread = float(given.get("spread", 0.0))
    largest = _LARGEST[law]
    if not 0 <= spread <= largest or (law == "uniform" and spread == 1):
        bound = "below 1" if law == "uniform" else f"at most {largest:g}"
        raise ScenarioError(
            f"the spread of the {law} law is at least 0 and {bound}", field=f"{where}.spread", value=spread
        )
    return LAWS.index(law), spread


def _straggler(straggler: Mapping[str, Any], where: str) -> tuple[float, float]:
    probability, slowdown = float(straggler.get("probability", 0.0)), float(straggler.get("slowdown", 1.0))
    if not 0 <= probability <= 1:
        raise ScenarioError("a probability lies in [0, 1]", field=f"{where}.probability", value=probability)
    if not 1 <= slowdown < np.inf:
        raise ScenarioError(
            "a straggler is slower: its slowdown is at least 1", field=f"{where}.slowdown", value=slowdown
        )
    return probability, slowdown


def _members(group: Mapping[str, Any], names: list[Hashable], grouped: set[int], where: str) -> np.ndarray:
    """Node numbers of a group: those named, else the last `count` (or `fraction` of N) in no group yet."""
    if (listed := group.get("nodes")) is not None:
        numbers = {name: i for i, name in enumerate(names)}
        for name in listed:
            if name not in numbers:
                hint = nearest(str(name), map(str, names))
                raise UnknownName(f"no such host; there are {len(names)}{hint}", field=f"{where}.nodes", value=name)
        return np.array([numbers[name] for name in listed], dtype=np.int64)
    free = [i for i in range(len(names)) if i not in grouped]
    count = group.get("count")
    if count is None:
        fraction = group.get("fraction")
        if fraction is None:
            raise ScenarioError("a group says who is in it: `nodes`, `count` or `fraction`", field=where)
        count = int(np.floor(fraction * len(names) + 0.5))
    if not 0 <= count <= len(free):
        raise ScenarioError(
            f"{count} hosts asked for, {len(free)} are in no group yet", field=f"{where}.count", value=count
        )
    return np.array(free[len(free) - count :], dtype=np.int64)
