"""Trials of torch's CPU kernels, where no engine has the same ones: importing torch takes seconds and 200 MB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgepack.engines import engine_of
from edgepack.engines.common.installed import engine_version, import_engine
from edgepack.engines.common.peak import Trial
from edgepack.errors import ToolchainError

if TYPE_CHECKING:
    from edgepack.specs.types import Precision

_SQUARES = (256, 512, 1024)
_TYPES: Mapping[Any, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_ROW = 1024


def versions(known: Mapping[str, str]) -> Mapping[str, str]:
    """Return torch's version. Raises ``ToolchainError`` without it, and where an engine with its kernels was tried."""
    for engine in filter(None, map(engine_of, known)):
        if "torch" in engine.same_kernels:
            raise ToolchainError(f"{engine.title} has the same kernels", hint="nothing to do")
    return {"torch": engine_version("torch", "torch", "torch", "torch")}


def trials(precisions: Sequence[Precision], threads: int, sets: Sequence[int]) -> Iterator[Trial]:
    """Yield a trial for each size and float precision, then one for each working set."""
    torch = import_engine("torch", "torch", "torch")
    torch.set_num_threads(threads)
    for precision in precisions:
        for size in _SQUARES if precision in _TYPES else ():
            a, b = (torch.randn(size, size).to(getattr(torch, _TYPES[precision])) for _ in range(2))
            name = f"torch {precision} mm {size}x{size}x{size}"
            yield Trial(name, 2 * size**3, _product(torch, a, b), precision)
    for size in sets:
        rows = max(size // (4 * _ROW), 1)
        name = f"torch vector times matrix of {size >> 10} KiB"
        call = _product(torch, torch.randn(rows, _ROW), torch.randn(_ROW, 1))
        yield Trial(name, 4 * _ROW * rows, call, working_set_bytes=size)


def _product(torch: Any, a: Any, b: Any) -> Any:
    return lambda: torch.mm(a, b)
