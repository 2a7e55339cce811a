"""Every shipped algorithm meets the contract; one that breaks it is told the line and the cure."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from simnet.check import Finding, check
from simnet.cli import app
from simnet.errors import UnknownName
from simnet.registry import shipped

HEAD = """\
from dataclasses import dataclass, field
from typing import ClassVar
import torch
from simnet.algorithm import Algorithm, Program
from simnet.node import Node

@dataclass(frozen=True)
class Mine(Algorithm):
    '''x_i <- sum_j W_ij (x_j - eta g_j).'''

    eta: float = 0.1
"""
GOOD = """
    def program(self, node: Node) -> Program:
        x = node.initial("x")
        for _ in node.rounds():
            g = yield node.gradient(x)
            x = yield node.gossip(x - self.eta * g)
            node.report(x=x)
"""
RELIABLE = "one lost message leaves it finite"
MEAN = "the mean is kept when gradients are zero, without loss and under retry and symmetric"
NOT_APPLICABLE = {
    "AllReduceSGD": {RELIABLE},
    "SAVIC": {RELIABLE},
    "LocalSGD": {RELIABLE},
    "FedOpt": {RELIABLE},
    "FedAvg": {RELIABLE, "runs alone, n = 1"},
    "OptEx": {RELIABLE, "bytes by formula", "runs alone, n = 1"},  # its first rounds send less
    "OptExReplicated": {RELIABLE, "bytes by formula"},
    "SGP": {MEAN},
    "PushDIGing": {MEAN},
    "RelaySGD": {MEAN},
    "SCAFFOLD": {RELIABLE},
    "ProxSkip": {RELIABLE, "bytes by formula"},
    "OverlapLocalSGD": {RELIABLE},
    "DelayedLocalSGD": {RELIABLE},
    **dict.fromkeys(("DeLiCoCo", "ChocoGossip", "ChocoSGD", "DCDPSGD", "DeepSqueeze"), {"bytes by formula"}),
    # theirs is a formula of two dimensions: see test_dsvrbgd.py and test_bilevel_baselines.py
    **dict.fromkeys(("DSVRBGD", "DSOBA", "MDBO", "MADSBO", "DSBO", "GossipDSBO"), {"bytes by formula"}),
    "NaiveGossip": {MEAN, "bytes by formula"},
    "ADPSGD": {MEAN},
    "SwarmSGD": {MEAN, "bytes by formula"},
    "HDO": {"bytes by formula"},  # it is that of a complete graph
    "HDOReady": {MEAN, "bytes by formula"},
    "GossipLearning": {MEAN, "batched = one by one, also where n = d", "group run = node run, also where n = d"},
}


@pytest.fixture
def found(tmp_path: Path) -> Found:
    return Found(tmp_path)


class Found:
    """Findings about a class whose text is given."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number = folder, 0

    def all(self, text: str) -> list[Finding]:
        self.number += 1
        file = self.folder / f"mine{self.number}.py"
        file.write_text(text, encoding="utf-8")
        return check(f"{file}:Mine")

    def failed(self, text: str) -> list[Finding]:
        return [finding for finding in self.all(text) if finding.ok is False]

    def only(self, text: str) -> Finding:
        (finding,) = self.failed(text)
        return finding

    def of(self, old: str, new: str, facts: str = "") -> Finding:
        """The one failure of the good program with some of its text replaced."""
        assert old in GOOD
        return self.only(HEAD + facts + GOOD.replace(old, new))


@pytest.mark.parametrize("name", shipped("algorithms"))
def test_shipped_algorithms_meet_the_contract(name: str) -> None:
    findings = check(name)
    assert [f for f in findings if f.ok is False] == []
    assert {f.name for f in findings if f.ok is None} == NOT_APPLICABLE.get(name, set())
    assert all(f.message for f in findings if f.ok is None)


def test_a_program_of_ones_own_meets_it_and_hears_what_one_loss_costs(found: Found) -> None:
    findings = {f.name: f for f in found.all(HEAD + GOOD)}
    assert [f for f in findings.values() if f.ok is False] == []
    assert "its mean by" in findings["one lost message leaves it finite"].message
    assert findings["bytes by formula"].ok is None
    assert "numbers_sent" in findings["bytes by formula"].message


def test_a_forgotten_yield_is_named_where_the_verb_is_made(found: Found) -> None:
    finding = found.of("g = yield node.gradient(x)", "g = node.gradient(x)")
    assert "mine1.py:16: g = node.gradient(x)" in finding.message
    assert "write 'yield node.gradient(...)'" in finding.message


def test_a_verb_that_is_never_yielded_is_named(found: Found) -> None:
    finding = found.of("x = yield node.gossip(x - self.eta * g)", "node.gossip(x - self.eta * g)")
    assert "mine1.py:17: node.gossip(x - self.eta * g)\nnode.gossip(...) is made and never yielded" in finding.message
    assert "write 'yield node....(...)'" in finding.cure


def test_a_program_without_any_yield_is_named(found: Found) -> None:
    body = (
        GOOD.replace("yield ", "")
        .replace("g = node.gradient(x)", "g = x")
        .replace("node.gossip(x - self.eta * g)", "x")
    )
    finding = found.only(HEAD + body)
    assert "mine1.py:13: def program" in finding.message
    assert "write it as a generator, with 'yield'" in finding.message


def test_branching_on_a_value_is_named(found: Found) -> None:
    finding = found.of(
        "            x = yield", "            if torch.norm(g) > 1:\n                g = g / 2\n            x = yield"
    )
    assert "mine1.py:17: if torch.norm(g) > 1:\na Value has no truth yet" in finding.message
    assert "torch.where" in finding.cure


def test_a_misused_verb_is_named_by_the_line_that_yields_it(found: Found) -> None:
    finding = found.of("x - self.eta * g)", "3.0)")
    assert "mine1.py:17: x = yield node.gossip(3.0)\nnode.gossip takes Values, not float" in finding.message


def test_a_plain_mistake_of_python_is_named(found: Found) -> None:
    finding = found.of("self.eta", "self.etta")
    assert "mine1.py:17: x = yield node.gossip(x - self.etta * g)\nAttributeError" in finding.message


def test_state_in_self_is_refused(found: Found) -> None:
    finding = found.of('x = node.initial("x")', 'x = self.start = node.initial("x")')
    assert 'mine1.py:14: x = self.start = node.initial("x")\nFrozenInstanceError' in finding.message
    assert "local variables" in finding.cure


def test_state_in_a_mutable_field_is_found(found: Found) -> None:
    grown = "            self.seen.append(1)\n            x = yield"
    finding = found.of("            x = yield", grown, "    seen: list = field(default_factory=list)\n")
    assert finding.message == "a run changed the field seen of the algorithm"
    assert "local variables" in finding.cure


@pytest.mark.parametrize("draw", ["torch.rand(())", "torch.randn(3)", "torch.bernoulli(torch.ones(3) / 2)"])
def test_random_numbers_from_elsewhere_are_found(found: Found, draw: str) -> None:
    finding = found.of("self.eta * g", f"{draw} * g")
    assert f"mine1.py:17: x = yield node.gossip(x - {draw} * g)" in finding.message
    assert "node.random(purpose, shape)" in finding.cure


def test_the_wrong_fill_is_found_under_loss(found: Found) -> None:
    ones, mean = found.failed(HEAD + GOOD.replace("self.eta * g)", 'self.eta * g, missing="zero")'))
    assert "under 'policy: drop', x[0] of the " in ones.message
    assert "(missing='zero')" in ones.message and "mine1.py:17" in ones.message
    assert "a state needs missing='self'" in ones.cure
    assert "under 'policy: symmetric', the mean of the x_i went from 3.5 to" in mean.message


def test_a_lost_mean_is_found_and_may_be_declared(found: Found) -> None:
    facts = "    mixing: ClassVar[str | None] = 'row_stochastic'\n"
    finding = found.only(HEAD + facts + GOOD)
    assert "without loss, the mean of the x_i went from 3.5 to" in finding.message
    assert "mine1.py:18: x = yield node.gossip" in finding.message
    assert "keeps_mean: ClassVar[bool] = False" in finding.cure
    findings = {f.name: f for f in found.all(HEAD + facts + "    keeps_mean: ClassVar[bool] = False\n" + GOOD)}
    assert not any(f.ok is False for f in findings.values())
    assert next(f for name, f in findings.items() if "mean is kept" in name).ok is None


def test_missing_and_misnamed_reports_are_found(found: Found) -> None:
    assert "ended without a report: end each round" in found.of("            node.report(x=x)\n", "").message
    assert "no x" in found.of("report(x=x)", "report(z=x)").message
    shape = found.of("report(x=x)", "report(x=torch.sum(x))").message
    assert "mine3.py:18: node.report(x=torch.sum(x))\n" in shape and "not (6,)" in shape


def test_bytes_are_held_against_the_formula(found: Found) -> None:
    formula = "\n    def numbers_sent(self, dim: int, nodes: int, edges: int) -> int:\n        return {} * edges\n"
    assert found.failed(HEAD + GOOD + formula.format("dim")) == []
    finding = found.only(HEAD + GOOD + formula.format("2 * dim"))
    assert "with 6 nodes, 14 edges and d = 3, a round sends 42 numbers, and numbers_sent says 84" in finding.message
    assert "mine2.py:20: def numbers_sent" in finding.message


def test_a_node_alone_must_run(found: Found) -> None:
    body = GOOD.replace("g)\n", "g, missing='self')\n").replace("(x=x)", "(x=x / node.degree() * node.degree())")
    finding = found.only(HEAD + body)
    assert finding.name == "runs alone, n = 1"
    assert "divide by no degree" in finding.cure


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # inside torch.func
def test_second_order_without_saying_so_is_found(found: Found) -> None:
    second = ("yield node.gradient(x)", "yield node.hvp(x, x)")
    finding = found.of(*second)
    assert finding.name.startswith("ZO-only nodes")
    assert "node 4" in finding.message
    assert "first_order: ClassVar[bool] = True" in finding.cure
    assert found.failed(HEAD + "    first_order: ClassVar[bool] = True\n" + GOOD.replace(*second)) == []


def test_a_step_that_explodes_is_said_to_diverge(found: Found) -> None:
    finding = found.of("- self.eta", "+ 1e200")
    assert finding.message == "on a plain quadratic, it diverged: the objective is inf after round 1"
    assert finding.cure == "try a smaller default step size"


def test_the_class_itself_must_be_frozen_and_documented(found: Found) -> None:
    frozen, documented = found.failed(
        HEAD.replace("(frozen=True)", "").replace("    '''x_i <- sum_j W_ij (x_j - eta g_j).'''\n", "") + GOOD
    )
    assert "mine1.py:8: class Mine(Algorithm):" in frozen.message
    assert frozen.cure == "put '@dataclass(frozen=True)' above it"
    assert "no docstring" in documented.message
    assert "is no algorithm" in found.only("Mine = 3").message


def test_hyper_parameters_without_default_are_asked_for(found: Found, monkeypatch: pytest.MonkeyPatch) -> None:
    finding = found.only(HEAD.replace(" = 0.1", "") + GOOD)
    assert "eta" in finding.message and "--set eta=0.1" in finding.cure
    monkeypatch.chdir(found.folder)
    said = CliRunner().invoke(app, ["check", "mine1.py:Mine", "--set", "eta=0.1"])
    assert said.exit_code == 0, said.output
    assert said.stdout.endswith("mine1.py:Mine: all checks pass\n")
    assert "  n/a   bytes by formula\n          it declares no formula" in said.stdout


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean 'DPSGD'"):
        check("DPSDG")
