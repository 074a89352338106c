"""Builds an engine from the ONNX file and the recipe, on the device; one path for all versions (``api_versions.py``).

Run in a child process (``load.py``): the builder takes most of a small board's memory, and where the kernel kills
it, the caller gets an error instead of being killed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.base.files import atomic_write, storage_errors
from edgepack.device.host import load_facts
from edgepack.engines.tensorrt.api_versions import Surface, surface_of
from edgepack.engines.tensorrt.cuda import load_cuda
from edgepack.engines.tensorrt.device import import_tensorrt
from edgepack.engines.tensorrt.recipe import EngineRecipe, check_version
from edgepack.errors import CompileError
from edgepack.specs.types import Progress, no_progress

_SMALLEST_WORKSPACE = 16 << 20
_MOST_MESSAGES = 5


@dataclass(frozen=True)
class BuildFacts:
    """What a build took: ``workspace_bytes`` is the limit that it was given, ``messages`` the engine's warnings."""

    seconds: float
    workspace_bytes: int
    available_bytes: int
    timing_reused: bool
    messages: tuple[str, ...]


def build_plan(
    folder: Path, recipe: EngineRecipe, timing: Path, out: Path, progress: Progress = no_progress
) -> BuildFacts:
    """Build the engine of ``folder``'s ONNX file and write the bare plan to ``out``, whole or not at all.

    ``timing`` is the timing cache: read where it is there, and written again. Raises ``CompileError`` when TensorRT
    refuses the model, or memory is short; ``StorageError`` on a full disk.
    """
    trt = import_tensorrt()
    version = str(trt.__version__)
    check_version(recipe, version)
    surface = surface_of(version)
    workspace, available = choose_workspace(recipe)
    logger = make_logger(trt)
    begun = time.perf_counter()
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt, surface))
    parser = trt.OnnxParser(network, logger)  # kept: the network's weights are the parser's
    if not parser.parse_from_file(str(folder / recipe.onnx)):
        raise CompileError(f"TensorRT {version} cannot parse the model: {_parser_words(parser, surface, logger)}")
    config = builder.create_builder_config()
    _configure(trt, builder, config, recipe, version, workspace)
    reused = _set_timing(config, timing)
    monitor = make_monitor(trt, progress) if surface.progress else None
    if monitor is not None:
        config.progress_monitor = monitor
    else:
        progress(f"TensorRT {version} builds the engine; it does not say how far it is", 0, 0)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise CompileError(
            f"TensorRT {version} did not build the engine: {logger.words()}",
            hint="if it ran out of memory, stop other programs or add swap; otherwise build the bundle in another "
            "precision",
        )
    with atomic_write(out) as file:
        file.write(memoryview(plan))
    _keep_timing(config, timing)
    return BuildFacts(
        round(time.perf_counter() - begun, 3), workspace, available, reused, tuple(logger.messages[-_MOST_MESSAGES:])
    )


def choose_workspace(recipe: EngineRecipe) -> tuple[int, int]:
    """Return the workspace in bytes and the memory that is available now.

    The recipe's limit, but at most half of what is left beside the build itself. A Jetson's GPU shares the system's
    memory, so the smaller of both counts. Raises ``CompileError`` when the build does not fit, because the kernel would
    kill it after minutes.
    """
    free, _ = load_cuda().memory()
    system = load_facts().get("memory_available_bytes")
    swap = load_facts().get("swap_free_bytes", 0.0)
    available = min(free, int(system + swap)) if system is not None else free
    spare = available - recipe.memory_bytes
    if spare < _SMALLEST_WORKSPACE:
        raise CompileError(
            f"the build needs at least {(recipe.memory_bytes + _SMALLEST_WORKSPACE) / 1e9:.2f} GB and "
            f"{available / 1e9:.2f} GB are available",
            hint="stop other programs (the desktop takes about 1 GB: sudo systemctl isolate multi-user.target) or add "
            "swap, then install again",
        )
    return max(_SMALLEST_WORKSPACE, min(recipe.workspace_bytes, spare // 2)), available


def _network_flags(trt: Any, surface: Surface) -> int:
    flags = 0
    for name in surface.network_flags:
        flags |= 1 << int(getattr(trt.NetworkDefinitionCreationFlag, name))
    return flags


def _configure(trt: Any, builder: Any, config: Any, recipe: EngineRecipe, version: str, workspace: int) -> None:
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    for name in recipe.builder_flags.get(version.partition(".")[0], ()):
        config.set_flag(getattr(trt.BuilderFlag, name))
    if not recipe.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if recipe.dla_core is not None:
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = recipe.dla_core
        if recipe.gpu_fallback:
            config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    profile = builder.create_optimization_profile()
    for shapes in recipe.inputs:
        profile.set_shape(shapes.name, shapes.minimum, shapes.optimum, shapes.maximum)
    if not recipe.is_static:
        config.add_optimization_profile(profile)


def _set_timing(config: Any, timing: Path) -> bool:
    """Give the builder the timing cache; one that it refuses counts as empty."""
    try:
        stored = timing.read_bytes()
    except OSError:
        stored = b""
    for content in (stored, b""):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, False):
            return bool(content)
    return False


def _keep_timing(config: Any, timing: Path) -> None:
    cache = config.get_timing_cache()
    if cache is None:
        return
    content = cache.serialize()
    if content is not None:
        with storage_errors(timing), atomic_write(timing) as file:
            file.write(memoryview(content))


def _parser_words(parser: Any, surface: Surface, logger: Any) -> str:
    words = []
    for index in range(min(parser.num_errors, _MOST_MESSAGES)):
        error = parser.get_error(index)
        node = f" at node {error.node_name()}" if surface.error_nodes and error.node_name() else ""
        words.append(f"{' '.join(str(error.desc()).split())}{node}")
    return "; ".join(words)[:1000] or logger.words()


def make_logger(trt: Any) -> Any:
    """Return a logger that keeps errors and warnings; its class can only be made when the engine is imported."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.messages: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            kinds = trt.ILogger.Severity
            if severity in (kinds.INTERNAL_ERROR, kinds.ERROR, kinds.WARNING):
                text = " ".join(message.split())[:400]
                self.messages.append(text)
                if severity != kinds.WARNING:
                    self.errors.append(text)

        def words(self) -> str:
            return "; ".join(self.errors[-3:]) or "it gave no reason"

    return Logger()


def make_monitor(trt: Any, progress: Progress) -> Any:
    """Return TensorRT's progress monitor that reports the phases of the outermost level."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if not parent_phase:
                self.steps[phase_name] = num_steps
                progress(f"TensorRT: {phase_name}", 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.steps:
                progress(f"TensorRT: {phase_name}", min(step + 1, self.steps[phase_name]), self.steps[phase_name])
            return True  # False would end the build

        def phase_finish(self, phase_name: str) -> None:
            if (steps := self.steps.pop(phase_name, None)) is not None:
                progress(f"TensorRT: {phase_name}", steps, steps)

    return Monitor()
