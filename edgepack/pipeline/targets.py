"""How the files of a target are run on this host, and what its row must say when this host is not the device."""

from __future__ import annotations

import dataclasses

from edgepack.device.host import can_run, has_isa, saturates
from edgepack.engines import ENGINES
from edgepack.engines.fallback import LABEL
from edgepack.engines.targets import is_this_host
from edgepack.specs.build import NOT_HERE
from edgepack.specs.model import CompiledModel
from edgepack.specs.run import RunOptions
from edgepack.specs.target import Host, Target


def as_one_run(compiled: CompiledModel, options: RunOptions) -> tuple[CompiledModel, RunOptions]:
    """Return the same run with its device named by the model alone, so that targets that are run alike share it."""
    device = options.device or compiled.device
    return dataclasses.replace(compiled, device=device), dataclasses.replace(options, device=None)


def how_to_run(target: Target, host: Host) -> tuple[RunOptions, dict[str, str]]:
    """Return how to run a target's files on ``host``, this one, and what the row must say when it is not the device."""
    if is_this_host(target, host):
        return RunOptions(), {}
    notes = {
        "verification": f"numerics verified on host CPU ({host.cpu}); latency not measured: no such device here",
        "latency": NOT_HERE,
    }
    if target.engine.build_on == "device":
        notes["verification"] = f"{LABEL}, fp32 sums ({host.cpu}); the engine is built and verified on the device"
        return RunOptions(device="CPU", optimization="off"), notes
    if target.quantization.saturates and not saturates(host):
        notes["saturation"] = (
            "the device adds int8 products in 16 bits, this host does not; weights are chosen so that none clips"
        )
    missing = has_isa(target, host)
    if missing and target.arch == host.arch:
        notes["isa"] = f"this host lacks {', '.join(missing)}"
    if ENGINES.get(target.backend).self_contained and not can_run(target, host):
        notes["code"] = (
            "what was run here is the same graph, compiled by the same rules for this host; the machine code in the "
            "bundle is the device's and was not run"
        )
    return RunOptions(device="CPU"), notes
