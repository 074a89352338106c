"""Engines that this device built, kept: ``KEY.plan`` bare, as trtexec loads it, with ``KEY.json`` beside it.

The key is a digest of everything that an engine is tied to. A plan appears whole by a rename, its sidecar with the
plan's digest after it; a plan without one counts as not there. Processes that want the same engine take turns by a
lock. The timing cache, tied to device, CUDA and TensorRT, is kept beside for the next build.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgepack.base import documents
from edgepack.base.files import sha256_file, sha256_json, storage_errors, write_text
from edgepack.engines.tensorrt.builder import BuildFacts
from edgepack.engines.tensorrt.device import Device
from edgepack.engines.tensorrt.recipe import EngineRecipe
from edgepack.errors import ConfigError, StorageError
from edgepack.specs.types import Progress

FOLDER_VARIABLE = "EDGEPACK_PLANS"


@dataclass(frozen=True)
class PlanKey:
    """What an engine belongs to: the model, the recipe and the device."""

    onnx: str
    recipe: str
    device: Device

    @property
    def name(self) -> str:
        """Return the digest that the files are named by."""
        return sha256_json(documents.encode(self))[:32]


@dataclass(frozen=True)
class PlanRecord:
    """The sidecar of a plan."""

    key: PlanKey
    sha256: str
    size_bytes: int
    build: BuildFacts | None


@dataclass(frozen=True)
class KeptPlan:
    """A plan on disk; ``reason`` says whether it was kept or why it was built just now."""

    path: Path
    record: PlanRecord
    built: bool
    reason: str


def default_folder() -> Path:
    """Return ``$EDGEPACK_PLANS``, else ``edgepack/plans`` in the user's cache folder."""
    if folder := os.environ.get(FOLDER_VARIABLE):
        return Path(folder).absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    return ((Path(cache) if cache else Path.home() / ".cache") / "edgepack" / "plans").absolute()


def plan_key(recipe: EngineRecipe, device: Device) -> PlanKey:
    """Return the key of the engine that ``recipe`` makes on ``device``."""
    return PlanKey(recipe.onnx_sha256, recipe.sha256, device)


def timing_path(folder: Path, device: Device) -> Path:
    """Return where the timing cache of this device, CUDA and TensorRT is."""
    tied = [device.tensorrt, device.cuda, device.driver, device.sm, device.device, device.l4t, device.power_mode]
    return folder / f"{sha256_json(tied)[:32]}.timing"


def find(folder: Path, key: PlanKey) -> KeptPlan | None:
    """Return the kept plan of ``key``; None when there is none that is whole."""
    plan = folder / f"{key.name}.plan"
    record, reason = _kept(plan, key)
    return None if record is None else KeptPlan(plan, record, built=False, reason=reason)


def obtain(
    folder: Path, key: PlanKey, build: Callable[[Path], BuildFacts], progress: Progress, damaged: str = ""
) -> KeptPlan:
    """Return the kept plan of ``key``, or what ``build`` writes to the path that it is given.

    ``damaged`` is the digest of a plan that did not load: it is built again unless another process did so meanwhile.
    Raises ``StorageError`` when the folder cannot be written or other users may write there, and what ``build`` raises.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _refuse_foreign(folder)
        plan = folder / f"{key.name}.plan"
        with _turn(folder / f"{key.name}.lock", progress):
            found, reason = _kept(plan, key)
            if found is not None and found.sha256 != damaged:
                return KeptPlan(plan, found, built=False, reason=reason)
            if found is not None:
                reason = "the kept engine did not load any more"
            _remove_left_overs(folder, key)
            facts = build(plan)
            record = PlanRecord(key, sha256_file(plan), plan.stat().st_size, facts)
            write_text(_sidecar(plan), documents.to_json(record))
            return KeptPlan(plan, record, built=True, reason=reason)


def _kept(plan: Path, key: PlanKey) -> tuple[PlanRecord | None, str]:
    """Return the record of a plan that is whole, or the reason why there is none."""
    try:
        text = _sidecar(plan).read_bytes()
        record = documents.from_json(PlanRecord, text, _sidecar(plan).name)
        if record.key != key:
            return None, "the kept engine is of another model or device"
        if plan.stat().st_size != record.size_bytes or sha256_file(plan) != record.sha256:
            return None, "the kept engine is damaged"
    except (FileNotFoundError, NotADirectoryError):
        return None, "there is no engine for this model on this device yet"
    except (OSError, ConfigError) as error:
        return None, f"the kept engine cannot be read: {error}"
    return record, "the engine was built here before"


def _sidecar(plan: Path) -> Path:
    return plan.with_suffix(".json")


def _remove_left_overs(folder: Path, key: PlanKey) -> None:
    """Remove what a killed build left; the lock is held, so that nobody is writing there."""
    for left in folder.glob(f".{key.name}.*.tmp"):
        left.unlink(missing_ok=True)


def _refuse_foreign(folder: Path) -> None:
    """An engine is code for the GPU: one in a folder that others may write is not to be run."""
    status = folder.stat()
    if status.st_uid not in (os.geteuid(), 0) or status.st_mode & 0o022:
        raise StorageError(
            f"{folder} is writable by other users", hint=f"chmod go-w it, or name another in {FOLDER_VARIABLE}"
        )


@contextmanager
def _turn(path: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock of one key; a process that has to wait says so. The kernel frees the lock of a killed process."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("another process builds this engine", 0, 0)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a file system without locks: then both build, and the last rename stays
            pass
        yield
