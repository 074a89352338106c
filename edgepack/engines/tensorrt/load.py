"""Opens an engine on the device: a plan that was packed for it, one that it built before, or one that it builds now."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base import documents
from edgepack.base.files import scratch_folder, sha256_file
from edgepack.engines.common.refusals import require_files
from edgepack.engines.tensorrt import plan_cache
from edgepack.engines.tensorrt.builder import BuildFacts, build_plan
from edgepack.engines.tensorrt.device import find_device
from edgepack.engines.tensorrt.recipe import EngineRecipe, read_recipe
from edgepack.engines.tensorrt.runner import TensorRtRunner, open_runner
from edgepack.errors import ChildError, CompileError, ConfigError, IntegrityError
from edgepack.execution import child
from edgepack.specs.model import CompiledModel
from edgepack.specs.types import Progress, no_progress

if TYPE_CHECKING:
    from edgepack.engines.tensorrt.plan_cache import KeptPlan, PlanKey

PLAN = "engine.plan"
RECORD = "engine.json"
BUILD_LIMIT_S = 3600.0  # large models take tens of minutes on an Orin Nano


def open_engine(compiled: CompiledModel, progress: Progress = no_progress) -> TensorRtRunner:
    """Return the runner of a compiled model on this device, building its engine where need be.

    Raises ``ToolchainError`` without GPU or TensorRT, ``CompileError`` when TensorRT refuses the model, the build dies
    or memory is short, ``StorageError`` when the engine cannot be kept.
    """
    folder = (compiled.folder / compiled.entry).parent
    recipe = read_recipe(folder, compiled.inputs)
    key = plan_cache.plan_key(recipe, find_device(recipe.dla_core))
    if compiled.entry.endswith(".plan"):
        return _open_packed(compiled, recipe, folder, key)
    _check_files(folder, recipe)
    kept = obtain_plan(compiled, recipe, key, progress)
    runner = open_runner(kept.path, recipe, compiled)
    if runner is None and not kept.built:  # whole by its digest, but TensorRT refuses it: made by a broken build, say
        kept = obtain_plan(compiled, recipe, key, progress, damaged=kept.record.sha256)
        runner = open_runner(kept.path, recipe, compiled)
    if runner is None:
        raise CompileError(
            "TensorRT does not load the engine that it has just built", hint="see 'dmesg', and run again with --debug"
        )
    return runner


def ensure_engine(compiled: CompiledModel, progress: Progress) -> str:
    """Build the engine of ``compiled`` unless it is kept or packed; return which, and why, in one line."""
    if compiled.entry.endswith(".plan"):
        return "the engine that is packed for exactly this device"
    folder = (compiled.folder / compiled.entry).parent
    recipe = read_recipe(folder, compiled.inputs)
    _check_files(folder, recipe)
    kept = obtain_plan(compiled, recipe, plan_cache.plan_key(recipe, find_device(recipe.dla_core)), progress)
    if kept.built and kept.record.build is not None:
        return f"the engine was built here now, in {kept.record.build.seconds:.0f} s, because {kept.reason}"
    return kept.reason


def obtain_plan(
    compiled: CompiledModel, recipe: EngineRecipe, key: PlanKey, progress: Progress, damaged: str = ""
) -> KeptPlan:
    """Return the plan of ``compiled`` on this device, kept or built now in a child process."""
    place = compiled.built or plan_cache.default_folder()
    folder = (compiled.folder / compiled.entry).parent
    timing = plan_cache.timing_path(place, key.device)

    def build(out: Path) -> BuildFacts:
        return build_in_child(folder, recipe, timing, out, progress)

    return plan_cache.obtain(place, key, build, progress, damaged)


def build_in_child(folder: Path, recipe: EngineRecipe, timing: Path, out: Path, progress: Progress) -> BuildFacts:
    """Run the builder in a child process, so that what kills it kills nothing else. Raises ``CompileError``."""
    with scratch_folder("edgepack-build-") as scratch:
        log = scratch / "build.log"
        arguments = (folder.absolute(), recipe, timing, out)
        try:
            return child.call(build_plan, *arguments, limit_s=BUILD_LIMIT_S, log=log, progress=progress)
        except ChildError as error:
            words = error.log.strip().splitlines()
            last = f"; its last output: {words[-1][:300]}" if words else ""
            raise CompileError(
                f"the TensorRT build died: {error.message}{last}",
                hint="when memory ran out, stop other programs or add swap; the kernel's reason is in 'dmesg'",
            ) from error


def _open_packed(compiled: CompiledModel, recipe: EngineRecipe, folder: Path, key: PlanKey) -> TensorRtRunner:
    """Open a plan that was built on an identical device; its record must name exactly this one."""
    path = folder / Path(compiled.entry).name
    try:
        record = documents.from_json(plan_cache.PlanRecord, (folder / RECORD).read_bytes(), RECORD)
    except (OSError, ConfigError) as error:
        raise CompileError(f"the packed engine's record cannot be read: {error}") from None
    if record.key.device != key.device or record.key.onnx != key.onnx:
        raise CompileError("the packed engine was built on another device", hint="let this device build its own")
    if sha256_file(path) != record.sha256:
        raise IntegrityError("the packed engine is damaged")
    runner = open_runner(path, recipe, compiled)
    if runner is None:
        raise CompileError("TensorRT does not load the packed engine", hint="let this device build its own")
    return runner


def _check_files(folder: Path, recipe: EngineRecipe) -> None:
    for name, digest in recipe.files.items():
        require_files(folder, name)
        if sha256_file(folder / name) != digest:
            raise IntegrityError(f"{name} is not the file that the recipe was made for")
