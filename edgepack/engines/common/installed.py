"""Finds and imports engines: their versions without importing them, and one clear error when they are not there."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from edgepack.base.versions import installed_version
from edgepack.errors import ToolchainError


def engine_version(title: str, extra: str, module: str, *distributions: str) -> str:
    """Return the version of the first of ``distributions`` that is installed and brings ``module``, not importing it.

    Raises ``ToolchainError`` with the command that installs the ``extra``.
    """
    try:
        found = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        raise ToolchainError(f"{title} is not installed", hint=f"pip install 'edgepack[{extra}]'")
    for name in distributions:
        if (version := installed_version(name)) is not None:
            return version
    # Built from source or from another package manager: only the module itself knows.
    return str(getattr(import_engine(title, extra, module), "__version__", "unknown"))


def import_engine(title: str, extra: str, module: str) -> Any:
    """Import an engine's module. Raises ``ToolchainError`` when it is missing or its libraries do not load."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module:
            raise ToolchainError(f"{title} is not installed", hint=f"pip install 'edgepack[{extra}]'") from None
        raise _broken(title, extra, error) from error
    except Exception as error:  # a broken installation raises anything: ImportError, OSError, SystemError, ...
        raise _broken(title, extra, error) from error


def _broken(title: str, extra: str, error: Exception) -> ToolchainError:
    words = " ".join(str(error).split())[:400]
    return ToolchainError(
        f"{title} is installed but does not load: {type(error).__name__}: {words}",
        hint=f"pip install --force-reinstall 'edgepack[{extra}]'",
    )
