"""``interface.txt``: what stands between a compiled model and who runs it, in lines that C++ reads as easily as Python.

    edgepack-tvm 1
    tvm 0.27.0.post1
    ffi 0.1.14.post1
    threads 4
    batch looped
    needs amx
    input float32 1,3,224,224 image
    output float32 1,10 scores

Inputs stand in the order in which the function ``main`` takes them, outputs in that in which it returns them; a scalar
has the shape ``-``, an extent that is not known before running is ``?``; a name is the rest of its line. ``threads`` 0
is one for each core. Where ``needs amx`` stands, Linux has to be asked for the tile registers before the model runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from edgepack.errors import CompileError
from edgepack.specs.model import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = "interface.txt"
# One line a function: its name, and the rule that made its code, or "default" and why no rule did.
FUNCTIONS = "functions.txt"
FORMAT = "edgepack-tvm 1"
AMX = "amx"
Batch: TypeAlias = Literal["fixed", "looped", "free"]
_LIMIT_BYTES = 1 << 20
_DTYPES = frozenset(
    ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")
)


@dataclass(frozen=True)
class Interface:
    """The tensors as they were compiled, and how to run.

    ``batch``: "fixed" takes these shapes only; "looped" is compiled for one sample and called once for each, because
    samples were found not to depend on each other; "free" takes any extent where a shape has a name. ``needs``: "amx"
    where the code uses tile registers.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batch: Batch
    threads: int
    tvm: str
    ffi: str
    needs: str | None = None


def write_interface(interface: Interface) -> str:
    """Return the file's text. Raises ``CompileError`` for names with line breaks and for types that it cannot hold."""
    lines = [
        FORMAT,
        f"tvm {interface.tvm}",
        f"ffi {interface.ffi}",
        f"threads {interface.threads}",
        f"batch {interface.batch}",
        *([f"needs {interface.needs}"] if interface.needs else []),
    ]
    for kind, specs in (("input", interface.inputs), ("output", interface.outputs)):
        for spec in specs:
            if spec.dtype not in _DTYPES:
                raise CompileError(
                    f"the {kind} {spec.name!r} has type {spec.dtype}, which a TVM bundle cannot take",
                    hint="cast it to a plain number type inside the model",
                )
            if not spec.name or any(not character.isprintable() for character in spec.name):
                raise CompileError(
                    f"the name of the {kind} {spec.name!r} has characters that cannot be printed", hint="rename it"
                )
            extents = ",".join(str(extent) if isinstance(extent, int) else "?" for extent in spec.shape) or "-"
            lines.append(f"{kind} {spec.dtype} {extents} {spec.name}")
    return "\n".join(lines) + "\n"


def read_interface(data: bytes) -> Interface:
    """Return what the file says. Raises ``CompileError`` when it is not one that this version reads."""
    try:
        text = data.decode() if len(data) <= _LIMIT_BYTES else ""
    except UnicodeDecodeError:
        text = ""
    lines = text.splitlines()
    if not lines or lines[0] != FORMAT:
        raise _damaged("it does not begin with " + FORMAT)
    facts: dict[str, str] = {}
    tensors: dict[str, list[TensorSpec]] = {"input": [], "output": []}
    for line in lines[1:]:
        key, _, rest = line.partition(" ")
        if key in tensors:
            tensors[key].append(_tensor(rest))
        elif key in ("tvm", "ffi", "threads", "batch", "needs") and key not in facts:
            facts[key] = rest
        else:
            raise _damaged(f"it has the line {line[:80]!r}")
    missing = [key for key in ("tvm", "ffi", "threads", "batch") if key not in facts]
    if missing or not tensors["output"]:
        raise _damaged(f"it lacks {missing[0] if missing else 'outputs'}")
    if facts["batch"] not in ("fixed", "looped", "free") or not re.fullmatch(r"\d{1,4}", facts["threads"]):
        raise _damaged("its batch or threads are not known")
    if facts.get("needs", AMX) != AMX:
        raise _damaged(f"it needs {facts['needs'][:80]!r}, which this version does not know")
    return Interface(
        inputs=tuple(tensors["input"]),
        outputs=tuple(tensors["output"]),
        batch=cast("Batch", facts["batch"]),
        threads=int(facts["threads"]),
        tvm=facts["tvm"],
        ffi=facts["ffi"],
        needs=facts.get("needs"),
    )


def write_functions(rules: Mapping[str, str]) -> str:
    """Return the text of ``functions.txt``."""
    return "".join(f"{name} {' '.join(rule.split())}\n" for name, rule in sorted(rules.items()))


def read_functions(data: bytes) -> dict[str, str]:
    """Return the rule of each function."""
    lines = (line.partition(" ") for line in data.decode(errors="replace").splitlines())
    return {name: rule for name, _, rule in lines if name}


def _tensor(rest: str) -> TensorSpec:
    match = re.fullmatch(r"(\w+) (-|(?:\d{1,18}|\?)(?:,(?:\d{1,18}|\?)){0,31}) (.+)", rest)
    if match is None or match[1] not in _DTYPES:
        raise _damaged(f"it has a tensor {rest[:80]!r}")
    extents = () if match[2] == "-" else match[2].split(",")
    return TensorSpec(match[3], match[1], tuple(extent if extent == "?" else int(extent) for extent in extents))


def _damaged(why: str) -> CompileError:
    return CompileError(f"TVM refused {FILE}: {why}", hint="compile the model again")
