"""What a worker of a cluster is, what of its machine a stage on it has, and how it runs the stage that it is handed."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack import errors
from edgepack.base import documents
from edgepack.calibrate.checkpoint import CHECKPOINT
from edgepack.device.host import host_facts
from edgepack.execution import child, modules
from edgepack.execution.turns import alone_in, machine_id, turn

GPU_RESOURCE = "edgepack-gpu"


@dataclass(frozen=True)
class WorkerFacts:
    """What must be the same on a worker as here, by its name; ``machine`` tells where it runs, and what that has.

    ``sees``: it sees the folder of the store; ``lacks`` is the folder that the build runs in, where it has none such.
    ``gpus`` are the numbers, as CUDA counts, of the GPUs that processes of the worker's environment may use.
    """

    tools: Mapping[str, str]
    processor: tuple[str, ...]
    machine: str
    sees: bool
    memory_bytes: int = 0
    gpus: tuple[str, ...] = ()
    lacks: str = ""

    def differs(self, here: WorkerFacts) -> str | None:
        """Return in words why a worker must not be given stages; None where it may."""
        if not self.sees:
            return "it does not see the folder of the store"
        if self.lacks:
            return f"it does not see {self.lacks}, the folder that the build runs in"
        for name in sorted({*self.tools, *here.tools}):
            theirs, ours = self.tools.get(name), here.tools.get(name)
            if theirs != ours:
                return f"it has {name} {theirs or 'not at all'}, this build {ours or 'not at all'}"
        return None if self.processor == here.processor else f"its processor is another one ({self.processor[0]})"


def worker_facts(root: str, probe: str, text: str, folder: str) -> WorkerFacts:
    """Return the facts of this process; ``root`` is the module whose code and packages count, ``probe`` holds ``text``.

    A build that runs in ``folder`` calls it on every worker.
    """
    host = host_facts()
    try:
        sees = Path(probe).read_text(encoding="ascii") == text
    except OSError:
        sees = False
    tools = {
        "edgepack's code": modules.code_digest(root)[:12],
        "python": platform.python_version(),
        **modules.packages(root),
        **modules.extensions(),
    }
    return WorkerFacts(
        tools,
        (host.cpu, host.arch, *host.isa),
        machine_id(),
        sees,
        host.memory_bytes,
        _gpus(named=host.gpu is not None),
        "" if Path(folder).is_dir() else folder,
    )


def _gpus(*, named: bool, root: Path = Path("/proc/driver/nvidia/gpus")) -> tuple[str, ...]:
    """Return the numbers of this machine's GPUs for CUDA; those that a variable allows where it is set."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return tuple(number.strip() for number in allowed.split(",") if number.strip() not in ("", "-1"))
    count = len(list(root.glob("*"))) or int(named)
    return tuple(str(number) for number in range(count))


@dataclass(frozen=True)
class Share:
    """What one stage on a worker has of its machine: the memory in bytes that is its own, and the worker's GPU."""

    memory_bytes: int
    gpu: str | None = None


def shares_of(
    workers: Mapping[str, WorkerFacts], threads: Mapping[str, int], earlier: Mapping[str, Share]
) -> dict[str, Share]:
    """Return the share of each worker, by its address: memory in equal parts a thread, GPUs to the first, one each.

    A worker keeps the GPU that it had in ``earlier``: stages may be waiting for it.
    """
    shares = {}
    for machine in sorted({facts.machine for facts in workers.values()}):
        there = sorted(address for address, facts in workers.items() if facts.machine == machine)
        had = {address: earlier[address].gpu for address in there if address in earlier}
        count = sum(threads.get(address, 1) for address in there)
        for address in there:
            facts = workers[address]
            if address not in had:
                had[address] = next((gpu for gpu in facts.gpus if gpu not in had.values()), None)
            shares[address] = Share(facts.memory_bytes // max(count, 1), had[address])
    return shares


async def take_gpu(gpus: Mapping[str, str | None], dask_worker: Any) -> None:
    """Tell dask whether this worker has a GPU, and its stages which one; ``gpus`` are by the worker's address."""
    gpu = gpus.get(dask_worker.address)
    await dask_worker.set_resources(**{GPU_RESOURCE: float(gpu is not None)})
    dask_worker.edgepack_gpu = gpu


def run_task(task: dict[str, Any]) -> dict[str, Any]:
    """Run a stage in a child of this worker, when it is its turn on this machine; return what it answered, as JSON.

    A stage that was handed out again because a connection was lost may still run where it was, into the same folder: it
    is waited for, before the turn is, so that who waits holds nobody up.
    """
    module, _, name = task["function"].partition(":")
    function = child.find_function(module, name)
    out, turns = Path(task["out"]), Path(task["turns"])
    said: list[str] = []
    try:
        with alone_in(out, turns) as held, turn(turns, alone=task["alone"]):
            _clean(out)
            result = child.call(
                function,
                *child.decoded(function, task["arguments"]),
                limit_s=task["limit_s"],
                log=Path(task["log"]),
                track=Path(task["track"]) if task["track"] is not None else None,
                said=said.append,
                environment=_own_gpu() if task["gpu"] else None,
                folder=Path(task["folder"]),
                forked=task["forked"] and not task["gpu"],  # what forks would begin anew for a GPU, and for none again
                held=held,  # this worker may be killed a moment before its stage is
            )
    except errors.EdgepackError as error:
        kept = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
        return {
            "error": kept,
            "log": getattr(error, "log", ""),
            "said": said,
            "worker": str(getattr(_own_worker(), "address", "")),
        }
    return {"result": documents.encode(result), "said": said}


def _clean(out: Path) -> None:
    """Remove what a worker that died left in the folder of a stage, but for where it goes on from."""
    for left in out.iterdir() if out.is_dir() else ():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        elif not left.name.startswith(CHECKPOINT):
            left.unlink()


def _own_gpu() -> dict[str, str]:
    """Return the environment in which a stage sees the GPU of this worker and no other one."""
    number = getattr(_own_worker(), "edgepack_gpu", None)
    return {"CUDA_VISIBLE_DEVICES": number} if number else {}


def _own_worker() -> Any:
    """Return dask's worker that runs this task; None where it is not a worker."""
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None
