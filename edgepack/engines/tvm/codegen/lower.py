"""lower(): a model's IRModule -> one whose functions have our kernels and schedules, and which rule took each."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgepack.engines.tvm.codegen import schedules
from edgepack.engines.tvm.codegen.clip_pass import raise_calls
from edgepack.engines.tvm.codegen.fold_pass import fold
from edgepack.engines.tvm.codegen.half_pass import wide_sums
from edgepack.engines.tvm.codegen.integer_pass import integer_arithmetic
from edgepack.engines.tvm.codegen.layout_pass import channels_last
from edgepack.engines.tvm.codegen.legalize import legalizations

if TYPE_CHECKING:
    from edgepack.engines.tvm.codegen.machine import Machine
    from edgepack.engines.tvm.codegen.workload import Choose
    from edgepack.specs.types import Precision

_LOG = logging.getLogger(__name__)

DEFAULT = "default"


@dataclass(frozen=True)
class Lowered:
    """What ``tvm.compile`` takes, with ``relax.get_pipeline("default_build")``, and how each function was arranged.

    ``rules``: for each function that computes, the name of the rule that took it, or ``default: REASON`` where it kept
    TVM's own loops.
    """

    module: Any
    rules: Mapping[str, str]


def lower(
    module: Any, machine: Machine, precision: Precision, choose: Choose | None = None  # noqa: ARG001
) -> Lowered:  # fmt: skip
    """Return the module with every operator lowered to loops, by our rules where one covers it.

    ``module`` is what the relax ONNX frontend made of a model with frozen shapes, its weights inside as constants.
    ``choose`` gives each kernel's tile; without it the rule does.
    """
    from tvm import relax, tirx
    from tvm import transform as tvm_transform
    from tvm.target import Target

    passes = relax.transform
    before = tvm_transform.Sequential(
        [
            passes.DecomposeOpsForInference(),
            passes.CanonicalizeBindings(),
        ]
    )
    after = tvm_transform.Sequential(
        [
            passes.CanonicalizeBindings(),
            passes.DeadCodeElimination(),
            passes.LegalizeOps(dict(legalizations(machine, choose))),
            passes.AnnotateTIROpPattern(),
            passes.FuseOps(),
            passes.FuseTIR(),
            passes.DeadCodeElimination(),
        ]
    )
    with Target(machine.target()):
        module = raise_calls(fold(before(module), keep=frozenset({"relax.dequantize"})))
        module = after(channels_last(fold(integer_arithmetic(wide_sums(module), machine))))
        rules: dict[str, str] = {}
        for variable, function in module.functions_items():
            if not isinstance(function, tirx.PrimFunc):
                continue
            try:
                arranged, rule = schedules.schedule(function, machine)
            except Exception as error:  # the schedules' own errors have no common base
                rule = f"{DEFAULT}: {_first_line(error)}"
                _LOG.info("TVM's own loops stay in the function %s: %s", variable.name_hint, _first_line(error))
            else:
                module.update_func(variable, arranged.with_attrs(dict(function.attrs) if function.attrs else {}))
            rules[str(variable.name_hint)] = rule
    return Lowered(module, dict(sorted(rules.items())))


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[-1][:200] if text else type(error).__name__
