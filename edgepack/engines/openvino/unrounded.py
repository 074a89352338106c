"""Which roundings of a quantized model OpenVINO leaves out where it adds inside a convolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgepack.engines.openvino.engine import device_settings
from edgepack.engines.openvino.ir import call_openvino, openvino_facts, original_name
from edgepack.specs.run import RunOptions

if TYPE_CHECKING:
    from edgepack.specs.model import CompiledModel

_QUANTIZERS = frozenset({"Convert", "FakeQuantize"})  # what a QuantizeLinear is in an IR


def unrounded_sums(compiled: CompiledModel) -> int:
    """Return how many sums are computed inside a convolution whose output the model rounds before it is added.

    OpenVINO 2026.4 clips that output to what its type can hold, and adds it without rounding it. Seen by its runtime
    model: a convolution that holds a quantizer and, behind it, an addition. Raises ``CompileError``.
    """
    path, device = compiled.folder / compiled.entry, compiled.device

    def count(core: Any) -> int:
        model = core.read_model(str(path))
        kinds = {original_name(one.get_friendly_name()): one.get_type_name() for one in model.get_ordered_ops()}
        made = core.compile_model(model, device, device_settings(core, compiled.precision, device, RunOptions()))
        return sum(_adds_unrounded(one, kinds) for one in made.get_runtime_model().get_ordered_ops())

    return int(call_openvino(path, count))


def _adds_unrounded(operation: Any, kinds: dict[str, str]) -> bool:
    _, kernel, originals = openvino_facts(operation)
    inside = [kinds.get(name, "") for name in originals[1:]]  # the first is the layer, a bias has its name
    quantized = next((place for place, kind in enumerate(inside) if kind in _QUANTIZERS), None)
    return kernel.startswith("Convolution ") and quantized is not None and "Add" in inside[quantized:]
