"""Stages on other processes and machines: handed to dask.distributed, which schedules them, as tasks.

The key of a stage, and whether its output is there, are settled where the build runs; a worker runs the stage in a
child process as the build would, and writes into the folder in the store that it is given. So workers and the build see
the same folders: one machine, or a file system that they share. What a worker computes must not depend on which one it
is: one with another edgepack, Python or package, or on another processor, is named and given nothing.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from edgepack import errors
from edgepack.base import documents
from edgepack.base.stage import Stage
from edgepack.errors import ChildError, ToolchainError
from edgepack.execution import child
from edgepack.pipeline.needs import Needs, needs_of
from edgepack.pipeline.worker import GPU_RESOURCE, Share, WorkerFacts, run_task, shares_of, take_gpu, worker_facts

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_LOOK_S = 5.0  # how often it is asked whether workers that a task may run on are left
_LOOK_AFTER_S = 3.0  # how often workers of this machine are looked after
_WAIT_S = 60.0  # for a first worker, and for one again after all have died
_ANSWER_S = 60.0  # for what the scheduler or a worker is asked besides stages: one that is stopped says nothing
_CONNECT_S = 30.0  # for a connection to the scheduler that was lost to come again
_ASK_AGAIN_S = 60.0  # when a worker that did not say what it is is asked again
DEATHS = 8  # times that a task was lost, mostly with its worker, after which it is at fault


class Cluster:
    """Workers that stages are handed to. ``lanes`` is how many rows are worked on at once.

    ``gone`` says that the scheduler is: what failed since then did not fail by itself.
    """

    gone = False

    def __init__(
        self,
        client: Any,
        turns: Path,
        root: str,
        note: Callable[[str], None],
        refill: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take a client of dask.distributed, the folder of the turns, and the module whose code must be the same.

        ``refill`` is called now and then, and says whether it has started workers again.
        """
        self._looked = time.monotonic()
        self._refill = refill
        self._client, self._turns, self._note = client, turns, note
        self._lock = threading.Lock()
        self._good: dict[str, WorkerFacts] = {}
        self._shares: dict[str, Share] = {}
        self._full: set[str] = set()
        self._silent: dict[str, float] = {}
        self._refused: set[str] = set()
        self._had_gpu: set[str] = set()  # machines of workers with one
        self._said: set[str] = set()
        turns.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        turns.mkdir(exist_ok=True, mode=0o755)
        text = secrets.token_hex(16)
        self._probe = turns / f"probe-{secrets.token_hex(4)}.log"
        self._probe.write_text(text, encoding="ascii")
        self._asked = (root, str(self._probe), text, str(Path.cwd()))
        self._here = worker_facts(*self._asked)
        self.workers()

    def close(self) -> None:
        """Remove what was made to find out what workers see."""
        self._probe.unlink(missing_ok=True)

    @property
    def lanes(self) -> int:
        """The number of stages that run at once, and one for what is done between them."""
        there = self._there()
        return max(1, sum(there[address]["nthreads"] if address in there else 1 for address in self._good)) + 1

    def workers(self) -> dict[str, WorkerFacts]:
        """Return the workers that may be given stages now, new ones among them; wait where there is none.

        Raises ``ToolchainError`` that names those that were refused where no other one comes.
        """
        deadline = time.monotonic() + _WAIT_S
        with self._lock:
            while True:
                self._ask_new()
                if self._look_after():
                    deadline = time.monotonic() + _WAIT_S
                if self._good:
                    return dict(self._good)
                if self._refused or time.monotonic() > deadline:
                    raise ToolchainError(
                        "no worker can be given a stage: " + ("; ".join(sorted(self._refused)) or "none is there"),
                        hint="start workers with the same edgepack and packages, "
                        "which see this folder and the one of --store",
                    )
                time.sleep(0.2)

    def _look_after(self) -> bool:
        """Start workers again that were given up, when it is time to look; say whether there were any."""
        if time.monotonic() - self._looked < _LOOK_AFTER_S:
            return False
        self._looked = time.monotonic()
        return self._refill()

    def _need_scheduler(self) -> None:
        """Let a connection that was lost come again. Raise ``ToolchainError`` when the scheduler is gone."""
        deadline = time.monotonic() + _CONNECT_S
        while self._client.status == "connecting" and time.monotonic() < deadline:
            time.sleep(0.1)
        if self._client.status != "running":
            raise self._lost()

    def _lost(self) -> ToolchainError:
        self.gone = True
        return gone()

    def _answered(self, question: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Return the answer to a question of dask's; ask again where the connection was lost meanwhile.

        Raises ``ToolchainError`` when the scheduler is gone, or does not answer.
        """
        for _ in range(DEATHS):
            self._need_scheduler()
            try:
                return self._client.sync(question, *arguments, callback_timeout=_ANSWER_S, **named)
            except TimeoutError:  # which is an OSError
                break
            except OSError:
                time.sleep(0.2)
            except Exception:  # as of a client that is closed meanwhile
                self._need_scheduler()
                raise
        raise self._lost()

    def _there(self) -> dict[str, dict[str, Any]]:
        """Return what the scheduler knows of its workers, by their addresses.

        (The client's own ``scheduler_info`` may answer with what it looked up itself meanwhile, which is not a worker.)
        """
        answer = self._answered(lambda: self._client.scheduler.identity(n_workers=-1))
        found: dict[str, dict[str, Any]] = answer["workers"]
        return found

    def _ask_new(self) -> None:
        """Ask workers that were not there before what they are, and forget those that are gone."""
        there = self._there()
        self._good = {address: facts for address, facts in self._good.items() if address in there}
        asked = self._silent = {address: since for address, since in self._silent.items() if address in there}
        now = time.monotonic()
        new = [a for a in there if a not in self._good and now - asked.get(a, -_ASK_AGAIN_S) >= _ASK_AGAIN_S]
        found = self._answered(self._facts_of, new) if new else {}
        for address, facts in found.items():
            if isinstance(facts, OSError):  # it went away while it was asked, or is stopped
                self._silent[address] = time.monotonic()
                if isinstance(facts, TimeoutError):
                    self._note(f"worker {there[address]['name']} does not answer; it is given nothing until it does")
                continue
            why = facts.differs(self._here) if isinstance(facts, WorkerFacts) else f"it has no edgepack ({facts})"
            if why is None:
                self._good[address] = facts
            elif (said := f"worker {there[address]['name']}: {why}") not in self._refused:
                self._refused.add(said)
                self._note(f"{said}; it is given nothing")
        self._share(there)

    async def _facts_of(self, addresses: list[str]) -> dict[str, Any]:
        """Return the facts of each worker, or what came in their place: one that is silent keeps no other one."""

        async def one(address: str) -> Any:
            question = self._client.run(worker_facts, *self._asked, workers=[address], on_error="return")
            try:
                return (await asyncio.wait_for(question, _ANSWER_S / 2))[address]
            except Exception as error:
                return error

        return dict(zip(addresses, await asyncio.gather(*map(one, addresses)), strict=True))

    def _share(self, there: Mapping[str, Mapping[str, Any]]) -> None:
        """Divide each machine among its workers anew; one that could not be told its GPU is told the next time."""
        lost = [a for a, share in self._shares.items() if share.gpu and a in there and not _has_gpu(there[a])]
        if not lost and self._shares.keys() == self._good.keys():
            return
        threads = {address: int(info["nthreads"]) for address, info in there.items()}
        shares = shares_of(self._good, threads, self._shares)
        untold = {a: share.gpu for a, share in shares.items() if a in lost or a not in self._shares}
        told = self._answered(self._client.run, take_gpu, untold, workers=list(untold), on_error="ignore")
        self._shares = {a: share for a, share in shares.items() if a in told or a not in untold}
        self._had_gpu |= {self._good[a].machine for a, share in self._shares.items() if share.gpu is not None}

    def call(
        self,
        known: Stage,
        function: Callable[..., T],
        *arguments: Any,
        limit_s: float,
        log: Path,
        track: Path | None,
        said: Callable[[str], None],
        forked: bool,
    ) -> T:
        """Return ``function(*arguments)`` of a stage, run by a worker; what is lost with a worker is run by another.

        A stage that measures time runs on this machine, while no other stage does. Raises what ``child.call`` raises.
        """
        task = {
            "function": f"{function.__module__}:{function.__qualname__}",
            "arguments": [documents.encode(argument) for argument in arguments],
            "limit_s": limit_s,
            "log": str(log.absolute()),
            "track": str(track) if track is not None else None,
            "turns": str(self._turns),
            "alone": known.host == "speed",
            "forked": forked,
            "gpu": False,
            "out": str(arguments[-1]),
            "folder": str(Path.cwd()),
        }
        answer = self._answer(task, known, needs_of(arguments))
        for line in answer["said"]:
            said(line)
        if "error" in answer:
            raise child.rebuilt(answer["error"], answer["log"])
        found: T = child.decode_result(function, answer["result"])
        return found

    def _answer(self, task: dict[str, Any], known: Stage, needs: Needs) -> dict[str, Any]:
        answer: dict[str, Any] | None = None
        for _ in range(DEATHS):
            allowed = self._allowed(known, needs)
            if not allowed and needs.gpu:
                return self._run_on_a_gpu_here(task, known)
            if not allowed:  # it needs this machine, on which no worker runs
                return run_task(task)
            answer = self._ask(self._fitted(task, allowed, needs), allowed)
            if answer is not None and not self._is_full(answer):
                return answer
            _LOG.info("%s is handed out again", known.name)
        if answer is not None:
            return answer
        raise ChildError(
            f"{known.name}: {DEATHS} workers died while they ran it, or lost it",
            log="",
            hint="see the logs of the workers; one that runs out of memory is ended",
        )

    def _run_on_a_gpu_here(self, task: dict[str, Any], known: Stage) -> dict[str, Any]:
        """Run a stage that needs a GPU on this machine, alone, as no worker of those that it may run on has one.

        Of GPUs those of CUDA are known; an engine may use another one. But where workers had GPUs and this machine has
        none, they are waited for. Raises ``ToolchainError`` where they do not come again.
        """
        if self._lost_gpus(known):
            raise ToolchainError(
                f"{known.name} needs a GPU, and the workers that had one are gone",
                hint="start them, and run the same command again; what is done is kept",
            )
        if known.name not in self._said:
            self._said.add(known.name)
            self._note(f"{known.name} needs a GPU and no worker has one: it runs on this machine")
        return run_task({**task, "alone": True})

    def _allowed(self, known: Stage, needs: Needs) -> list[str]:
        """Return the addresses of the workers that a stage may run on; wait for a GPU that was there."""
        deadline = time.monotonic() + _WAIT_S
        while True:
            found = self._fitting(known, needs)
            if found or not needs.gpu or not self._lost_gpus(known) or time.monotonic() > deadline:
                return found
            time.sleep(0.2)

    def _lost_gpus(self, known: Stage) -> bool:
        """Say whether workers that a stage may run on had GPUs, where this machine has none."""
        machines = self._had_gpu & {self._here.machine} if known.host == "speed" else self._had_gpu
        return bool(machines) and not self._here.gpus

    def _fitting(self, known: Stage, needs: Needs) -> list[str]:
        """Return the addresses of the workers, of those that are there now, that a stage may run on."""
        workers, shares, here = self.workers(), self._shares, self._here.machine
        found = [a for a, facts in workers.items() if known.host != "speed" or facts.machine == here]
        found = [a for a in found if a not in self._full] or found
        if needs.gpu:
            found = [a for a in found if a in shares and shares[a].gpu is not None]
        return [a for a in found if a in shares and shares[a].memory_bytes >= needs.memory_bytes] or found

    def _fitted(self, task: dict[str, Any], allowed: list[str], needs: Needs) -> dict[str, Any]:
        """Return the task as it is handed out: what needs more memory than a worker's share runs alone there."""
        shares = [self._shares[address].memory_bytes for address in allowed if address in self._shares]
        fits = all(share >= needs.memory_bytes for share in shares)
        return {**task, "alone": task["alone"] or not fits, "gpu": needs.gpu}

    def _is_full(self, answer: dict[str, Any]) -> bool:
        """Say whether a stage failed on a worker whose disk is full, and another one is left to run it."""
        worker = answer.get("worker", "")
        if answer.get("error", {}).get("kind") != errors.StorageError.__name__ or not worker:
            return False
        if worker not in self._full:
            self._full.add(worker)
            self._note(f"worker at {worker}: {answer['error']['message']}; it is given nothing more")
        return bool(set(self._good) - self._full)

    def _ask(self, task: dict[str, Any], allowed: list[str]) -> dict[str, Any] | None:
        """Return the answer of a worker; None where those that were asked are gone, or dask has dropped the task.

        (By dask's own futures: of a ``concurrent.futures`` one nobody can say whether the time is over, for which an
        answer was waited, or the task has failed by its own.)
        """
        from distributed import CancelledError
        from distributed.scheduler import KilledWorker

        future = self._client.submit(
            run_task, task, pure=False, workers=allowed, allow_other_workers=False, retries=2,
            resources={GPU_RESOURCE: 1} if task["gpu"] else None,
        )  # fmt: skip
        try:
            while True:
                try:
                    failed = future.exception(timeout=_LOOK_S)
                    if failed is None:
                        answer: dict[str, Any] = future.result(timeout=_ANSWER_S)
                        return answer
                except TimeoutError:
                    if not self._may_run(task, allowed):
                        return None
                    continue
                raise failed
        except KilledWorker:
            return None
        except CancelledError as error:
            _LOG.info("dask dropped a task: %s", error)
            self._need_scheduler()  # a connection that is lost drops them all
            return None
        finally:
            future.release()

    def _may_run(self, task: Mapping[str, Any], allowed: list[str]) -> bool:
        """Say whether one of the workers that a task was handed to is still there, and has what it was chosen for."""
        there = self._there()
        return any(a in there and (not task["gpu"] or _has_gpu(there[a])) for a in allowed)


def _has_gpu(worker: Mapping[str, Any]) -> bool:
    """Say whether a worker is known to have a GPU for stages; one that was started again on its port has none."""
    return bool(worker["resources"].get(GPU_RESOURCE))


def gone() -> ToolchainError:
    """Return the error of a build whose scheduler is gone."""
    return ToolchainError(
        "the scheduler is gone", hint="start it, and run the same command again; what is done is kept"
    )
