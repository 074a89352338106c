"""What the commands that build need: a device has numpy, Click and an engine only, and perhaps Python 3.10."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import click

from edgepack.errors import ToolchainError

PACKAGES = ("onnx", "onnxslim", "scipy", "PIL", "jinja2", "msgspec")  # of edgepack[builder], by module
OLDEST_PYTHON = (3, 11)
_INSTALL = "pip install 'edgepack[builder]'"
_INSTALL_FOR = {"edgepack demo": "pip install 'edgepack[demo]'"}  # it needs a network and pictures besides


class BuildCommand(click.Command):
    """A command that ends at once with what to install where edgepack[builder] is missing."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        require_builder(f"edgepack {ctx.info_name}")
        return super().invoke(ctx)


def require_builder(what: str) -> None:
    """Raise ``ToolchainError`` that says what to install, unless this installation can do ``what``."""
    if sys.version_info < OLDEST_PYTHON:
        needed = ".".join(map(str, OLDEST_PYTHON))
        raise ToolchainError(
            f"'{what}' needs Python {needed} or newer; this is {sys.version_info.major}.{sys.version_info.minor}",
            hint=f"build on another machine, or in an environment of Python {needed}: {_INSTALL}",
        )
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        hint = _INSTALL_FOR.get(what, _INSTALL)
        raise ToolchainError(f"'{what}' needs packages that are not installed: {', '.join(missing)}", hint=hint)


def missing_package(error: ModuleNotFoundError) -> ToolchainError | None:
    """Return what to say when a part of edgepack[builder] turns out to be missing; None for any other module."""
    name = (error.name or "").partition(".")[0]
    return ToolchainError(f"{name} is not installed", hint=_INSTALL) if name in PACKAGES else None
