"""Bundles of any small model for any engine, with golden vectors of the model's own outputs, alone and at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from backend_models import save
from small_bundles import onnx_outputs, small_facts

from edgepack.bundle.pack import pack
from edgepack.engines import get_backend
from edgepack.engines.targets import load_target
from edgepack.verify.golden import Golden, GoldenBatch, batched_inputs, joined, write_golden
from edgepack.verify.tolerance import widest


def packed_model(
    proto: onnx.ModelProto, backend: str, folder: Path, samples: Sequence[dict[str, Any]], precision: Any = "fp32"
) -> Path:
    """Compile a model for this host, and pack it with ``samples`` as golden inputs."""
    model = save(proto, folder / "onnx" / "model.onnx")
    target = load_target(f"host-{backend}")
    compiled = get_backend(backend).compile_model(model, target, precision, folder / "compiled")
    outputs = [onnx_outputs(model.path, sample) for sample in samples]
    batched = batched_inputs(model.inputs)
    batches = ()
    if batched and len(samples) > 1:
        together = joined(samples[:2], batched)
        batches = (GoldenBatch((0, 1), onnx_outputs(model.path, together)),)
    allowed = {name: dataclasses.replace(widest(precision), mismatch=0.0) for name in outputs[0]}
    golden = write_golden(Golden(tuple(samples), tuple(outputs), allowed, batches), folder / "golden.npz")
    return pack(compiled, golden, small_facts(target=target, precision=precision), folder)


def random_samples(specs: Sequence[tuple[str, tuple[int, ...]]], count: int = 2) -> list[dict[str, Any]]:
    """Return float32 samples for inputs of these names and shapes."""
    random = np.random.default_rng(4)
    return [{name: random.standard_normal(shape).astype(np.float32) for name, shape in specs} for _ in range(count)]
