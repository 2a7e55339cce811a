"""The command line. What is heavy is imported inside the command that needs it, so that help is quick."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simnet.errors import InputError, Interrupted, Outcome, ProgramError, RunError, nearest

if TYPE_CHECKING:
    from simnet.record import Record
    from simnet.scenario import Scenario

EXIT_BADLY_ENDED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="simnet",
    help="Simulate clusters that train models: real learning curves against rounds, bytes and simulated seconds.",
    epilog="Begin with: simnet run digits_on_a_lossy_ring",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

ScenarioName = Annotated[
    str, typer.Argument(metavar="SCENARIO", help="A YAML file, or a shipped scenario (simnet list scenarios).")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Another value for a field; may be repeated."),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="DIR", help="Where the record goes; by default runs/<name>-<number>."),
]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1, or auto.")]
Threads = Annotated[int | None, typer.Option("--threads", help="CPU threads for the tensor work.")]
NodeRun = Annotated[
    bool | None, typer.Option("--node-run", show_default=False, help="One generator per node: the slow reference.")
]
Executor = Annotated[str | None, typer.Option("--executor", help="batched or one-by-one (the reference).")]
Tier = Annotated[str | None, typer.Option("--tier", help="Time plane: auto, arrays, compiled, events or processes.")]


def main() -> None:
    """Entry point of the command `simnet`."""
    app(prog_name="simnet")


# ---- commands ------------------------------------------------------------------------------------------------------


@app.command(epilog="Example: simnet run my_ring.yaml --set network.link.loss='5 %' --set rounds=50 --out runs/five")
def run(
    scenario: ScenarioName,
    set_: Settings = None,
    out: Out = None,
    device: Device = None,
    threads: Threads = None,
    node_run: NodeRun = None,
    executor: Executor = None,
    tier: Tier = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the record that --out already holds.")
    ] = False,
    plots: Annotated[bool, typer.Option("--plots/--no-plots", help="Draw the curves into the record.")] = True,
) -> None:
    """Run a scenario: train for real, on a simulated network; leave a record with tables and plots."""
    execution = {"device": device, "threads": threads, "node_run": node_run, "executor": executor, "tier": tier}
    with _spoken_errors():
        chosen = _read(scenario, set_, execution)
        directory = out or _free_directory(chosen.name)
        from simnet.session import run as run_scenario

        def work(progress: Callable[..., None]) -> Record:
            return run_scenario(chosen, out=directory, progress=progress, overwrite=overwrite)

        record = _watched(work, chosen, directory)
        _print_summary(record)
        typer.echo(f"\nrecord: {directory}")
        if plots:
            from simnet import registry

            for path in registry.find("module", "simnet.analysis.plot:save_plots")(record, directory):
                typer.echo(f"plot:   {path}")
    _exit_by(record)


@app.command(epilog="Example: simnet estimate my_ring.yaml --set network.link.bandwidth='1 Gbit/s'")
def estimate(
    scenario: ScenarioName,
    set_: Settings = None,
    rounds_simulated: Annotated[
        int | None, typer.Option("--rounds-simulated", metavar="N", help="Simulate N rounds and scale the rest.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Simulate all rounds, however long it takes.")] = False,
    node_run: NodeRun = None,
    tier: Tier = None,
) -> None:
    """Simulate time and bytes alone, with no tensors: how long would it take, and what would it send?

    A run too long to simulate whole is scaled from its first rounds, once they are steady, and says so.
    """
    with _spoken_errors():
        chosen = _read(scenario, set_, {"node_run": node_run, "tier": tier})
        from simnet.session import estimate as estimate_scenario

        record = _watched(
            lambda progress: estimate_scenario(chosen, progress=progress, rounds_simulated=rounds_simulated, full=full),
            chosen,
            None,
        )
        _print_summary(record)
    _exit_by(record)


@app.command(epilog="Example: simnet validate my_ring.yaml --resolved")
def validate(
    scenario: ScenarioName,
    set_: Settings = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="Print it with every default written out.")] = False,
) -> None:
    """Check a scenario without running it: keys, units, names and their parameters, data files, and that all fit."""
    with _spoken_errors():
        chosen = _read(scenario, set_, {})
        from simnet.parts import check_names

        check_names(chosen)
        from simnet.prepare import prepare

        plan = prepare(chosen)
        if resolved:
            typer.echo(chosen.dump(), nl=False)
        else:
            typer.echo(f"{chosen.source.name if chosen.source else chosen.name}: good")
            for note in plan.notes:
                typer.echo(f"note: {note}")


@app.command("list", epilog="Example: simnet list algorithms")
def list_(
    kind: Annotated[str | None, typer.Argument(help="algorithms, problems, datasets, ...; by default all.")] = None,
) -> None:
    """List what a scenario can name, with parameters and defaults."""
    from simnet import registry
    from simnet.describe import describe, scenario_titles

    with _spoken_errors():
        known = [*registry.kinds(), "scenarios"]
        if kind is not None and kind not in known:
            raise InputError(
                f"there is nothing called {kind!r} to list{nearest(kind, known) or ': say ' + ', '.join(known)}"
            )
        for each in [kind] if kind else known:
            typer.secho(each, bold=True)
            if each == "scenarios":
                for name, title in scenario_titles().items():
                    _entry(name, title)
                continue
            for entry in describe(each):
                _entry(entry.name, entry.summary)
                for field in entry.fields:
                    typer.echo(f"      {field}" + (f"   # {field.comment}" if field.comment else ""))


@app.command(epilog="Example: simnet schema > scenario.schema.json")
def schema() -> None:
    """Print the JSON Schema of a scenario, for editors."""
    import json

    from simnet.scenario import schema as json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@app.command(epilog="Example: simnet check my_dsgd.py:DSGD")
def check(
    target: Annotated[str, typer.Argument(metavar="FILE:NAME", help="file.py:Name, module:Name or a shipped name.")],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", "-s", metavar="KEY=VALUE", help="A hyper-parameter that has no default; may be repeated."
        ),
    ] = None,
) -> None:
    """Check an algorithm against the contract that every algorithm must meet."""
    marks = {True: ("  ok    ", "green"), False: ("  FAIL  ", "red"), None: ("  n/a   ", "yellow")}
    with _spoken_errors():
        params = _settings(set_, "eta=0.1")
        from simnet.check import check as check_target
        from simnet.sources import parse

        findings = check_target(target, {key: parse(text, key) for key, text in params.items()})
        for finding in findings:
            mark, colour = marks[finding.ok]
            typer.secho(mark, fg=colour, nl=False)
            typer.echo(finding.name)
            for line in finding.message.splitlines():
                typer.echo(f"          {line}")
            if finding.cure:
                typer.echo(f"          cure: {finding.cure}")
        failed = sum(finding.ok is False for finding in findings)
        typer.echo(f"{target}: {failed} of {len(findings)} checks failed" if failed else f"{target}: all checks pass")
    if failed:
        raise typer.Exit(EXIT_BADLY_ENDED)


@app.command(epilog="Example: simnet transfers my_net.yaml --model lv08")
def transfers(
    platform: Annotated[
        Path, typer.Argument(metavar="PLATFORM_OR_CASE", help="A platform in YAML, or a case in JSON (see the README).")
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="maxmin, cm02, lv08, lv08_noxt or tcp.")] = "tcp",
    seed: Annotated[int, typer.Option("--seed", help="For the model that draws: tcp.")] = 0,
    json_: Annotated[bool, typer.Option("--json", help="One object, with start and finish as lists.")] = False,
) -> None:
    """What would these transfers cost on this network, whose links they share?"""
    with _spoken_errors():
        from simnet.network.flows import report
        from simnet.network.flows.transfers import transfer_times

        times = transfer_times(platform, model, seed)
        typer.echo(report.as_json(times) if json_ else report.text(times))


@app.command(epilog="Example: simnet calibrate my_ring.yaml --out this_machine.yaml")
def calibrate(
    scenario: Annotated[
        str | None, typer.Argument(metavar="[SCENARIO]", help="Its problem is tried too, in its format and threads.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the profile.")] = Path("device.yaml"),
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda or cuda:1.")] = None,
    threads: Annotated[int | None, typer.Option("--threads", help="CPU threads.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a profile that is already there.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="One object: the profile, and every call measured.")] = False,
) -> None:
    """Measure this machine's device and fit a profile that a scenario can name under nodes.device."""
    with _spoken_errors():
        from simnet.calibrating import run_calibration

        run_calibration(scenario, out, device, threads, overwrite, json_)


@app.command(epilog="Example: simnet reproduce hdo --quick --out runs/hdo")
def reproduce(
    system: Annotated[str, typer.Argument(metavar="NAME", help="Which system; an unknown name lists them.")],
    quick: Annotated[bool, typer.Option("--quick/--full", help="Fewer settings and claims, or all of them.")] = True,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder for report and figures.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run again what the folder holds already.")] = False,
    json_: Annotated[
        bool, typer.Option("--json", help="A list of objects: claim, expected, measured, verdict.")
    ] = False,
) -> None:
    """Run a paper's experiments again and judge its claims; exit status 1 where one does not hold."""
    with _spoken_errors():
        from simnet import registry

        run_again, as_json, table = (
            registry.find("module", f"simnet.analysis.reproduce.engine:{name}")
            for name in ("reproduce", "as_json", "table")
        )
        whole = run_again(system, quick, out, fresh, lambda text: typer.echo(text, err=True))
        typer.echo(as_json(whole) if json_ else f"{table(whole)}\nreport: {whole.folder / 'report.md'}")
    if not whole.holds:
        raise typer.Exit(EXIT_BADLY_ENDED)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, epilog="Example: simnet bench"
)
def bench(context: typer.Context) -> None:
    """Measure simnet against hand-written loops on the common job, and print the ratios."""
    with _spoken_errors():
        from simnet.bench import main as run_bench

        run_bench(list(context.args))


# ---- helpers -------------------------------------------------------------------------------------------------------


@contextmanager
def _spoken_errors() -> Iterator[None]:
    """Errors that simnet raises on purpose become one message and an exit code; others keep their traceback."""
    try:
        yield
    except (InputError, ProgramError) as error:
        _complain(str(error))
        raise typer.Exit(EXIT_BAD_INPUT) from None
    except RunError as error:
        _complain(f"{error.outcome.value}: {error}")
        typer.echo(f"try: {error.outcome.advice}", err=True)
        raise typer.Exit(EXIT_BADLY_ENDED) from None


def _complain(text: str) -> None:
    typer.secho("error: ", fg="red", err=True, nl=False)
    typer.echo(text, err=True)


def _read(name: str, settings: list[str] | None, execution: dict[str, Any]) -> Scenario:
    """The scenario with the values of the options in it."""
    values: dict[str, Any] = dict(_settings(settings, "network.link.loss=0.1"))
    values |= {f"execution.{key}": value for key, value in execution.items() if value is not None}
    from simnet.scenario import Scenario

    scenario = Scenario.read(name)
    return scenario.with_values(values) if values else scenario


def _settings(settings: list[str] | None, example: str) -> dict[str, str]:
    """Key and value of each `--set`."""
    values: dict[str, str] = {}
    for setting in settings or ():
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set {setting!r}: write KEY=VALUE, such as {example}")
        values[key.strip()] = value.strip()
    return values


def _free_directory(name: str) -> Path:
    """runs/<name>-<number> with the first number that is free."""
    stem = "".join(c if c.isalnum() else "_" for c in name.lower()).strip("_") or "run"
    taken = {path.name for path in Path("runs").glob(f"{stem}-*")}
    number = next(n for n in range(1, len(taken) + 2) if f"{stem}-{n}" not in taken)
    return Path("runs") / f"{stem}-{number}"


def _watched(work: Callable[[Callable[..., None]], Record], scenario: Scenario, directory: Path | None) -> Record:
    """Do the work while showing how far it is; the record, also of a run that Ctrl-C ended with a last
    row. Where it had to end at once there is a word on where the rows lie.
    """
    from simnet.progress import shown

    try:
        with scenario.placing(), shown(scenario.name) as progress:
            return work(progress)
    except Interrupted as stopped:
        record: Record = stopped.record
        return record
    except KeyboardInterrupt:
        kept = directory is not None and directory.is_dir()
        word = f"; what was reported is kept in {directory}" if kept else ""
        typer.echo(f"\ninterrupted{word}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _print_summary(record: Record) -> None:
    from simnet import registry

    typer.echo(registry.find("module", "simnet.analysis.table:summary")(record))


def _exit_by(record: Record) -> None:
    """The exit code that a run's outcome deserves."""
    if record.ended is Outcome.INTERRUPTED:
        raise typer.Exit(EXIT_INTERRUPTED)
    if record.ended in (Outcome.DIVERGED, Outcome.STARVED, Outcome.TOO_LARGE):
        advice = record.ended.advice
        typer.echo(record.outcome if advice in record.outcome else f"{record.outcome}; {advice}", err=True)
        raise typer.Exit(EXIT_BADLY_ENDED)


def _entry(name: str, summary: str) -> None:
    typer.secho(f"  {name}", fg="cyan", nl=False)
    typer.echo(f"  {summary}" if summary else "")
