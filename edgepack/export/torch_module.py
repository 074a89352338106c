"""Exports what ``module:callable`` or ``file.py:callable`` returns: a torch module, through torch.export."""

from __future__ import annotations

import itertools
import re
import sys
from typing import TYPE_CHECKING, Any

from edgepack.base.user_functions import is_callable_reference
from edgepack.errors import ModelError
from edgepack.export import Framework
from edgepack.export import shapes as known_shapes
from edgepack.export.outputs import check_tensors, name_outputs
from edgepack.export.torch_onnx import (
    TRAINING,
    compare,
    compare_closely,
    explain,
    export_note,
    import_torch,
    quiet,
    write_onnx,
    write_traced,
)
from edgepack.export.user_code import call_with_progress, find_place, users_callable
from edgepack.graph.compare import SIZES
from edgepack.graph.feeds import random_feeds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from edgepack.export.shapes import KnownInput
    from edgepack.specs.data import SampleSet
    from edgepack.specs.model import OnnxModel, TensorSpec
    from edgepack.specs.types import Array

# Tracing with a batch of 1 would fix it: torch.export treats the sizes 0 and 1 as constants.
_TRACED_BATCH = 2
_TRIALS = 32
# Of torch.export's words for a module that decides by the values of its tensors.
_DECIDES_BY_VALUES = ("data-dependent", "data dependent", "dynamic control flow", "torch.cond")


def find_inputs(
    source: str, samples: SampleSet | None, shapes: Mapping[str, tuple[int | str, ...]]
) -> tuple[TensorSpec, ...]:
    """Return the inputs that the exported model will have."""
    import_torch()
    with users_callable(source) as function:
        module, examples = _make(function, source)
        return _settle(module, _known(module, samples, shapes, examples))[0]


def export(source: str, samples: SampleSet | None, shapes: Mapping[str, tuple[int | str, ...]], out: Path) -> OnnxModel:
    """Return the module as ``out/model.onnx``, compared with the module itself."""
    import_torch()
    with users_callable(source) as function:
        module, examples = _make(function, source)
        return _export(module, source, samples, shapes, examples, out)


def export_module(
    module: Any, title: str, samples: SampleSet | None, shapes: Mapping[str, tuple[int | str, ...]], out: Path
) -> OnnxModel:
    """Return a module that is in memory as ``out/model.onnx``, compared with itself; the module is left as it was.

    ``title`` is what errors call it. Raises as ``export``.
    """
    import copy

    own, examples = _make(copy.deepcopy(module), title)
    return _export(own, title, samples, shapes, examples, out)


def _export(
    module: Any,
    title: str,
    samples: SampleSet | None,
    shapes: Mapping[str, tuple[int | str, ...]],
    examples: Any,
    out: Path,
) -> OnnxModel:
    inputs, feeds = _settle(module, _known(module, samples, shapes, examples))
    outputs = name_outputs(_run(module, feeds), tuple(feeds))
    check_tensors(outputs)
    names = tuple(outputs)

    def reference(values: Mapping[str, Array]) -> Mapping[str, Array]:
        return _reference(module, values)

    try:
        model = write_onnx(_trace(module, title, inputs, feeds), inputs, names, out)
    except ModelError as error:
        if not _may_be_recorded(error):
            raise
        model = _export_recorded(module, inputs, feeds, names, out, error)
        compare_closely(model, reference)
    compare(model, reference, samples)
    return model


def _may_be_recorded(error: ModelError) -> bool:
    """Say whether recording what the module does may be right though the newer exporter failed.

    It is not where the module decides by values: one of its ways would be recorded, without a word. Nor does another
    exporter help where something is in training mode, or a size is fixed by the module's own code.
    """
    words = f"{error.message} {error.__cause__}".lower()
    final = any(sign in error.message for sign in ("fixes the dimension", TRAINING))
    return not final and not any(sign in words for sign in _DECIDES_BY_VALUES)


def _export_recorded(
    module: Any,
    inputs: tuple[TensorSpec, ...],
    feeds: Mapping[str, Array],
    outputs: tuple[str, ...],
    out: Path,
    first: ModelError,
) -> OnnxModel:
    """Return the module by torch's older exporter; raises the first error, with what became of this, where it fails."""
    import torch

    tensors = tuple(torch.from_numpy(feeds[spec.name].copy()) for spec in inputs)
    recorded = module if isinstance(module, torch.jit.ScriptModule) else _flat(module, inputs)
    try:
        return write_traced(recorded, tensors, inputs, outputs, out, first.message)
    except ModelError as error:
        raise ModelError(f"{first.message}; {error.message}", hint=first.hint) from first


def _make(function: Any, source: str) -> tuple[Any, Any]:
    """Call the user's callable; return its module, ready for inference in fp32 on the CPU, and the example inputs."""
    import torch

    torch.manual_seed(0)  # so that weights a callable draws at random are the same in every run
    module = function if isinstance(function, torch.nn.Module) else call_with_progress(function)
    if not isinstance(module, torch.nn.Module):
        raise ModelError(
            f"{source} gave a value of type {type(module).__name__}, not a torch.nn.Module",
            hint="name a function without arguments, or a class, that returns the module with its weights loaded",
        )
    file = sys.modules.get(function.__module__)
    examples = next(
        (found for place in (module, function, file) if (found := getattr(place, "example_inputs", None)) is not None),
        None,
    )
    module = module.eval().cpu()
    tensors = itertools.chain(module.parameters(), module.buffers())
    if any(tensor.is_floating_point() and tensor.dtype != torch.float32 for tensor in tensors):
        module = module.float()
    return module, examples() if callable(examples) else examples


def _known(
    module: Any, samples: SampleSet | None, shapes: Mapping[str, tuple[int | str, ...]], examples: Any
) -> dict[str, KnownInput]:
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        schema: Any = module.forward.schema  # type: ignore[attr-defined]  # a script's method has one
        names = tuple(argument.name for argument in schema.arguments if argument.name != "self")
        arguments = known_shapes.Arguments(names, (), False)
    else:
        arguments = known_shapes.forward_arguments(module.forward)
    return known_shapes.find_known(arguments, samples, shapes, examples)


def _settle(module: Any, known: dict[str, KnownInput]) -> tuple[tuple[TensorSpec, ...], dict[str, Array]]:
    """Return the inputs with dtypes, and feeds for a batch of 2, with which the module runs.

    A dtype that is not known is float32, else int64; a dimension that is not known is the first of some sizes.
    """
    first: Exception | None = None
    for inputs, size in itertools.islice(_candidates(known), _TRIALS):
        feeds = random_feeds(inputs, batch=_TRACED_BATCH, size=size)
        try:
            _run(module, feeds)
        except Exception as error:  # the user's forward may raise anything for inputs that do not suit it
            first = first or error
        else:
            return inputs, feeds
    assert first is not None, "there is at least one candidate"
    stated = ", ".join(f"{name}{list(item.shape)}" for name, item in known.items())
    raise ModelError(
        f"the module does not accept inputs of the shapes {stated}: {explain(first)}",
        hint="check --shape, the recipe or example_inputs; a batch of 2 must be possible where the first size is N",
    ) from first


def _candidates(known: dict[str, KnownInput]) -> Iterator[tuple[tuple[TensorSpec, ...], int]]:
    choices = [_dtypes(item.dtype) for item in known.values()]
    unknown = any(isinstance(dim, str) for item in known.values() for dim in item.shape[1:])
    for dtypes in itertools.product(*choices):
        for size in SIZES if unknown else SIZES[:1]:
            yield known_shapes.as_specs(known, dict(zip(known, dtypes, strict=True))), size


def _dtypes(stated: str | None) -> tuple[str, ...]:
    """Return the dtypes to try: a float is float32, as the exported model is; an integer may have to become one."""
    if stated is None:
        return ("float32", "int64")
    if stated.startswith(("float", "bfloat")):
        return ("float32",)
    return (stated,) if stated == "bool" else (stated, "float32", "int64")


def _run(module: Any, feeds: Mapping[str, Array]) -> Any:
    import torch

    with torch.no_grad(), quiet():
        return module(**{name: torch.from_numpy(array.copy()) for name, array in feeds.items()})


def _reference(module: Any, feeds: Mapping[str, Array]) -> dict[str, Array]:
    outputs = name_outputs(_run(module, feeds), tuple(feeds))
    check_tensors(outputs)
    return {name: tensor.detach().numpy() for name, tensor in outputs.items()}


def _trace(module: Any, source: str, inputs: tuple[TensorSpec, ...], feeds: Mapping[str, Array]) -> Any:
    """Return the torch.export program of ``module``, with outputs as a flat tuple."""
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(
            "it is a TorchScript module, which torch's newer exporter does not take",
            hint="give the module that it was made of (file.py:callable), or export it yourself as .onnx",
        )
    # DYNAMIC finds ranges and relations of the dimensions for itself, and refuses to turn one into a constant.
    free = torch.export.Dim.DYNAMIC
    dynamic = tuple({axis: free for axis, dim in enumerate(spec.shape) if isinstance(dim, str)} for spec in inputs)
    tensors = tuple(torch.from_numpy(feeds[spec.name].copy()) for spec in inputs)
    try:
        with quiet(), torch.no_grad():
            return torch.export.export(_flat(module, inputs), tensors, dynamic_shapes={"tensors": dynamic})
    except Exception as error:  # torch.export raises its own, and whatever forward raises while it is traced
        raise _cannot_trace(error, source, inputs) from error


def _flat(module: Any, inputs: tuple[TensorSpec, ...]) -> Any:
    """Return the module with tensors one after another in and out."""
    import torch

    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *tensors: Any) -> tuple[Any, ...]:
            named = {spec.name: tensor for spec, tensor in zip(inputs, tensors, strict=True)}
            return tuple(name_outputs(self.module(**named), tuple(named)).values())

    return Flat().eval()


def _cannot_trace(error: Exception, source: str, inputs: tuple[TensorSpec, ...]) -> ModelError:
    # torch's words for a free dimension that the module's code turned into a constant
    if found := re.search(r"L\['tensors'\]\[(\d+)\]\.size\(\)\[(\d+)\].*constant \((\d+)\)", str(error)):
        spec, axis, size = inputs[int(found[1])], int(found[2]), found[3]
        shape = "x".join(size if index == axis else str(dim) for index, dim in enumerate(spec.shape))
        return ModelError(
            f"the module's code fixes the dimension {axis} ({spec.shape[axis]}) of the input {spec.name!r} to {size}",
            hint=f"take sizes from the tensor in forward (x.shape[{axis}]), or fix it: --shape {spec.name}={shape}",
        )
    return ModelError(
        f"torch.export cannot trace the module: {explain(error)}{find_place(error, source)}",
        hint="control flow that depends on values needs torch.where or torch.cond; or export the model yourself and "
        "give the .onnx file",
    )


FRAMEWORK = Framework(
    title="file.py:callable",
    find_inputs=find_inputs,
    export=export,
    form=is_callable_reference,
    note=export_note,
    advice={
        ".py": "name the function in it that returns the module",
    },
)
