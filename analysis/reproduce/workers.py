"""Independent runs of an experiment, two at a time, each in a Python of its own with one thread.

A worker reads lines of JSON, [function, arguments], and answers each with a line. It is a fresh interpreter, so callers
need no guard round their main module, and nothing of theirs is copied. Workers stay for the next call: each has spent
seconds on its imports.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from simnet.registry import package_path

WORKERS = min(2, os.cpu_count() or 1)
_WAITING: list[subprocess.Popen[str]] = []  # for the next call


def side_by_side(function: Callable[..., Any], tasks: Sequence[Sequence[Any]]) -> Iterator[Any]:
    """Yields `function(*task)` of each task, in order; a function of a module, arguments and results as JSON has them.

    Raises RuntimeError, with what the worker said, where one fails.
    """
    name = f"{function.__module__}:{function.__qualname__}"
    idle: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
    workers = [_WAITING.pop() if _WAITING else _started() for _ in range(min(WORKERS, len(tasks)))]
    for worker in workers:
        idle.put(worker)
    answered: list[int] = []

    def run(task: Sequence[Any]) -> Any:
        worker = idle.get()
        assert worker.stdin is not None and worker.stdout is not None
        try:
            worker.stdin.write(json.dumps([name, list(task)]) + "\n")
            worker.stdin.flush()
            answer = worker.stdout.readline()
        finally:
            idle.put(worker)
        if not answer:
            raise RuntimeError(f"{name}{tuple(task)} failed in its worker; its words stand above")
        answered.append(1)
        return json.loads(answer)

    try:
        with ThreadPoolExecutor(len(workers)) as pool:
            yield from pool.map(run, tasks)
    finally:
        if len(answered) == len(tasks):
            _WAITING.extend(workers)
        else:
            _end(workers)


def _started() -> subprocess.Popen[str]:
    paths = [str(package_path()[0].parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen([sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                            env=environment)  # fmt: skip


def _end(workers: list[subprocess.Popen[str]]) -> None:
    for worker in workers:
        worker.kill()
        worker.communicate()
    workers.clear()


atexit.register(_end, _WAITING)


def serve() -> None:
    """Answer tasks until the input ends."""
    for line in sys.stdin:
        name, arguments = json.loads(line)
        module, _, attribute = name.partition(":")
        found = getattr(importlib.import_module(module), attribute)(*arguments)
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
