"""The command line: quick help, one message for bad input, exit codes, and where the record lies."""

from __future__ import annotations

import io
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from simnet import progress
from simnet.cli import app
from simnet.errors import DataError, Diverged, Interrupted, Outcome
from tests.shared import ROOT

SCENARIO = """\
network: {nodes: 4}
problem: {name: Quadratic, dim: 3}
algorithm: {name: "fractions:Fraction"}
rounds: 10
"""
WHOLE = SCENARIO.replace("fractions:Fraction", "DPSGD")  # one that could be run
EVENT = {"round": 3, "rounds": 10, "sim_time_s": 12.0, "wire_bytes": 3.4e6, "messages": 800, "objective": 0.5}

runner = CliRunner()


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "my ring.yaml"
    file.write_text(SCENARIO, encoding="utf-8")
    return file


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a module with the given functions in the place of one that a command imports."""

    def put(name: str, **functions: Any) -> None:
        module = ModuleType(name)
        vars(module).update(functions)
        monkeypatch.setitem(sys.modules, name, module)

    return put


@pytest.fixture
def engine(stand_in: Callable[..., None]) -> SimpleNamespace:
    """A run that takes no time: notes what it was asked, and ends as it is told."""
    seen = SimpleNamespace(outcome="finished", raises=None)

    def run(
        scenario: Any, set: Any = None, out: Path | None = None, progress: Any = None, overwrite: bool = False
    ) -> SimpleNamespace:
        seen.scenario, seen.out, seen.overwrite = scenario, out, overwrite
        if out is not None:
            out.mkdir(parents=True)
        progress(EVENT)
        if seen.raises is not None:
            raise seen.raises
        return SimpleNamespace(outcome=seen.outcome, ended=Outcome(seen.outcome.partition(":")[0]), directory=out)

    def estimate(
        scenario: Any, set: Any = None, progress: Any = None, rounds_simulated: int | None = None, full: bool = False
    ) -> SimpleNamespace:
        seen.rounds_simulated, seen.full = rounds_simulated, full
        return run(scenario, set, None, progress)

    stand_in("simnet.session", run=run, estimate=estimate)
    stand_in("simnet.analysis.table", summary=lambda record: "the summary")
    stand_in("simnet.analysis.plot", save_plots=lambda record, directory: [directory / "objective.png"])
    return seen


# ---- help ---------------------------------------------------------------------------------------------------------


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom simnet.cli import main\nsys.argv = ['simnet', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'numba', 'matplotlib', 'numpy', 'networkx', 'pydantic', 'ruamel.yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )

    def cpu_s() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = cpu_s()
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "estimate" in done.stdout
    assert cpu_s() - before < 0.5


@pytest.mark.parametrize("command", ["run", "estimate", "validate", "list", "schema", "check", "bench"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    said = runner.invoke(app, [command, "--help"])
    assert said.exit_code == 0
    assert f"Example: simnet {command}" in said.output


def test_python_dash_m_works_in_a_checkout() -> None:
    done = subprocess.run([sys.executable, "-m", "simnet", "list", "mixings"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert "metropolis" in done.stdout


# ---- run ----------------------------------------------------------------------------------------------------------


def test_a_run_ends_with_the_summary_the_record_and_the_plots(scenario: Path, engine: SimpleNamespace) -> None:
    said = runner.invoke(app, ["run", str(scenario)])
    assert said.exit_code == 0
    assert said.stdout.splitlines() == [
        "the summary",
        "",
        "record: runs/my_ring-1",
        "plot:   runs/my_ring-1/objective.png",
    ]
    runner.invoke(app, ["run", str(scenario), "--no-plots"])
    assert engine.out == Path("runs/my_ring-2")


def test_options_become_fields_of_the_scenario(scenario: Path, engine: SimpleNamespace) -> None:
    options = [
        "--set",
        "network.link.loss=5 %",
        "-s",
        "rounds = 3",
        "--out",
        "here",
        "--device",
        "cpu",
        "--threads",
        "2",
    ]
    said = runner.invoke(
        app, ["run", str(scenario), *options, "--node-run", "--executor", "one-by-one", "--tier", "processes"]
    )
    assert said.exit_code == 0, said.output
    asked, execution = engine.scenario, engine.scenario.execution
    assert (asked.network.link.loss, asked.rounds, engine.out) == (0.05, 3, Path("here"))
    assert (execution.device, execution.threads, execution.node_run) == ("cpu", 2, True)
    assert (execution.executor, execution.tier) == ("one_by_one", "processes")


def test_an_option_that_is_not_given_leaves_the_scenario_alone(scenario: Path, engine: SimpleNamespace) -> None:
    scenario.write_text(SCENARIO + "execution: {node_run: true, tier: processes}\n", encoding="utf-8")
    assert runner.invoke(app, ["run", str(scenario)]).exit_code == 0
    assert (engine.scenario.execution.node_run, engine.scenario.execution.tier) == (True, "processes")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", "network.link.loss=1.2"], "error: --set network.link.loss = 1.2: must be at least 0 and below 1"),
        (["--set", "rounds"], "error: --set 'rounds': write KEY=VALUE"),
        (["--tier", "aray"], "--set execution.tier = 'aray': must be auto, arrays, "),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    scenario: Path, engine: SimpleNamespace, arguments: list[str], says: str
) -> None:
    said = runner.invoke(app, ["run", str(scenario), *arguments])
    assert said.exit_code == 2
    assert says in said.stderr
    assert "Traceback" not in said.output
    assert not Path("runs").exists()


def test_an_unknown_scenario_is_told_of_the_nearest(scenario: Path) -> None:
    said = runner.invoke(app, ["run", "my rng.yaml"])
    assert said.exit_code == 2
    assert "neither a file nor a shipped name; did you mean 'my ring.yaml'?" in said.stderr


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (DataError("train.gz: no such file"), 2, "error: train.gz: no such file"),
        (Diverged("x is not finite after round 3"), 1, "error: diverged: x is not finite after round 3\ntry: "),
        (KeyboardInterrupt(), 130, "interrupted; what was reported is kept in runs/my_ring-1"),
    ],
)
def test_the_exit_code_says_how_a_run_ended(
    scenario: Path, engine: SimpleNamespace, error: BaseException, code: int, says: str
) -> None:
    engine.raises = error
    said = runner.invoke(app, ["run", str(scenario)])
    assert (said.exit_code, says in said.stderr) == (code, True), said.stderr


def test_an_interrupted_run_ends_like_any_other_with_status_130(scenario: Path, engine: SimpleNamespace) -> None:
    text = "interrupted: stopped by the user after round 3"
    engine.raises = Interrupted(SimpleNamespace(outcome=text, ended=Outcome.INTERRUPTED))
    said = runner.invoke(app, ["run", str(scenario)])
    assert said.exit_code == 130
    assert said.stdout.splitlines()[0] == "the summary"
    assert said.stdout.splitlines()[-2:] == ["record: runs/my_ring-1", "plot:   runs/my_ring-1/objective.png"]


@pytest.mark.parametrize(
    ("outcome", "code"),
    [("target reached", 0), ("bytes limit", 0), ("diverged: after round 3", 1), ("starved", 1), ("interrupted", 130)],
)
def test_the_records_outcome_decides_too(scenario: Path, engine: SimpleNamespace, outcome: str, code: int) -> None:
    engine.outcome = outcome
    assert runner.invoke(app, ["run", str(scenario)]).exit_code == code


def test_estimate_prints_the_summary_and_leaves_nothing(scenario: Path, engine: SimpleNamespace) -> None:
    said = runner.invoke(app, ["estimate", str(scenario), "--tier", "arrays"])
    assert (said.exit_code, said.stdout, engine.out) == (0, "the summary\n", None)
    assert (engine.rounds_simulated, engine.full) == (None, False)


def test_an_estimate_says_how_many_rounds_to_simulate(scenario: Path, engine: SimpleNamespace) -> None:
    assert runner.invoke(app, ["estimate", str(scenario), "--rounds-simulated", "9"]).exit_code == 0
    assert (engine.rounds_simulated, engine.full) == (9, False)
    assert runner.invoke(app, ["estimate", str(scenario), "--full"]).exit_code == 0
    assert (engine.rounds_simulated, engine.full) == (None, True)


# ---- the others ---------------------------------------------------------------------------------------------------


def test_validate_finds_a_wrong_name_with_its_place(scenario: Path) -> None:
    scenario.write_text(WHOLE, encoding="utf-8")
    assert runner.invoke(app, ["validate", str(scenario)]).stdout == "my ring.yaml: good\n"
    scenario.write_text(SCENARIO.replace("Quadratic", "Quadratik"), encoding="utf-8")
    said = runner.invoke(app, ["validate", str(scenario)])
    assert said.exit_code == 2
    assert "my ring.yaml:2:10 problem: there is no problem named 'Quadratik'; did you mean 'Quadratic'?" in said.stderr


NOWHERE = "{name: Softmax, data: {name: csv, path: nope.csv}}"


@pytest.mark.parametrize(
    ("was", "wrong", "words"),
    [
        ("rounds:", "target: {objectiv: 0.1}\nrounds:", "no such metric; did you mean 'objective'?"),
        ("{name: Quadratic, dim: 3}", NOWHERE, "no data file at "),
        ("{nodes: 4}", "{nodes: 4, graph: edgeless}", "DPSGD needs a connected topology"),
    ],
)
def test_validate_finds_what_a_run_would_refuse(scenario: Path, was: str, wrong: str, words: str) -> None:
    assert was in WHOLE
    scenario.write_text(WHOLE.replace(was, wrong), encoding="utf-8")
    said = runner.invoke(app, ["validate", str(scenario)])
    assert said.exit_code == 2
    assert words in said.stderr


def test_validate_resolved_prints_a_scenario_that_reads_back(scenario: Path) -> None:
    scenario.write_text(WHOLE, encoding="utf-8")
    said = runner.invoke(app, ["validate", str(scenario), "--resolved"])
    (scenario.parent / "again.yaml").write_text(said.stdout, encoding="utf-8")
    again = runner.invoke(app, ["validate", "again.yaml", "--resolved"])
    assert again.stdout == said.stdout


def test_list_knows_kinds_and_refuses_others() -> None:
    said = runner.invoke(app, ["list", "topologies"])
    assert "  erdos_renyi" in said.stdout
    assert "      p: float | None = None" in said.stdout
    wrong = runner.invoke(app, ["list", "topologie"])
    assert wrong.exit_code == 2
    assert "did you mean 'topologies'" in wrong.stderr


def test_schema_is_json() -> None:
    assert json.loads(runner.invoke(app, ["schema"]).stdout)["title"] == "simnet scenario"


def test_check_names_what_failed_and_the_cure(stand_in: Callable[..., None]) -> None:
    findings = [
        SimpleNamespace(name="all ones stay all ones", ok=True, message="", cure=""),
        SimpleNamespace(name="runs alone, n = 1", ok=None, message="it has 2 roles", cure=""),
        SimpleNamespace(name="bytes by formula", ok=False, message="mine.py:12 sends 8, says 4", cure="count both"),
    ]
    stand_in("simnet.check", check=lambda target, params: findings)
    said = runner.invoke(app, ["check", "mine.py:Mine"])
    assert said.exit_code == 1
    assert said.stdout.splitlines() == [
        "  ok    all ones stay all ones",
        "  n/a   runs alone, n = 1",
        "          it has 2 roles",
        "  FAIL  bytes by formula",
        "          mine.py:12 sends 8, says 4",
        "          cure: count both",
        "mine.py:Mine: 1 of 3 checks failed",
    ]


# ---- progress -----------------------------------------------------------------------------------------------------


def test_progress_without_a_terminal_is_a_plain_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 20.0, 21.0])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(now))
    out = io.StringIO()
    with progress.shown("ring", out) as tell:
        for _ in range(3):
            tell(EVENT)
    assert out.getvalue() == "ring: round 3 of 10, simulated 12 s, 3.4 MB, 40 messages/s, objective 0.5\n"


def test_progress_on_a_terminal_is_a_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    with progress.shown("ring [5]", out) as tell:
        tell(EVENT)
    assert "ring [5]" in out.getvalue()
    assert "3/10" in out.getvalue()
