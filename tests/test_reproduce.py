"""The engine of `simnet reproduce`: verdicts by rule, what is kept, reports and exit status."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from simnet.analysis.reproduce import engine
from simnet.analysis.reproduce.claims import (
    Claim,
    Experiment,
    Result,
    above,
    all_near,
    below,
    between,
    exact,
    near,
    rising,
)
from simnet.cli import app
from simnet.errors import UnknownName


def test_verdicts_follow_their_rules() -> None:
    assert near("floor", 2.0, 2.07, rel=0.04).holds and not near("floor", 2.0, 2.09, rel=0.04).holds
    assert not near("floor", 2.0, float("nan"), rel=0.5).holds
    assert exact("S = W Z", 1e-13, 1e-12).verdict == "pass" and exact("S = W Z", 2e-12, 1e-12).verdict == "fail"
    assert below("loss", 0.5, 0.49).holds and not below("loss", 0.5, 0.5).holds
    assert above("accuracy", 0.8, 0.81).holds and not above("accuracy", 0.8, 0.8).holds
    assert between("ratio", 0.5, 1.15, 1.15).holds and not between("ratio", 0.5, 1.15, 0.49).holds
    assert rising("order", {"a": 1.0, "b": 2.0}).holds and not rising("order", {"a": 1.0, "b": 1.0}).holds
    worst = all_near("rows", {"one": (1.0, 1.01), "two": (2.0, 2.2)}, rel=0.05)
    assert not worst.holds and "10 % (two" in worst.measured


RUNS: list[str] = []


def fake(holds: bool = True) -> types.ModuleType:
    def first(quick: bool, say: Any) -> Result:
        RUNS.append("first")
        say("halfway")
        return Result([Claim("a claim", "1", "1", holds, "where | it is quick")], {"line": [1.0, 2.0]})

    def slow(quick: bool, say: Any) -> Result:
        RUNS.append("slow")
        return Result([near("another", 1.0, 1.0, 0.1)])

    def draw(figure: Figure, data: dict[str, Any]) -> None:
        figure.subplots().plot(data["line"])

    module: Any = types.ModuleType("fake_system")
    module.TITLE, module.REFERENCE = "A system", "A paper, 2026."
    module.EXPERIMENTS = [Experiment("F1", "first", first, draw), Experiment("F2", "slow", slow, quick=False)]
    return module  # type: ignore[no-any-return]


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> None:
    RUNS.clear()
    monkeypatch.setitem(sys.modules, "fake_system", fake())
    monkeypatch.setitem(engine.SYSTEMS, "fake", "fake_system")
    monkeypatch.setattr(engine, "_sources", lambda module, quick: f"{quick}")


def test_a_reproduction_keeps_each_experiment_and_goes_on_where_it_stopped(system: None, tmp_path: Path) -> None:
    told: list[str] = []
    whole = engine.reproduce("fake", quick=False, folder=tmp_path, told=told.append)
    assert whole.holds and RUNS == ["first", "slow"] and "    halfway" in told
    assert (tmp_path / "F1.png").stat().st_size > 1000
    (tmp_path / "F2.json").unlink()
    engine.reproduce("fake", quick=False, folder=tmp_path, told=told.append)
    assert RUNS == ["first", "slow", "slow"] and any("kept from before" in line for line in told)
    engine.reproduce("fake", quick=False, folder=tmp_path, fresh=True, told=told.append)
    assert RUNS == ["first", "slow", "slow", "first", "slow"]


def test_other_sources_run_again(system: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.reproduce("fake", quick=True, folder=tmp_path, told=lambda text: None)
    monkeypatch.setattr(engine, "_sources", lambda module, quick: "other")
    engine.reproduce("fake", quick=True, folder=tmp_path, told=lambda text: None)
    assert RUNS == ["first", "first"]


def test_the_report_has_table_conditions_and_figures(system: None, tmp_path: Path) -> None:
    engine.reproduce("fake", quick=True, folder=tmp_path, told=lambda text: None)
    text = (tmp_path / "report.md").read_text()
    assert "| a claim (holds under conditions: where \\| it is quick) | 1 | 1 | pass |" in text
    assert "![first](F1.png)" in text and "F2" not in text


def test_the_command_prints_json_and_its_status_says_whether_all_holds(
    system: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = CliRunner().invoke(app, ["reproduce", "fake", "--json", "--out", str(tmp_path / "a")])
    assert shown.exit_code == 0
    (entry,) = json.loads(shown.stdout)
    assert entry == {"experiment": "F1", "claim": "a claim", "expected": "1", "measured": "1", "verdict": "pass",
                     "condition": "where | it is quick"}  # fmt: skip
    monkeypatch.setitem(sys.modules, "fake_system", fake(holds=False))
    failed = CliRunner().invoke(app, ["reproduce", "fake", "--out", str(tmp_path / "b")])
    assert failed.exit_code == 1 and "0 of 1 claims hold" in failed.stdout
    assert "holds under conditions: where | it is quick" in failed.stdout


def test_an_unknown_system_is_answered_with_those_there_are(system: None) -> None:
    with pytest.raises(UnknownName, match="did you mean 'fake'"):
        engine.reproduce("fakes", quick=True)
    assert CliRunner().invoke(app, ["reproduce", "fakes"]).exit_code == 2
