"""Modules of the comparison with other tools that the bench uses too."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_MODELS = Path(__file__).resolve().parent / "peers" / "models.py"


def peers_models() -> ModuleType:
    """Return ``benchmarks/peers/models.py``, found by its path: a module of the bench has the same name."""
    spec = importlib.util.spec_from_file_location("peers_models", _MODELS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
