"""What the workers of torch's formats share: its exporters, inputs that a module takes, and torchvision's absence."""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from typing import Any

OPSET = 18
_BATCH = "N"
_SIZES = (224, 32, 64, 128, 299, 384, 512)
_WIDTHS = (16, 32, 64, 10, 128, 784)


def without_torchvision() -> None:
    """Let packages import torchvision's Python part beside a CPU torch: declare the operators that its library has.

    PyPI's torchvision is built for CUDA, and timm, fastai and transformers import it when it is there.
    """
    import importlib.util

    found = importlib.util.find_spec("torchvision")
    if found is None or not found.submodule_search_locations:
        return
    from pathlib import Path

    import torch

    declare: Any = torch.library.Library
    library = declare("torchvision", "DEF")
    text = (Path(found.submodule_search_locations[0]) / "_meta_registrations.py").read_text()
    for name in {"nms", "qnms", *re.findall(r"register_meta\(['\"](\w+)['\"]", text)}:
        try:
            library.define(f"{name}(Tensor a) -> Tensor")
        except RuntimeError:
            continue  # the real library is there
    sys.modules["edgepack_torchvision_stub"] = library  # alive as long as the process


def export(job: Any, module: Any, feeds: dict[str, Any], free: dict[str, dict[int, str]], call: Any = None) -> None:
    """Write ``module`` as ONNX and keep its own answers; ``feeds`` are tensors with a batch of 2.

    ``free`` names the free axes of each input. ``call`` turns what the module returns into named tensors.
    """
    import torch

    module.eval()
    flat = _Flat.make(module, list(feeds), call or named_outputs)
    outputs = list(flat.named(*feeds.values()))
    free = _possible(flat, feeds, free)
    job.progress("exporting")
    how = _write(job, flat, feeds, free, outputs)
    if how:
        job.note(how)
    _rename(job, feeds, free, outputs)

    def ask(*how: int) -> tuple[dict[str, Any], dict[str, Any]]:
        values = {name: _again(tensor, free[name], *how, mask="mask" in name) for name, tensor in feeds.items()}
        return values, flat.named(*values.values())

    with torch.no_grad():
        for values, answers in job.sibling("trials").answered(ask):
            job.pair({n: v.numpy() for n, v in values.items()}, {n: v.detach().numpy() for n, v in answers.items()})


class _Flat:
    """A module with tensors one after another in and out."""

    @staticmethod
    def make(module: Any, names: list[str], call: Any) -> Any:
        import torch

        script = isinstance(module, torch.jit.ScriptModule)

        class Flat(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.module = module

            def named(self, *tensors: Any) -> dict[str, Any]:
                given = dict(zip(names, tensors))
                found: dict[str, Any] = call(self.module(*tensors) if script else self.module(**given))
                return {f"{name}_out" if name in names else name: value for name, value in found.items()}

            def forward(self, *tensors: Any) -> tuple[Any, ...]:
                return tuple(self.named(*tensors).values())

        return Flat().eval()


def named_outputs(value: Any, path: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what a module returned by name: a dict's keys, a named tuple's fields, or ``output``."""
    import torch

    if isinstance(value, torch.Tensor):
        return {"_".join(path) or "output": value}
    if isinstance(value, dict) or hasattr(value, "items"):
        pairs = [(str(key), item) for key, item in value.items()]
    elif hasattr(value, "_fields"):
        pairs = [(name, getattr(value, name)) for name in value._fields]
    elif isinstance(value, (tuple, list)):
        pairs = [(f"output_{i}" if not path else str(i), item) for i, item in enumerate(value)]
    else:
        return {}
    found: dict[str, Any] = {}
    for name, item in pairs:
        found.update(named_outputs(item, (*path, name)))
    return found


def picture_feeds(job: Any, module: Any, names: list[str]) -> tuple[dict[str, Any], dict[str, dict[int, str]]]:
    """Return inputs that a module takes: by ``--shape``, else what its first layer says."""
    import torch

    if job.shapes:
        known = job.shapes_of(names)
        unknown = set(known) - set(names)
        if unknown:
            raise job.refuse(
                f"--shape: the module has no input {sorted(unknown)[0]!r}", f"one of: {', '.join(names)}", "ConfigError"
            )
        shapes = {
            n: [2 if isinstance(d, str) and i == 0 else 16 if isinstance(d, str) else d for i, d in enumerate(s)]
            for n, s in known.items()
        }
        free = {n: {i: (d if i else _BATCH) for i, d in enumerate(s) if isinstance(d, str)} for n, s in known.items()}
        said = ""
        for integers in (False, True):
            feeds = {n: torch.randint(0, 4, s) if integers else torch.randn(s) for n, s in shapes.items()}
            why = _fails(module, feeds)
            if why is None:
                return feeds, free
            said = said or why
        sizes = ", ".join(f"{name}{shape}" for name, shape in shapes.items())
        raise job.refuse(
            f"the module does not accept inputs of the shapes {sizes}: {said}",
            "check --shape; a batch of 2 must be possible where the first size is N",
        )
    if len(names) == 1:
        for shape in _guesses(module):
            feeds = {names[0]: torch.randn(shape, generator=torch.Generator().manual_seed(0))}
            if _fails(module, feeds) is None:
                size = "x".join(str(dim) for dim in shape[1:])
                job.note(
                    f"its file states no size of its input: {size} was taken; --shape {names[0]}=Nx... for another"
                )
                return feeds, {names[0]: {0: _BATCH}}
    first = next((m for m in module.modules() if list(m.parameters(recurse=False))), None)
    usual = "Nx128" if isinstance(first, torch.nn.Embedding) else "Nx3x224x224"
    said = " ".join(f"--shape {name}={usual}" for name in names[:3])
    raise job.refuse("the shape of its input is not known", f"give it, as in {said}", "ConfigError")


def _guesses(module: Any) -> Any:
    """Yield shapes by the first layer with weights: its channels, and usual sizes."""
    for parameter in (p for p in module.parameters() if p.dim() > 1):
        if parameter.dim() == 4:
            yield from ([2, int(parameter.shape[1]), size, size] for size in _SIZES)
        elif parameter.dim() == 3:
            yield from ([2, int(parameter.shape[1]), size] for size in (128, 1024, 16000))
        else:
            yield [2, int(parameter.shape[1])]
        return
    yield from ([2, width] for width in _WIDTHS)


def _fails(module: Any, feeds: dict[str, Any]) -> str | None:
    """Return why a module does not take these inputs; None where it does."""
    import torch

    try:
        with torch.no_grad():
            module(*feeds.values()) if isinstance(module, torch.jit.ScriptModule) else module(**feeds)
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
        # TorchScript tells where it was first, and what was wrong in its last line
        last = lines[-1] if re.match(r"\w+(Error|Exception): ", lines[-1]) else f"{type(error).__name__}: {lines[0]}"
        return last[:300]
    return None


def argument_names(module: Any) -> list[str]:
    """Return the names of the tensors that ``forward`` needs."""
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        return [a.name for a in module.forward.schema.arguments if a.name != "self"]  # type: ignore[attr-defined]
    parameters = inspect.signature(module.forward).parameters.values()
    usual = [p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return usual or ["input"]


def _possible(flat: Any, feeds: dict[str, Any], free: dict[str, dict[int, str]]) -> dict[str, dict[int, str]]:
    """Return the free axes less the batch where the module takes one batch only."""
    import torch

    try:
        with torch.no_grad():
            flat.named(*(_again(t, {0: _BATCH}, 0, 3) for t in feeds.values()))
    except Exception:
        return {name: {a: n for a, n in axes.items() if a != 0} for name, axes in free.items()}
    return free


def _write(job: Any, flat: Any, feeds: dict[str, Any], free: dict[str, dict[int, str]], outputs: list[str]) -> str:
    """Write the file by torch's newer exporter, else by the older one; return why that had to be."""
    import torch

    tensors = tuple(feeds.values())
    dynamic = {name: dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for name, axes in free.items()}.values()
    first: Exception | None = None
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if not isinstance(flat.module, torch.jit.ScriptModule):
            try:
                program = torch.export.export(flat, tensors, dynamic_shapes={"tensors": tuple(dynamic)})
                made = torch.onnx.export(
                    program,
                    dynamo=True,
                    verbose=False,
                    opset_version=OPSET,
                    input_names=list(feeds),
                    output_names=outputs,
                )
                assert made is not None
                made.save(str(job.model), external_data=_is_large(flat))
                return ""
            except Exception as error:
                first = error
        try:
            _write_traced(job, flat, feeds, free, outputs)
        except Exception as error:
            words = " ".join(str(first or error).splitlines()[:2])[:400]
            hint = "replace the operator or the control flow that it names"
            raise job.refuse(f"torch cannot write it as ONNX: {words}", hint) from error
    return (
        ""
        if first is None
        else f"by torch's older exporter: {type(first).__name__}: {str(first).splitlines()[0][:200]}"
    )


def _write_traced(
    job: Any, flat: Any, feeds: dict[str, Any], free: dict[str, dict[int, str]], outputs: list[str]
) -> None:
    import torch

    module = _script(flat.module, feeds) if isinstance(flat.module, torch.jit.ScriptModule) else flat
    torch.onnx.export(
        module, tuple(feeds.values()), str(job.model), dynamo=False, opset_version=17, input_names=list(feeds),
        output_names=outputs, dynamic_axes={name: axes for name, axes in free.items() if axes},
    )  # fmt: skip


def _script(module: Any, feeds: dict[str, Any]) -> Any:
    """Return a TorchScript module that returns its tensors one after another: the exporter takes no dicts and lists."""
    import torch

    with torch.no_grad():
        value = module(*feeds.values())
    if isinstance(value, torch.Tensor):
        return module

    class Around(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

    around: Any = torch.jit.script(Around())
    names = [f"tensor_{number}" for number in range(len(feeds))]
    given = ", ".join(f"{name}: Tensor" for name in names)
    places = ", ".join(f"value{place}" for place in _places(value))
    around.define(f"def forward(self, {given}):\n    value = self.module({', '.join(names)})\n    return {places},\n")
    return around.eval()


def _places(value: Any) -> list[str]:
    """Return how each tensor in what a module returned is reached, in the order of ``named_outputs``."""
    import torch

    if isinstance(value, torch.Tensor):
        return [""]
    if isinstance(value, dict):
        return [f"[{key!r}]{rest}" for key, item in value.items() for rest in _places(item)]
    if isinstance(value, (list, tuple)):
        return [f"[{number}]{rest}" for number, item in enumerate(value) for rest in _places(item)]
    return []


def _is_large(module: Any) -> bool:
    return bool(sum(p.numel() * p.element_size() for p in module.parameters()) > 1 << 30)


def _rename(job: Any, feeds: dict[str, Any], free: dict[str, dict[int, str]], outputs: list[str]) -> None:
    """Give inputs, outputs and free axes the names asked for: an exporter may have made others."""
    import onnx

    proto = onnx.load(str(job.model), load_external_data=False)
    symbols: dict[str, str] = {}
    for value, name in zip(proto.graph.input, feeds):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_param and axis in free[name]:
                symbols[dim.dim_param] = free[name][axis]
                dim.dim_param = free[name][axis]
    for value in (*proto.graph.output, *proto.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in symbols:
                dim.dim_param = symbols[dim.dim_param]
    if [value.name for value in proto.graph.output] != outputs or [v.name for v in proto.graph.input] != list(feeds):
        raise job.refuse("the exporter dropped an input or output that is not used", "remove it from forward")
    onnx.save(proto, str(job.model))


def _again(tensor: Any, axes: dict[int, str], seed: int, batch: int, factor: int = 1, *, mask: bool = False) -> Any:
    """Return other values of the kind of ``tensor``, of another batch where that is free, other free axes larger."""
    import torch

    shape = [
        (batch if axis == 0 else size * factor) if axis in axes else size for axis, size in enumerate(tensor.shape)
    ]
    random = torch.Generator().manual_seed(seed)
    if mask and len(shape) == 2 and bool((tensor == 1).all()):  # rows of ones that end, as of padded texts
        lengths = torch.randint(1, shape[1] + 1, (shape[0], 1), generator=random)
        return (torch.arange(shape[1]) < lengths).to(tensor.dtype)
    if tensor.is_floating_point():
        return torch.randn(shape, generator=random)
    if tensor.dtype == torch.bool:
        return torch.rand(shape, generator=random) > 0.5
    low, high = int(tensor.min()), int(tensor.max())
    return torch.randint(low, max(high, low + 1) + 1, shape, generator=random).to(tensor.dtype)
