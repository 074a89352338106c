"""Loads the user's own file that completes a model: what ``--module file.py:Name`` names."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any


def load(job: Any, reference: str) -> Any:
    """Return the module of ``file.py:Name`` or ``file.py``; its folder is importable from then on."""
    place = reference.rpartition(":")[0] if ".py:" in reference else reference
    path = Path(place)
    if not path.is_file():
        raise job.refuse(f"--module {reference}: there is no file {place}", "give file.py:Class", "ConfigError")
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def find(job: Any, reference: str) -> Any:
    """Return what ``file.py:Name`` names."""
    module = load(job, reference)
    name = reference.rpartition(":")[2] if ".py:" in reference else ""
    found = getattr(module, name, None) if name else None
    if found is None:
        known = ", ".join(sorted(n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__))
        said = f"the file has no {name}" if name else "it names no class of the file"
        raise job.refuse(
            f"--module {reference}: {said}", f"file.py:NAME, of what it defines: {known or 'nothing'}", "ConfigError"
        )
    return found
