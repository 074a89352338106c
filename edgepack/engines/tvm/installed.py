"""Imports TVM, without PyTorch where nothing has loaded that: it would take most of the time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edgepack.engines.common.installed import import_engine
from edgepack.engines.tvm.facts import ENGINE

_UNUSED = "torch"


def import_tvm(module: str = "tvm") -> Any:
    """Return a module of TVM, imported. Raises ``ToolchainError`` when it is missing or does not load.

    TVM's ffi package imports PyTorch wherever it is installed, to take its tensors, of which edgepack gives it none:
    twice the time of all the rest, in every child process that compiles. PyTorch can be imported afterwards; TVM does
    not know its tensors then. For a process of edgepack's own: no other thread may import PyTorch meanwhile.
    """
    with _without_torch():
        return import_engine(ENGINE.title, ENGINE.extra, module)


@contextmanager
def _without_torch() -> Iterator[None]:
    """Let PyTorch look as if it were not installed, unless it is loaded."""
    if _UNUSED in sys.modules:
        yield
        return
    sys.modules[_UNUSED] = None  # type: ignore[assignment]  # how Python writes that there is none
    try:
        yield
    finally:
        del sys.modules[_UNUSED]
