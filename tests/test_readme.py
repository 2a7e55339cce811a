"""What the README shows is run, in its order and in one folder, and the output compared by the rule of test_scenarios.

Blocks: `yaml` and `python` that begin with `# name.ext` are files to save; other `python` is run, and the `text` that
follows is its output; `console` has commands after `$`, each with its output, where a line `...` stands for any further
lines. The two `sh` blocks are what CI runs word for word.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from simnet.cli import app
from tests.shared import ROOT
from tests.test_scenarios import assert_same_text

README = (ROOT / "README.md").read_text(encoding="utf-8")


class Block(NamedTuple):
    kind: str
    text: str
    line: int


def blocks() -> list[Block]:
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", README, flags=re.M | re.S)
    return [Block(m[1], m[2], README.count("\n", 0, m.start()) + 1) for m in found]


def commands(console: str) -> list[tuple[str, str]]:
    parts = re.split(r"^\$ (.+)\n", console, flags=re.M)
    assert not parts[0], "a console block begins with $"
    return list(zip(parts[1::2], parts[2::2], strict=True))


def output_of(command: str) -> str:
    words = shlex.split(command)
    assert words[0] == "simnet", command
    said = CliRunner().invoke(app, words[1:])
    assert said.exception is None or isinstance(said.exception, SystemExit), said.exception
    return said.output.partition("\nhost:")[0].strip("\n")


def python_output(code: str, folder: Path) -> str:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def same(now: str, then: str) -> None:
    if then.rstrip().endswith("..."):
        then = then.rstrip()[:-3].rstrip()
        now = "\n".join(now.splitlines()[: len(then.splitlines())])
    assert_same_text(now.strip(), then.strip())


def test_every_block_does_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected: str | None = None  # output of the python block just run
    ran = 0
    for block in blocks():
        name = re.match(r"# ([\w.]+\.(?:ya?ml|py))\n", block.text)
        if block.kind in ("yaml", "python") and name:
            (tmp_path / name[1]).write_text(block.text, encoding="utf-8")
        elif block.kind == "python":
            expected = python_output(block.text, tmp_path)
        elif block.kind == "text" and expected is not None:
            same(expected, block.text)
            expected, ran = None, ran + 1
        elif block.kind == "console":
            for command, text in commands(block.text):
                same(output_of(command), text)
                ran += 1
        else:
            assert block.kind in ("sh", "text"), f"README.md:{block.line}: no rule for a block of {block.kind!r}"
    assert ran >= 6


def test_the_first_two_shell_blocks_install_run_and_test() -> None:
    install = "python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt "
    assert [block.text for block in blocks() if block.kind == "sh"] == [
        install + ". && .venv/bin/simnet run digits_on_a_lossy_ring\n",
        install + "'.[test]' && .venv/bin/python -m pytest -q -n auto\n",
    ]


def test_pictures_and_files_that_are_named_exist_and_are_small() -> None:
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).stat().st_size < 150_000
    for name in re.findall(r"`((?:models|tests|docs|scenarios)/[\w./]+)`", README):
        assert (ROOT / name).exists(), name


def test_the_commands_in_the_table_are_all_there_are() -> None:
    listed = set(re.findall(r"^\| `simnet (\w+)", README, flags=re.M))
    assert listed == {
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    }


def test_every_shipped_algorithm_departs_or_not_in_its_own_file() -> None:
    for path in sorted((ROOT / "models" / "algorithms").glob("[a-z]*.py")):
        assert "Reference" in path.read_text(encoding="utf-8"), path.name
