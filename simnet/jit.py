"""Compiled loops where numba is installed; without it the same source runs as plain Python, slower."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

try:
    COMPILED = find_spec("numba") is not None
except ValueError:  # a stand-in in sys.modules that has no spec
    COMPILED = False


SLOW = {"walk", "settle"}  # loops that take most of a minute to compile, where nothing is kept on disk
_listeners: list[Callable[[], None]] = []


@contextmanager
def compiling(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` whenever one of the slow loops begins to be compiled, rather than loaded from disk."""
    _listeners.append(tell)
    try:
        yield
    finally:
        _listeners.remove(tell)


@cache
def _listen() -> None:
    from numba.core import event

    class Compiling(event.Listener):
        def on_start(self, event: Any) -> None:
            if event.data["dispatcher"].__name__ in SLOW:
                for tell in tuple(_listeners):
                    tell()

        def on_end(self, event: Any) -> None:
            pass

    event.register("numba:compile", Compiling())


def kept(function: Callable[..., Any]) -> Any:
    """`function` compiled, and kept on disk for the next process where there is a folder to keep it in."""
    return _kept(function, ()) if COMPILED else function


def kept_with(*modules: ModuleType) -> Callable[[Callable[..., Any]], Any]:
    """The same for a function that calls others in the folders of `modules`."""
    folders = tuple(Path(str(module.__file__)).parent for module in modules)
    return lambda function: _kept(function, folders) if COMPILED else function


def _kept(function: Callable[..., Any], folders: tuple[Path, ...]) -> Any:
    try:
        made = _compiled(function, cache=True)
    except RuntimeError as error:  # a read-only installation and no home of one's own
        if "cannot cache" not in str(error):
            raise
        return _compiled(function)
    here = Path(__file__)
    return made if _stamped(made, (here, Path(function.__code__.co_filename).parent, *folders)) else _compiled(function)


def _compiled(function: Callable[..., Any], **more: bool) -> Any:
    """`function` compiled without numba's counting of references, which took half of the flow engine's time.

    Such functions make no arrays: they work in those that they are given, which their callers hold.
    """
    from numba import njit

    _listen()
    options: dict[str, Any] = {"_nrt": False, **more}
    return njit(**options)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """`function` copied into the compiled functions that call it: handing over many arrays would cost more."""
    if not COMPILED:
        return function
    from numba import njit

    return njit(inline="always")(function)


def _stamped(made: Any, folders: tuple[Path, ...]) -> bool:
    """Let what is kept stand for the source of whole folders, not for the function's own file alone.

    numba looks at the file of the function that is called; those that it calls in other files would go stale. Where
    numba keeps its stamp elsewhere, nothing is kept.
    """
    index: Any = getattr(getattr(made, "_cache", None), "_cache_file", None)
    if not hasattr(index, "_source_stamp"):
        return False
    index._source_stamp = _stamp_of(folders)
    return True


@cache
def _stamp_of(folders: tuple[Path, ...]) -> tuple[float, int]:
    files = [path.stat() for given in folders for path in (sorted(given.glob("*.py")) if given.is_dir() else [given])]
    return max(file.st_mtime for file in files), sum(file.st_size for file in files)
