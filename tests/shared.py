"""Where the real inputs of the tests lie that are too large to be in this repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def shared_dir() -> Path:
    """The folder named by SIMNET_SHARED, else `shared` beside the checkout; the test is skipped where it is absent."""
    folder = Path(os.environ.get("SIMNET_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set SIMNET_SHARED to the folder", allow_module_level=True)
    return folder
