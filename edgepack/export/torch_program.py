"""Exports a ``.pt2`` file, the program of torch.export.save; ``torch_archive.py`` says what torch gets of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.base.missing import nothing_at
from edgepack.errors import ConfigError, ModelError
from edgepack.export import Framework
from edgepack.export.outputs import check_tensors, name_outputs
from edgepack.export.torch_archive import read_archive
from edgepack.export.torch_onnx import compare, explain, import_torch, quiet, write_onnx
from edgepack.specs.model import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgepack.specs.data import SampleSet
    from edgepack.specs.model import OnnxModel
    from edgepack.specs.types import Array

_HINT = "save it again with this version of torch, or give the module itself (file.py:callable)"
_BATCH = "N"


def find_inputs(
    source: str, _samples: SampleSet | None, shapes: Mapping[str, tuple[int | str, ...]]
) -> tuple[TensorSpec, ...]:
    """Return the inputs that the program states."""
    return _inputs(_load(Path(source)), shapes)


def export(source: str, samples: SampleSet | None, shapes: Mapping[str, tuple[int | str, ...]], out: Path) -> OnnxModel:
    """Return the program as ``out/model.onnx``, compared with what torch computes."""
    program = _load(Path(source))
    module = program.module()
    inputs = _inputs(program, shapes)
    names = tuple(spec.name for spec in inputs)
    outputs = _outputs(program, names)
    model = write_onnx(program, inputs, outputs, out)
    try:
        compare(model, lambda feeds: _reference(program, module, feeds), samples)
    except ModelError as error:
        if (narrow := _narrow(program)) is None:
            raise
        hint = f"it computes in {narrow}, which torch and ONNX Runtime round differently: export model.float() instead"
        raise ModelError(error.message, hint=hint) from error
    return model


def _load(path: Path) -> Any:
    import_torch()
    import torch

    if not path.is_file():
        message, hint = nothing_at(path, "check the path of the model", suffixes=(".pt2",))
        raise ModelError(message, hint=hint)
    archive = read_archive(path)
    try:
        with quiet():
            program = torch.export.load(archive)
            program.module()  # checks the parts against each other
    except Exception as error:  # whatever torch raises for a file of another version, or a damaged one
        raise ModelError(f"torch {torch.__version__} cannot load {path.name}: {explain(error)}", hint=_HINT) from error
    return program


def _inputs(program: Any, shapes: Mapping[str, tuple[int | str, ...]]) -> tuple[TensorSpec, ...]:
    import torch

    if shapes:
        raise ConfigError("a .pt2 file has its own shapes", hint="leave out --shape, or export the module again")
    placeholders = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    specs = []
    for name in program.graph_signature.user_inputs:
        value = placeholders.get(name)
        if not isinstance(value, torch.Tensor):
            raise ModelError(f"the input {name!r} of the .pt2 file is not a tensor", hint="export it with tensors only")
        shape = tuple(_dim(dim, axis) for axis, dim in enumerate(value.shape))
        specs.append(TensorSpec(name, str(value.dtype).removeprefix("torch."), shape))
    return tuple(specs)


def _dim(dim: Any, axis: int) -> int | str:
    """Return a size; a free one is N on the first axis, else its symbol as one word."""
    if isinstance(dim, int):
        return dim
    return _BATCH if axis == 0 else re.sub(r"\W+", "_", str(dim))


def _outputs(program: Any, inputs: tuple[str, ...]) -> tuple[str, ...]:
    """Return the outputs' names, by the structure that the traced module returned."""
    from torch.utils import _pytree

    values = [_Leaf() if spec.arg.__class__.__name__ == "TensorArgument" else None for spec in _output_specs(program)]
    return tuple(name_outputs(_pytree.tree_unflatten(values, program.call_spec.out_spec), inputs))


def _narrow(program: Any) -> str | None:
    """Return the type of 16 bits that a program computes in; None for one that has no such weights."""
    import torch

    kinds = {tensor.dtype for tensor in program.state_dict.values()}
    return next((str(kind).removeprefix("torch.") for kind in (torch.float16, torch.bfloat16) if kind in kinds), None)


class _Leaf:
    """Stands for a tensor while outputs are named."""


def _output_specs(program: Any) -> list[Any]:
    return [spec for spec in program.graph_signature.output_specs if spec.kind.name == "USER_OUTPUT"]


def _reference(program: Any, module: Any, feeds: Mapping[str, Array]) -> dict[str, Array]:
    import torch
    from torch.utils import _pytree

    tensors = [torch.from_numpy(array.copy()) for array in feeds.values()]
    positional, named = _pytree.tree_unflatten(tensors, program.call_spec.in_spec)
    try:
        with torch.no_grad(), quiet():
            outputs = name_outputs(module(*positional, **named), tuple(feeds))
    except Exception as error:  # a guard of the program, or an operator that does not take these sizes
        sizes = ", ".join(f"{name}{list(array.shape)}" for name, array in feeds.items())
        raise ModelError(
            f"the .pt2 program does not accept {sizes}: {explain(error)}",
            hint="export it with a range of sizes that includes these: torch.export.Dim('N', min=1)",
        ) from error
    check_tensors(outputs)
    return {name: tensor.detach().numpy() for name, tensor in outputs.items()}


FRAMEWORK = Framework(title=".pt2", find_inputs=find_inputs, export=export, suffixes=(".pt2",))
