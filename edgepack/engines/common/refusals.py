"""What every engine refuses in the same words: an opset that is too high, files that are not there, closed runners."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from edgepack.errors import CompileError, EdgepackError
from edgepack.specs.model import Diagnostic

if TYPE_CHECKING:
    from pathlib import Path

    from edgepack.specs.model import OnnxModel
    from edgepack.specs.target import Target


# As ONNX Runtime, OpenVINO, TVM and the C++ library below them say it.
_NO_MEMORY = ("bad_alloc", "out of memory", "failed to allocate memory", "cannot allocate memory", "bad allocation")


def opset_too_high(
    title: str, model: OnnxModel, target: Target, highest: int | None = None, advice: str = ""
) -> list[Diagnostic]:
    """Return an error where the model's opset is above the one that the profile states, or ``highest`` known here."""
    known = [limit for limit in (target.engine.max_opset, highest) if limit is not None]
    if not known or model.opset <= min(known):
        return []
    return [
        Diagnostic(
            "error",
            f"the model uses opset {model.opset}; {title} on {target.id} knows opsets up to {min(known)}",
            hint=f"export the model with opset {min(known)} or lower{advice}",
        )
    ]


OTHER_FILES = "get the bundle again from those who built it"  # of a graph that is damaged, or names others' files


def require_files(folder: Path, *names: str) -> None:
    """Raise ``CompileError`` for the first of a compiled model's files that is not in ``folder``."""
    for name in names:
        if not (folder / name).is_file():
            raise CompileError(f"{name} is missing from the compiled model", hint="compile it again")


def remedy(error: BaseException, otherwise: str) -> str:
    """Return what to do about an engine's refusal: about its cause, where its words tell one, else ``otherwise``."""
    words = str(error).lower()
    if isinstance(error, MemoryError) or any(sign in words for sign in _NO_MEMORY):
        return "there is not enough memory for it: stop other programs, use a smaller model, or a machine with more"
    return otherwise


def closed(*_: object, **__: object) -> NoReturn:
    """Stand in for the functions of a runner that was closed."""
    raise EdgepackError("this runner was closed", hint="load the model again")
