"""The run options as edgepack's own engines take them, and what ``tune`` tries of each engine: one place for both.

An option that several engines have is its field in ``specs/run.py`` and its entry here. What an engine does with an
option in code of its own (other batches, arrays that are written again, cores that are counted) stays with the engine.
An engine of another package reads ``RunOptions`` itself, and its record has what ``tune`` tries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgepack.engines import RunSpace
from edgepack.specs.run import RunOptions


@dataclass(frozen=True)
class Native:
    """An engine's own ``setting`` for an option; ``values`` are its values by ours, None where they are the same.

    An option that is None is left to the engine unless ``values`` has None. ``device`` is the only one that takes it.
    ``variable``: the setting is a variable of the environment, read once in a process.
    """

    setting: str
    values: Mapping[Any, Any] | None = None
    device: str = ""
    variable: bool = False


_LEVELS = {
    "off": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "layout": "ORT_ENABLE_LAYOUT",
    "all": "ORT_ENABLE_ALL",
}

# ONNX Runtime: an entry of the session's configuration where the name has a point, else an attribute of SessionOptions.
# OpenVINO: a property of the device. TVM's variables are read when a thread makes its pool of workers.
NATIVE: dict[str, dict[str, Native]] = {
    "threads": {
        "onnxruntime": Native("intra_op_num_threads"),
        "openvino": Native("INFERENCE_NUM_THREADS", device="CPU"),
    },
    "hint": {"openvino": Native("PERFORMANCE_HINT", {"latency": "LATENCY", "throughput": "THROUGHPUT"})},
    "streams": {"openvino": Native("NUM_STREAMS")},
    "pinning": {
        "openvino": Native("ENABLE_CPU_PINNING", device="CPU"),
        "tvm": Native("TVM_BIND_THREADS", {None: 0, False: 0, True: 1}, variable=True),
    },
    "spinning": {
        "onnxruntime": Native("session.intra_op.allow_spinning", {True: "1", False: "0"}),
        # How often a waiting thread looks for work before it sleeps. TVM's own 300000 burn a core for tenths of a
        # second after every query; 2000 bridge the gaps between functions of one query.
        "tvm": Native("TVM_THREAD_POOL_SPIN_COUNT", {None: 2000, True: 300_000, False: 0}, variable=True),
    },
    "optimization": {"onnxruntime": Native("graph_optimization_level", _LEVELS)},
    "arena": {"onnxruntime": Native("enable_cpu_mem_arena")},
    # The most that oneDNN may use: all of AVX-512 but no tiles, whose fixed costs layers with few channels do not earn.
    "amx": {"openvino": Native("ONEDNN_MAX_CPU_ISA", {True: None, False: "AVX512_CORE_FP16"}, "CPU", variable=True)},
}

# What ``tune`` tries of each; what helps most often comes first.
SPACES: Mapping[str, RunSpace] = {
    # The layouts come with the optimization: "extended" leaves them out, and "layout" is without what follows.
    "onnxruntime": RunSpace(
        common=(
            ("spinning", False),
            ("reuse_outputs", True),
            ("optimization", "extended"),
            ("pinning", True),
            ("arena", False),
            ("optimization", "layout"),
            ("optimization", "basic"),
        )
    ),
    "openvino": RunSpace(
        common=(("amx", False), ("pinning", False), ("pinning", True), ("reuse_outputs", True)),
        latency=(("hint", "throughput"), ("streams", 1)),
        throughput=(("hint", "throughput"),),
    ),
}


def native_settings(engine: str, options: RunOptions, device: str = "CPU") -> Iterator[tuple[str, Any]]:
    """Yield the engine's own settings for ``options`` on one of its devices, each with its value; no variables."""
    return _settings(engine, options, device, variable=False)


def native_variables(engine: str, options: RunOptions, device: str = "CPU") -> dict[str, str]:
    """Return the variables of the environment that stand for ``options`` in an engine, with their values."""
    found = _settings(engine, options, device, variable=True)
    return {name: str(value) for name, value in found if value is not None}


def _settings(engine: str, options: RunOptions, device: str, *, variable: bool) -> Iterator[tuple[str, Any]]:
    for name, by_engine in NATIVE.items():
        native, value = by_engine.get(engine), getattr(options, name)
        if native is None or native.variable != variable or native.device not in ("", device):
            continue
        if native.values is not None and value in native.values:
            yield native.setting, native.values[value]
        elif value is not None:
            yield native.setting, value
