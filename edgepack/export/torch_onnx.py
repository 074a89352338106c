"""Turns a torch.export program into a checked ONNX model and compares it with what the torch module computes."""

from __future__ import annotations

import itertools
import logging
import math
import re
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgepack.base import documents
from edgepack.base.files import write_text
from edgepack.errors import ModelError, ToolchainError
from edgepack.graph import passes
from edgepack.graph.check import first_line
from edgepack.graph.compare import TOLERANCE, differences, invent_feeds, relative_distance, run_model
from edgepack.graph.load import load_model, read_proto, save_proto
from edgepack.specs.source import Compared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import onnx

    from edgepack.specs.data import SampleSet
    from edgepack.specs.model import OnnxModel, TensorSpec
    from edgepack.specs.types import Array

# The opset that torch's exporter writes without converting; high enough for LayerNormalization (17) and Q/DQ (13).
OPSET = 18
TRAINING = "training mode"
NOTE = "edgepack.export"  # the key of the note in the model
COMPARED = "compared.json"
# Real samples compared, each alone; then two of them as one batch.
_COMPARED = 4
_SEEDS = (0, 1)
_SCALES = (1.0, -1.0, 0.01, -0.01, 30.0, -30.0, 0.0, 3.0)


def import_torch() -> None:
    """Raise ``ToolchainError`` when torch or its ONNX exporter is not installed."""
    try:
        import onnxscript  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise ToolchainError(
            f"exporting a torch module needs {error.name}, which is not installed",
            hint="pip install 'edgepack[torch]'",
        ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Silence torch's exporter: it warns about its own internals, and about packages that are not needed."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch._export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def write_onnx(program: Any, inputs: tuple[TensorSpec, ...], outputs: tuple[str, ...], out: Path) -> OnnxModel:
    """Write ``program`` as ``out/model.onnx`` with the names given, dynamic dimensions named as in ``inputs``.

    Raises ``ModelError`` with the exporter's first line when it does not know an operator.
    """
    import torch

    _refuse_training(program)
    names = [spec.name for spec in inputs]
    raw = out / "export.onnx"
    out.mkdir(parents=True, exist_ok=True)
    try:
        with quiet():
            made = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                input_names=names,
                output_names=list(outputs),
                opset_version=OPSET,
            )
            assert made is not None, "a program was exported, not a file"
            made.save(raw, external_data=_is_large(program))
        proto = read_proto(load_model(raw))
    except Exception as error:  # the exporter raises RuntimeError subclasses, and whatever its rules raise
        raise ModelError(
            f"torch cannot write the module as ONNX: {explain(error)}",
            hint="replace the operator that it names, or export the model yourself and give the .onnx file",
        ) from error
    finally:
        for path in (raw, raw.with_name(raw.name + ".data")):
            path.unlink(missing_ok=True)
    return _finished(proto, inputs, out)


def _refuse_training(program: Any) -> None:
    """Raise ``ModelError`` for a dropout or a batch norm that acts as in training: its answers are not the model's."""
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if schema is None or not any(word in schema.name for word in ("dropout", "batch_norm")):
            continue
        given = {argument.name: argument.default_value for argument in schema.arguments}
        given |= dict(zip(given, node.args, strict=False)) | node.kwargs
        if given.get("train", given.get("training")) is True:
            what = "dropout" if "dropout" in schema.name else "batch norm"
            stack = list(node.meta.get("nn_module_stack", {}).values())
            name = re.sub(r"^L\['self'\]\.?|^module\.?", "", str(stack[-1][0])) if stack else ""
            raise ModelError(
                f"the {what}{f' {name!r}' if name else ''} is in {TRAINING}",
                hint="call model.eval() before it is exported; in forward, functional.dropout and functional.batch_norm"
                " need training=self.training, and a batch norm its running statistics",
            )


def write_traced(
    module: Any,
    tensors: tuple[Any, ...],
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[str, ...],
    out: Path,
    why: str,
) -> OnnxModel:
    """Write ``module`` as ``out/model.onnx`` by torch's older exporter, which records what it does with ``tensors``.

    It knows operators that the newer one does not, and TorchScript. What the module decides by values it does not see,
    so the result must be compared on inputs of other values and sizes. ``why`` the newer one failed stands in the
    model's notes. Raises ``ModelError``.
    """
    import torch

    raw = out / "export.onnx"
    out.mkdir(parents=True, exist_ok=True)
    free = {spec.name: {a: dim for a, dim in enumerate(spec.shape) if isinstance(dim, str)} for spec in inputs}
    try:
        with quiet(), torch.no_grad():
            torch.onnx.export(
                module,
                tensors,
                str(raw),
                dynamo=False,
                verbose=False,
                input_names=[spec.name for spec in inputs],
                output_names=list(outputs),
                dynamic_axes=free,
                opset_version=OPSET,
            )
        proto = read_proto(load_model(raw))
    except Exception as error:  # as above
        raise ModelError(f"torch's older exporter cannot write it either: {explain(error)}") from error
    finally:
        raw.unlink(missing_ok=True)
    proto = _finished_proto(proto, inputs)
    passes.set_metadata(proto, NOTE, f"by torch's older exporter: {why}")
    return save_proto(proto, out)


def export_note(model: OnnxModel) -> str | None:
    """Return how a model was exported, where that is to be said."""
    entries = read_proto(model, weights=False).metadata_props
    return next((str(entry.value) for entry in entries if entry.key == NOTE), None)


def _finished(proto: onnx.ModelProto, inputs: tuple[TensorSpec, ...], out: Path) -> OnnxModel:
    return save_proto(_finished_proto(proto, inputs), out)


def _finished_proto(proto: onnx.ModelProto, inputs: tuple[TensorSpec, ...]) -> onnx.ModelProto:
    passes.drop_notes(proto)
    proto.ClearField("metadata_props")  # the exporter writes its own state there, with paths
    _rename_dims(proto, inputs)
    passes.set_versions(proto)
    passes.name_nodes(proto)
    return proto


def read_compared(model: OnnxModel) -> Compared | None:
    """Return how far an exported model is from torch; None for one that was not compared here."""
    path = model.path.parent / COMPARED
    return documents.from_json(Compared, path.read_bytes(), str(path)) if path.is_file() else None


def compare_closely(model: OnnxModel, reference: Callable[[Mapping[str, Array]], Mapping[str, Array]]) -> None:
    """Compare on random inputs of several scales and signs too: what was recorded may hold for some values only."""
    for seed, scale in enumerate(_SCALES):
        feeds = invent_feeds(model, seed=10 + seed, batch=1 + seed % 2)
        if feeds is None:
            continue
        scaled = {n: (a * scale).astype(a.dtype) if a.dtype.kind == "f" else a for n, a in feeds.items()}
        try:
            _compare_one(model, reference, scaled)
        except BaseException:
            model.path.unlink(missing_ok=True)
            raise


def compare(
    model: OnnxModel,
    reference: Callable[[Mapping[str, Array]], Mapping[str, Array]],
    samples: SampleSet | None,
) -> None:
    """Compare ``model`` in ONNX Runtime with ``reference`` on samples, alone and as a batch of two where that may vary.

    The tolerance is 1e-4 of an output's largest value: torch and ONNX Runtime sum in different orders, which for
    EfficientNet-Lite0 made 8e-7 (torch 2.13.0, ONNX Runtime 1.31.1, a Xeon with AVX512, n=8 random pictures), while a
    wrong graph differs in the first digits. Writes how far they are, see ``Compared``. Raises ``ModelError`` that names
    the output and the distance.
    """
    import torch

    try:
        found = [_compare_one(model, reference, feeds) for feeds in _feeds(model, samples)]
    except BaseException:
        model.path.unlink()  # a model that is known to be wrong, or could not be compared, must not be found later
        raise
    largest = max(found, default=0.0)
    compared = Compared(str(torch.__version__), len(found), largest if math.isfinite(largest) else None)
    write_text(model.path.parent / COMPARED, documents.to_json(compared))


def _compare_one(
    model: OnnxModel, reference: Callable[[Mapping[str, Array]], Mapping[str, Array]], feeds: Mapping[str, Array]
) -> float:
    """Return the largest difference of an output, as a share of its largest value."""
    try:
        found = run_model(model, feeds, optimize=False)
    except Exception as error:  # ONNX Runtime's own exceptions
        raise ModelError(f"ONNX Runtime cannot run the exported model: {first_line(error)}") from error
    wanted = reference(feeds)
    if lines := differences(wanted, found):
        sizes = ", ".join(f"{name}{list(array.shape)}" for name, array in feeds.items())
        raise ModelError(
            f"the exported ONNX model does not compute what the torch module does: the output {lines[0]} "
            f"(allowed {TOLERANCE:.0e}) for {sizes}",
            hint="look for random numbers, in-place state, or Python values that tracing froze in forward",
        )
    return max((relative_distance(array, found[name]) for name, array in wanted.items()), default=0.0)


def explain(error: BaseException) -> str:
    """Return the innermost cause's first words: torch wraps them in several layers of advice for its developers."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])[:400]}" if lines else type(error).__name__


def _feeds(model: OnnxModel, samples: SampleSet | None) -> Iterator[Mapping[str, Array]]:
    import numpy as np

    varies = all(spec.batched for spec in model.inputs)
    single = list(_samples(model, samples) if samples else _random(model))
    yield from single
    if varies:
        pair = (single * 2)[:2]
        yield {name: np.concatenate([feeds[name] for feeds in pair]) for name in pair[0]}


def _samples(model: OnnxModel, samples: SampleSet) -> Iterator[Mapping[str, Array]]:
    from edgepack.data.samples import read_samples

    yield from itertools.islice(read_samples(samples, model.inputs), _COMPARED)


def _random(model: OnnxModel) -> Iterator[Mapping[str, Array]]:
    for seed in _SEEDS:
        feeds = invent_feeds(model, seed=seed, batch=1)
        if feeds is None:
            raise ModelError(
                "ONNX Runtime cannot run the exported model with a batch of 1",
                hint="give samples with --data, or the batch that the model needs: --shape NAME=2x...",
            )
        yield feeds


def _rename_dims(proto: onnx.ModelProto, inputs: tuple[TensorSpec, ...]) -> None:
    """Replace the exporter's symbols (s40) by the names of the inputs' dimensions, which never vary."""
    graph = proto.graph
    names: dict[str, str] = {}
    for value, spec in zip(graph.input, inputs, strict=True):
        for dim, name in zip(value.type.tensor_type.shape.dim, spec.shape, strict=True):
            if isinstance(name, str):
                names.setdefault(dim.dim_param, name)
                dim.dim_param = name
    for value in (*graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = names.get(dim.dim_param) or _rename(dim.dim_param, names)


def _rename(expression: str, names: Mapping[str, str]) -> str:
    """Return a dimension's expression, such as 2*s40, with its symbols renamed."""
    return re.sub(r"[A-Za-z_]\w*", lambda word: names.get(word[0], word[0]), expression)


def _is_large(program: Any) -> bool:
    """Say whether the weights may not fit into one protobuf message of 2 GiB."""
    weights: int = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    return weights > 1 << 30
