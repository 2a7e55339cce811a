"""The contract that every algorithm must meet, as checks that anybody can run on their own.

    simnet check my_dsgd.py:DSGD
    simnet.check.check("my_dsgd.py:DSGD") -> list[Finding]

Each check runs small scenarios through the same code as `simnet run` and compares what must agree. Legend: n nodes,
d parameters.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from simnet import registry
from simnet.algorithm import Algorithm
from simnet.checks.runs import CHECKS, GATES
from simnet.checks.subject import Failed, NotApplicable, Subject
from simnet.checks.watched import Place
from simnet.errors import InputError


class Finding(NamedTuple):
    """What one check found. `ok` is None where the check does not apply; `message` then says why.

    `message` says what was seen, with the line of the program where one is to blame; `cure` what would help.
    """

    name: str
    ok: bool | None
    message: str = ""
    cure: str = ""


def check(target: str, params: Mapping[str, Any] | None = None) -> list[Finding]:
    """Check the algorithm that `target` names: a shipped name, `module:Name` or `file.py:Name`.

    `params` are hyper-parameters, needed only where the class has no default. Raises UnknownName where nothing has
    that name. Where the class itself or its plain runs fail, the rest is not run: it would fail for the same reason.
    """
    return check_class(registry.find("algorithms", target), params)


def check_class(kind: Any, params: Mapping[str, Any] | None = None) -> list[Finding]:
    """As `check`, for a class."""
    findings = [_finding("is a frozen dataclass", _is_frozen, kind)]
    if isinstance(kind, type):
        findings.append(_finding("says in a docstring what it does", _is_documented, kind))
    if not findings[0].ok:
        return findings
    try:
        subject = Subject(kind, _made(kind, params or {}))
    except Failed as failure:
        return [*findings, Finding("can be made", False, failure.message, failure.cure)]
    for name, test in GATES:
        findings.append(_finding(name, test, subject))
        if not findings[-1].ok:
            return findings
    return findings + [_finding(name, test, subject) for name, test in CHECKS]


def _finding(name: str, test: Callable[[Any], str], subject: Any) -> Finding:
    try:
        return Finding(name, True, test(subject))
    except NotApplicable as reason:
        return Finding(name, None, str(reason))
    except Failed as failure:
        return Finding(name, False, failure.message, failure.cure)


def _made(kind: type[Algorithm], params: Mapping[str, Any]) -> Algorithm:
    try:
        made: Algorithm = registry.call(kind, {}, params, "")
    except InputError as error:
        raise Failed(
            str(error), "give the field a default, or a value: simnet check FILE:NAME --set eta=0.1"
        ) from error
    return made


# ---- the class -----------------------------------------------------------------------------------------------------


def _is_frozen(kind: Any) -> str:
    if not (isinstance(kind, type) and issubclass(kind, Algorithm)):
        raise Failed(f"{kind!r} is no algorithm", "write 'class Mine(Algorithm)', with Algorithm of simnet.algorithm")
    parameters = getattr(kind, "__dataclass_params__", None)
    if parameters is None or "__dataclass_params__" not in vars(kind) or not parameters.frozen:
        raise Failed(
            f"{_head(kind)}\nits hyper-parameters could change during a run", "put '@dataclass(frozen=True)' above it"
        )
    return ""


def _is_documented(kind: Any) -> str:
    text = vars(kind).get("__doc__") or ""
    if not text.strip() or text.startswith(f"{kind.__name__}("):  # what @dataclass writes by itself
        cure = (
            "say the update in mathematics, what it sends each round, what stands in for a lost message, and the paper"
        )
        raise Failed(f"{_head(kind)}\nit has no docstring", cure)
    return ""


def _head(kind: type) -> str:
    """Where a class begins, past its decorators."""
    lines, first = inspect.getsourcelines(kind)
    offset = next((i for i, line in enumerate(lines) if line.lstrip().startswith("class ")), 0)
    return str(Place(inspect.getsourcefile(kind) or "", first + offset))


__all__ = ["Finding", "check", "check_class"]
