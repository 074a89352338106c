"""Keeps a tile's sums on the stack, where LLVM makes registers of them.

TVM takes what is larger than a kilobyte from its runtime's memory, and a tile of AVX-512 is. Such memory may be read by
anyone, so that every step over the terms of the sums stored all of them: with what ``prefetch.py`` asks for between
the steps, float32 products took 2.2 times as long on a Xeon with AVX-512 as with the sums in registers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.engines.tvm.codegen.once import stored

if TYPE_CHECKING:
    from collections.abc import Callable

PIPELINE = "edgepack"
# What LowerTVMBuiltin reads: an allocation with it is left to the code generator, which puts it on the stack.
_LEFT = "disable_lower_builtin"
_SCOPE = "local"
# Twice all the registers of any processor here, 32 of 64 bytes; a worker's stack has megabytes.
_MOST_BYTES = 4096


def pipeline() -> str:
    """Return the name of TVM's pipeline for functions that keeps tiles on the stack; it is registered with TVM."""
    from tvm.tirx import register_tir_pipeline

    register_tir_pipeline(PIPELINE, _parts)
    return PIPELINE


def _parts() -> tuple[Any, Callable[[], Any], Callable[[], Any]]:
    """Return TVM's own passes, those for the host with ours before them, and those for other devices."""
    from tvm import tirx
    from tvm import transform as tvm_transform
    from tvm.s_tir.pipeline import default_s_tir_pipeline

    passes, finish, finish_devices = default_s_tir_pipeline()
    keep = tirx.transform.prim_func_pass(
        lambda function, _module, _context: kept(stored(function)), opt_level=0, name="Keep"
    )
    return passes, lambda: tvm_transform.Sequential([keep, finish()]), finish_devices


def kept(function: Any) -> Any:
    """Return a function whose small local buffers stay on the stack."""
    import tvm_ffi
    from tvm.tirx import AllocBuffer

    return function.with_body(tvm_ffi.structural_map(function.body, [(AllocBuffer, _kept)], order="post"))


def _kept(allocation: Any) -> Any:
    from tvm import tirx

    buffer = allocation.buffer
    if buffer.scope() != _SCOPE or not all(hasattr(size, "value") for size in buffer.shape):
        return allocation
    if _bytes(buffer) > _MOST_BYTES:
        return allocation
    said = dict(allocation.annotations.items()) if allocation.annotations else {}
    return tirx.AllocBuffer(buffer, {**said, _LEFT: tirx.IntImm("bool", 1)})


def _bytes(buffer: Any) -> int:
    """Return the bytes of a buffer, whose elements may be vectors (``float32x16``)."""
    kind, _, lanes = str(buffer.dtype).partition("x")
    return math.prod(int(size) for size in buffer.shape) * np.dtype(kind).itemsize * int(lanes or 1)
