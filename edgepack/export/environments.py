"""Pythons with one source framework each, made under the cache from a pinned lock; the frameworks clash in one.

An environment is a folder ``<lock>-<digest>``, the digest being of the lock, the Python version and the processor. It
counts as made when ``ready.json`` is there; what an interrupted run left is gone on with.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from select import select

from edgepack.base.files import sha256_json, storage_errors, write_text
from edgepack.base.owned import check_ours, mark
from edgepack.base.resources import package_folder
from edgepack.errors import ConfigError, ToolchainError
from edgepack.specs.source import Interpreter
from edgepack.specs.types import Progress, no_progress

VARIABLE = "EDGEPACK_ENVIRONMENTS"
_KIND = "environments of edgepack"
_READY = "ready.json"
_OWN = re.compile(r"[a-z][a-z0-9_]*-[0-9a-f]{12}(\.lock)?")
_LIMIT_S = 3600.0
_LOOK_S = 0.5
_LAST_WORDS = 40
_QUIET = ("--disable-pip-version-check", "--no-input")
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lock:
    """Pinned requirements. ``size_mb`` is what they take when installed."""

    name: str
    text: str
    size_mb: int

    @property
    def packages(self) -> tuple[str, ...]:
        """The pinned packages, by name."""
        return tuple(re.findall(r"^([A-Za-z0-9][\w.-]*)==", self.text, re.MULTILINE))

    @property
    def sha256(self) -> str:
        """What the environment depends on: the lock, the version of Python, the processor."""
        return sha256_json([self.text, platform.python_version(), sys.implementation.name, platform.machine()])


@dataclass(frozen=True)
class Environment:
    """One environment that is there; ``ready`` is False for what an interrupted run left."""

    name: str
    folder: Path
    size_bytes: int
    ready: bool


def find_lock(lock: str) -> Lock:
    """Return a lock by its name here, or by the path of a file of another package. Raises ``ConfigError``."""
    path = Path(lock) if os.sep in lock else package_folder() / "export" / "locks" / f"{lock}.txt"
    if not path.is_file():
        raise ConfigError(f"there is no lock {path}", hint="reinstall the package that reads this source")
    text = path.read_text(encoding="utf-8")
    size = re.search(r"^# size: (\d+) MB", text, re.MULTILINE)
    return Lock(path.stem, text, int(size[1]) if size else 0)


def environments_folder() -> Path:
    """Return ``$EDGEPACK_ENVIRONMENTS``, else ``edgepack/environments`` in the user's cache folder."""
    if folder := os.environ.get(VARIABLE):
        return Path(folder).absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "edgepack" / "environments"


def place_of(lock: Lock) -> Path:
    """Return the folder of a lock's environment, made or not."""
    return environments_folder() / f"{lock.name}-{lock.sha256[:12]}"


def is_made(lock: Lock) -> bool:
    """Say whether a lock's environment is ready."""
    return (place_of(lock) / _READY).is_file() and _python(place_of(lock)).exists()


def make_environment(lock: Lock, progress: Progress = no_progress) -> Interpreter:
    """Return the Python of a lock's environment, made first where it is not there.

    Raises ``ToolchainError`` when it cannot be made, ``StorageError`` on a full disk.
    """
    folder, root = place_of(lock), environments_folder()
    if not is_made(lock):
        check_ours(root, _KIND, lambda entry: bool(_OWN.fullmatch(entry.name)))
        mark(root, _KIND)
        with storage_errors(folder), _held(folder):
            if not is_made(lock):
                _make(lock, folder, progress)
    return Interpreter(str(_python(folder)), lock.sha256)


def list_environments() -> tuple[Environment, ...]:
    """Return the environments that are there, by name."""
    root = environments_folder()
    check_ours(root, _KIND, lambda entry: bool(_OWN.fullmatch(entry.name)))
    folders = sorted(p for p in root.glob("*") if p.is_dir() and _OWN.fullmatch(p.name))
    return tuple(Environment(p.name, p, _size(p), (p / _READY).is_file()) for p in folders)


def remove_environments(names: tuple[str, ...]) -> tuple[Environment, ...]:
    """Remove environments by their names, or by that of their lock, and return them. Raises ``ConfigError``."""
    found = list_environments()
    chosen = tuple(e for e in found if e.name in names or e.name.rpartition("-")[0] in names)
    for name in names:
        if not any(name in (e.name, e.name.rpartition("-")[0]) for e in chosen):
            known = ", ".join(e.name for e in found) or "there are none"
            raise ConfigError(f"there is no environment {name!r}", hint=f"one of: {known}")
    for environment in chosen:
        with storage_errors(environment.folder), _held(environment.folder):
            (environment.folder / _READY).unlink(missing_ok=True)  # first: half a folder must not look whole
            shutil.rmtree(environment.folder)
        environment.folder.with_name(environment.name + ".lock").unlink(missing_ok=True)
    return chosen


def _make(lock: Lock, folder: Path, progress: Progress) -> None:
    if not _works(_python(folder)):
        shutil.rmtree(folder, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(folder)], lock, lambda _line: None)
    pins = folder / "lock.txt"
    write_text(pins, lock.text)
    total, fetched = len(lock.packages), [0]

    def look(line: str | None) -> None:
        if line is not None and line.lstrip().startswith("Collecting "):
            fetched[0] += 1
        installed = sum(1 for _ in folder.glob("lib/python*/site-packages/*.dist-info"))
        progress(f"packages for {lock.name}", min(total, max(fetched[0] // 2, installed)), total)

    uv = shutil.which("uv")
    if uv is None or not _installed_by_uv(uv, folder, pins, lock, look):
        _run([str(_python(folder)), "-m", "pip", "install", *_QUIET, *_wheels(pins)], lock, look)
    _refuse_cuda(lock, folder)
    write_text(folder / _READY, json.dumps({"lock": lock.name, "python": platform.python_version()}))


def _refuse_cuda(lock: Lock, folder: Path) -> None:
    """Raise ``ToolchainError`` where torch came as a build for CUDA, which does not start without its libraries."""
    for said in folder.glob("lib/python*/site-packages/torch/version.py"):
        if re.search(r"^cuda\b[^=]*=\s*None\s*$", said.read_text(encoding="utf-8"), re.MULTILINE) is None:
            shutil.rmtree(folder)
            raise ToolchainError(
                f"the environment for {lock.name} got a build of torch for CUDA, and has been removed",
                hint="set PIP_EXTRA_INDEX_URL (of uv UV_EXTRA_INDEX_URL) to PyTorch's index of CPU wheels and run "
                "again; or name a Python of yours that has the framework: --python PATH",
            )


def _installed_by_uv(uv: str, folder: Path, pins: Path, lock: Lock, look: Callable[[str | None], None]) -> bool:
    """Say whether uv installed the pins: it does not read pip's configuration, which may name where they are."""
    try:
        _run([uv, "pip", "install", "--python", str(_python(folder)), *_wheels(pins)], lock, look)
    except ToolchainError as error:
        _LOG.info("uv could not, so pip is asked: %s", error.message)
        return False
    return True


def _wheels(pins: Path) -> list[str]:
    """Return what both are told: wheels only, as a source distribution runs code to be built."""
    return ["--no-deps", "--only-binary", ":all:", "-r", str(pins)]


def _run(command: list[str], lock: Lock, look: Callable[[str | None], None]) -> None:
    """Run a step of making an environment. Raises ``ToolchainError`` with its last words."""
    words: list[str] = []
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        deadline = time.monotonic() + _LIMIT_S
        for line in _lines(process, deadline):
            look(line)
            words = [*words, line.strip()][-_LAST_WORDS:] if line and line.strip() else words
        status = process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        status = -1
    finally:
        _kill(process)
    if status != 0:
        said = next((w for w in reversed(words) if "error" in w.lower()), words[-1] if words else "it said nothing")
        raise ToolchainError(
            f"the environment for {lock.name} could not be made: {said[:300]}",
            hint="it needs the network once, and what came is kept: run again to go on. Or name a Python of yours "
            "that has the framework: --python PATH",
        )


def _lines(process: subprocess.Popen[bytes], deadline: float) -> Iterator[str | None]:
    """Yield what a process prints line by line, and None now and then while it prints nothing."""
    assert process.stdout is not None
    handle, begun = process.stdout.fileno(), b""
    while time.monotonic() < deadline:
        ready, _, _ = select([handle], [], [], _LOOK_S)
        if not ready:
            yield None
            continue
        piece = os.read(handle, 1 << 16)
        if not piece:
            return
        *whole, begun = (begun + piece).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace")
    raise subprocess.TimeoutExpired(process.args, _LIMIT_S)


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Let one process at a time make or remove an environment."""
    with folder.with_name(folder.name + ".lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _works(python: Path) -> bool:
    """Say whether an interpreter and its pip are there whole."""
    if not python.exists():
        return False
    words = [str(python), "-m", "pip", "--version"]
    return subprocess.run(words, capture_output=True, check=False, timeout=60).returncode == 0


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
