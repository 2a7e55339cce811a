"""Modules that are imported at their first use, so that asking for help costs no torch.

`from simnet.lazy import torch` gives a module that loads when one of its names is asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING


def lazy_module(name: str) -> ModuleType:
    """The module `name`, executed at the first attribute access.

    Raises ModuleNotFoundError at once when it is not installed.
    """
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"simnet needs {name!r} here; install it with 'pip install {name}'", name=name)
    return _Lazy(name)


class _Lazy(ModuleType):
    """Stands for a module that is not imported yet; never put into sys.modules."""

    def __getattr__(self, attribute: str) -> object:
        module = importlib.import_module(self.__name__)
        value = getattr(module, attribute)
        self.__dict__[attribute] = value
        return value


if TYPE_CHECKING:
    import torch
else:
    torch = lazy_module("torch")
