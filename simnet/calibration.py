"""Measure this machine's device: calls of many models, a profile fitted to some of them and tried on the others.

    result = calibrate(progress=print)
    result.profile.text()                 what a profile file holds
    result.calls                          every call: model, oracle, measured and predicted seconds, held out or not

The models are multilayer perceptrons, transformers and convolutional networks of several sizes and batches. Those held
out lie between and beside the ones that are fitted, never among them. With a scenario its own problem is one more that
is held out, in the scenario's batch, format and threads.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simnet.costs import WIDE, Timing
from simnet.device_profile import ORACLES, DeviceProfile, Operators
from simnet.errors import InputError, ScenarioError
from simnet.scenario import Scenario

if TYPE_CHECKING:
    from simnet.valueplane.meter import Meter

TOO_WIDE = 0.5  # a median spread above which nothing is fitted
_SWEEPS = 2
_NOT_TWICE = (
    "derivative for",
    "differentiate twice",
    "once_differentiable",
)  # PyTorch's words where there is no second
_TEXT_BLOCK = 32
_SIZES: dict[str, list[tuple[dict[str, Any], tuple[int, ...], bool]]] = {  # kind -> (sizes, batches, held out)
    "mlp": [
        ({"hidden": [16]}, (1, 64), False), ({"hidden": [32]}, (1, 16, 128), False),
        ({"hidden": [64, 64]}, (4, 32), True), ({"hidden": [128, 128]}, (1, 16, 128), False),
        ({"hidden": [200, 100]}, (8, 100), True), ({"hidden": [256, 256]}, (16, 64), True),
        ({"hidden": [512, 512]}, (1, 16, 128), False), ({"hidden": [64, 64, 64]}, (16, 128), False),
    ],
    "transformer": [
        ({"width": 16, "layers": 1}, (2, 16), False), ({"width": 32, "layers": 2}, (4, 8), True),
        ({"width": 64, "layers": 1}, (2, 16), False), ({"width": 64, "layers": 2}, (8,), True),
        ({"width": 128, "layers": 2}, (2, 16), False), ({"width": 16, "layers": 3}, (8,), False),
    ],
    "cnn": [
        ({"channels": [8, 16]}, (4, 32), False), ({"channels": [16, 32]}, (8, 32), True),
        ({"channels": [32, 64]}, (4, 32), False), ({"channels": [8, 16, 32]}, (4, 32), False),
        ({"channels": [24, 48]}, (16,), True), ({"channels": [64, 128]}, (16,), False),
    ],
}  # fmt: skip
_PROBLEM = {"mlp": "MLP", "transformer": "Transformer", "cnn": "CNN"}


@dataclass(frozen=True)
class MeasuredCall:
    """One call of an oracle: what it took, and what the fitted profile says of it."""

    kind: str
    model: str
    oracle: str
    batch: int | str
    timing: Timing
    operators: Operators
    held_out: bool
    predicted_s: float = 0.0

    @property
    def error(self) -> float:
        """The relative error of the prediction."""
        return self.predicted_s / self.timing.median_s - 1.0


@dataclass(frozen=True)
class Calibration:
    """A fitted profile and the calls behind it."""

    profile: DeviceProfile
    calls: list[MeasuredCall]

    @property
    def spread(self) -> float:
        """The median spread of the calls."""
        return float(np.median([call.timing.spread for call in self.calls]))

    def notes(self) -> list[str]:
        """What a user should be told."""
        if self.spread <= WIDE:
            return []
        return [
            f"repeated calls spread by {100 * self.spread:.0f} % (median): the device was not alone. Close what else "
            "runs on it and calibrate again"
        ]


def calibrate(
    scenario: Scenario | None = None,
    execution: dict[str, Any] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Calibration:
    """Measure the device of a scenario (default: of `execution`) and fit a profile to it; about a minute and a half.

    Args:
        scenario: its problem is held out too; its device, dtype and threads count.
        execution: device, dtype and threads over those.
        progress: told of calls done, of all, and what is measured now.

    Raises InputError where repeated calls differ so much that a profile would mean nothing.
    """
    given = {} if scenario is None else scenario.execution.model_dump(include={"device", "dtype", "threads"})
    settings = {**given, **{k: v for k, v in (execution or {}).items() if v is not None}}
    calls: dict[tuple[int, str], MeasuredCall] = {}
    with tempfile.TemporaryDirectory() as folder:
        wanted = list(_models(Path(folder), scenario, settings))
        meters = [_meter(each) for _, _, each, _ in wanted]
        for k in range(_SWEEPS * len(wanted)):  # what disturbs a machine comes and goes: the quicker sweep counts
            kind, label, each, held_out = wanted[k % len(wanted)]
            if progress is not None:
                progress(k, _SWEEPS * len(wanted), label)
            for call in _measured(kind, label, each, held_out, meters[k % len(wanted)]):
                before = calls.get((k % len(wanted), call.oracle))
                if before is None or call.timing.median_s < before.timing.median_s:
                    calls[k % len(wanted), call.oracle] = call
        rate = _pointwise_per_s(meters[0])
    return _fitted([calls[key] for key in sorted(calls)], rate, settings)


def _fitted(calls: list[MeasuredCall], pointwise_per_s: float, settings: dict[str, Any]) -> Calibration:
    spread = float(np.median([call.timing.spread for call in calls]))
    if spread > TOO_WIDE:
        raise InputError(
            f"repeated calls differ by {100 * spread:.0f} % (median of {len(calls)}): something else keeps the device "
            "busy, and no profile would mean anything. Close it and calibrate again, or take fewer --threads"
        )
    fitted = [call for call in calls if not call.held_out]
    profile = DeviceProfile.fitted(
        [call.operators for call in fitted], [call.timing.median_s for call in fitted], pointwise_per_s,
        *_words(settings),
    )  # fmt: skip
    calls = [_with_prediction(call, profile) for call in calls]
    errors = {
        kind: float(np.mean([abs(call.error) for call in calls if call.held_out and call.kind == kind]))
        for kind in dict.fromkeys(call.kind for call in calls if call.held_out)
    }
    return Calibration(profile.model_copy(update={"held_out_error": errors}), calls)


def _with_prediction(call: MeasuredCall, profile: DeviceProfile) -> MeasuredCall:
    return MeasuredCall(**{**call.__dict__, "predicted_s": profile.seconds(call.operators)})


def _models(
    folder: Path, scenario: Scenario | None, settings: dict[str, Any]
) -> Iterator[tuple[str, str, Scenario, bool]]:
    """(kind, label, scenario of a few nodes, whether it is held out)."""
    text = folder / "text.txt"  # any characters do: only sizes count
    text.write_text("".join(chr(97 + (k * k) % 26) + " " * (k % 5 == 0) for k in range(8000)))
    for kind, sizes in _SIZES.items():
        data: Any = "digits"
        if kind == "transformer":
            data = {"name": "text", "path": str(text), "block": _TEXT_BLOCK}
        for params, batches, held_out in sizes:
            label = f"{kind} {'x'.join(str(p) for v in params.values() for p in (v if isinstance(v, list) else [v]))}"
            for batch in batches:
                problem = {"name": _PROBLEM[kind], **params, "data": data, "batch": batch}
                yield kind, label, _small(problem, settings), held_out
    if scenario is not None:
        name = scenario.problem.name
        yield f"{name} of {scenario.name or 'the scenario'}", name, scenario.with_values(
            {f"execution.{key}": value for key, value in settings.items()}
        ), True  # fmt: skip


def _small(problem: dict[str, Any], settings: dict[str, Any]) -> Scenario:
    return Scenario(network={"nodes": 4}, problem=problem, algorithm={"name": "DPSGD", "eta": 0.1}, execution=settings)


def _meter(scenario: Scenario) -> Meter:
    """What times the calls of a model."""
    from simnet.prepare import prepare
    from simnet.valueplane import settle_device
    from simnet.valueplane.meter import Meter

    plan = prepare(scenario)
    device, dtype = settle_device(scenario)
    plan.problem.prepare(device, dtype, scenario.execution.kernels)
    return Meter(plan.book(), device, dtype)


def _measured(kind: str, label: str, scenario: Scenario, held_out: bool, meter: Meter) -> Iterator[MeasuredCall]:
    """The calls of one model: each oracle that it has."""
    book = meter.book
    hosts = book.data_hosts[~book.zo_n[book.data_hosts]]
    if not len(hosts):
        raise ScenarioError("all nodes are ZO-only: calibrate a scenario with a first-order node", field="nodes.oracle")
    batch = scenario.problem.batch["fo"] if isinstance(scenario.problem.batch, dict) else scenario.problem.batch
    rows = None if batch == "full" else int(batch)
    declared = book.problem.oracles()
    for oracle in ORACLES if "gradient" in declared else declared:
        try:
            counted = meter.operators(oracle, int(hosts[0]), rows)
        except RuntimeError as error:
            if oracle == "hvp" and any(said in str(error) for said in _NOT_TWICE):
                continue  # a model without second derivatives has no such oracle
            raise
        yield MeasuredCall(kind, label, oracle, batch, meter(oracle, hosts, rows), counted, held_out)


def _pointwise_per_s(meter: Meter) -> float:
    """Numbers a second that a multiplication makes where they fit the cache."""
    import torch

    from simnet.valueplane.meter import timed

    gpu = meter.device.type == "cuda"
    count, times = (1 << 24, 1) if gpu else (1 << 15, 64)
    a = torch.ones(count, device=meter.device, dtype=meter.dtype)
    out = torch.empty_like(a)

    def multiply() -> torch.Tensor:
        for _ in range(times):
            torch.mul(a, a, out=out)
        return out

    return times * count / timed([multiply], meter.device).median_s


def _words(settings: dict[str, Any]) -> tuple[str, str]:
    """The device in words, and how it was measured."""
    import torch

    wanted = settings.get("device", "auto")
    gpu = wanted.startswith("cuda") or (wanted == "auto" and torch.cuda.is_available())
    device = torch.cuda.get_device_name() if gpu else _processor()
    threads = "" if gpu else f", {settings.get('threads', 1)} thread(s)"
    return device, f"simnet calibrate, torch {torch.__version__}, {settings.get('dtype', 'float32')}{threads}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
