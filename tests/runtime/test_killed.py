"""Installing and going back, killed at every system call in turn: the old version or the new one is in use, whole.

strace counts the calls of a whole run and kills the process at one of them; the next run finishes the work. The golden
vectors are not run here, so that a run is short: they run in a process of their own, whose death is tested elsewhere.

A cut of the power is simulated: a library before libc notes at each fsync what is on the disk from then on, and after
the kill everything else is taken away, once the bytes that were not flushed, once the names too (``power_cut.py``).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from power_cut import STATES, Disk, unsynced_library
from small_bundles import small_bundle

from edgepack.bundle.archive import open_bundle
from edgepack.registry.reference import Folder
from edgepack.registry.transfer import push
from edgepack.runtime.install import install
from edgepack.runtime.root import RootStatus, status

STRACE = shutil.which("strace")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(STRACE is None, reason="strace is not installed"),
]

PULL = """
import sys
from pathlib import Path
from edgepack.registry.reference import Folder
from edgepack.registry.transfer import pull

pull(Folder(Path(sys.argv[1])), Path(sys.argv[2]) / "small.edgepack")
"""
DRIVER = """
import sys
from pathlib import Path
from edgepack.base import documents
from edgepack.execution import child
from edgepack.runtime import install, prove
from edgepack.runtime.root import read_record

verb, root, bundle = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
known = read_record(next((root.with_name("saved") / "versions").iterdir()))
child.call = lambda *_, **__: prove.Proof(known.engine, known.chosen, known.passed_over, known.verification)
prove.host_facts = lambda: known.host
install.install(bundle, root) if verb == "install" else install.rollback(root)
"""
SHARES = pytest.mark.parametrize(
    "share",
    [40, pytest.param(1, marks=[pytest.mark.long, pytest.mark.own, pytest.mark.timeout(7200)])],
    ids=["some", "every"],
)
_CALL = re.compile(r"^(\w+)\((.*)")


def run(folder: Path, *words: object, strace: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    command = [*((STRACE, *strace) if strace else ()), sys.executable, "-X", "frozen_modules=on", folder / "driver.py"]
    return subprocess.run(
        [str(word) for word in (*command, *words)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip


def kill_at(name: str, number: int) -> tuple[str, ...]:
    """Return strace's options that kill at the given call of its kind."""
    return ("-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:signal=SIGKILL:when={number}")


def calls(folder: Path, root: Path, *words: object, disk: Disk | None = None) -> list[tuple[str, int]]:
    """Return the system calls of a whole run since it first named the root, each with its number among its like."""
    log = folder / "strace.log"
    watched = disk.watched() if disk is not None else ()
    done = run(folder, *words, strace=(*watched, "-s", "300", "-o", str(log)))
    assert done.returncode == 0, done.stderr
    seen: dict[str, int] = {}
    found, begun = [], False
    for line in log.read_text(errors="replace").splitlines():
        if match := _CALL.match(line):
            name, arguments = match.groups()
            seen[name] = seen.get(name, 0) + 1
            begun = begun or (name not in ("execve", "readlink") and f'"{root}' in arguments)
            if begun and name not in ("exit_group", "brk", "mmap", "munmap", "futex", "getrandom", "rt_sigaction"):
                found.append((name, seen[name]))
    return found


def ready(folder: Path, verb: str) -> tuple[Path, Path, Path, str, str]:
    """Return an installation, a copy of it, the second bundle, and the versions in use before and after the verb."""
    root, saved = folder / "root", folder / "saved"
    (folder / "driver.py").write_text(DRIVER)
    install(small_bundle(folder / "1", 2, version="1"), root)
    second = small_bundle(folder / "2", 3, version="2")
    if verb == "rollback":
        install(second, root)
    shutil.copytree(root, saved, symlinks=True)
    before, after = ("2", "1") if verb == "rollback" else ("1", "2")
    return root, saved, second, before, after


def is_whole(root: Path) -> RootStatus:
    found = status(root)
    assert found.problem is None
    assert found.current is not None
    open_bundle(root / "current" / found.current.file)
    return found


@pytest.mark.parametrize("verb", ["install", "rollback"])
@SHARES
def test_a_kill_at_any_system_call_leaves_a_whole_version(tmp_path: Path, verb: str, share: int) -> None:
    root, saved, second, before, after = ready(tmp_path, verb)
    points = calls(tmp_path, root, verb, root, second)
    assert is_whole(root).current.version == after  # type: ignore[union-attr]
    versions, missed = [], 0
    for name, number in points[::share]:
        shutil.rmtree(root)
        shutil.copytree(saved, root, symlinks=True)
        done = run(tmp_path, verb, root, second, strace=kill_at(name, number))
        if done.returncode == 0:  # a run may have a call less than the one that was counted
            missed += 1
            assert is_whole(root).current.version == after  # type: ignore[union-attr]
            continue
        found = is_whole(root)
        versions.append(found.current.version)  # type: ignore[union-attr]
        for path in root.glob(".*.tmp"):  # what is younger than a minute might be another process's
            os.utime(path, (0, 0))
        if verb == "install" or versions[-1] == before:  # a rollback that was done is not done again
            again = run(tmp_path, verb, root, second)
            assert again.returncode == 0, f"{name} {number}: {again.stderr}"
            assert is_whole(root).current.version == after  # type: ignore[union-attr]
        left = [path.name for path in (*root.iterdir(), *(root / "versions").iterdir()) if path.name.startswith(".")]
        assert set(left) <= {".edgepack", ".lock"} or verb == "rollback", f"{name} {number}: {left}"
    print(f"{verb}: killed at {len(versions)} of {len(points)} calls, {versions.count(after)} after the switch")
    assert missed <= len(points) // 50
    assert set(versions) <= {before, after}
    assert before in versions


@SHARES
def test_a_pull_killed_at_any_system_call_leaves_nothing_half(tmp_path: Path, share: int) -> None:
    """Under the final name is nothing or the whole bundle, and the next pull gives it."""
    good = small_bundle(tmp_path / "good", 2)
    push(good, Folder(tmp_path / "usb"))
    (tmp_path / "driver.py").write_text(PULL)
    out = tmp_path / "out"
    out.mkdir()
    points = calls(tmp_path, out, tmp_path / "usb", out)
    whole = missed = 0
    for name, number in points[::share]:
        shutil.rmtree(out)
        out.mkdir()
        missed += run(tmp_path, tmp_path / "usb", out, strace=kill_at(name, number)).returncode == 0
        path = out / good.name
        if path.exists():
            whole += 1
            assert path.read_bytes() == good.read_bytes()
        else:
            assert run(tmp_path, tmp_path / "usb", out).returncode == 0
            assert path.read_bytes() == good.read_bytes()
    print(f"pull: killed at {len(points[::share]) - missed} of {len(points)} calls, {whole} after it had its name")
    assert missed <= len(points) // 50


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unsynced_library(tmp_path_factory.mktemp("unsynced"))


@pytest.mark.parametrize("verb", ["install", "rollback"])
@SHARES
def test_a_power_cut_at_any_system_call_leaves_a_whole_version(
    tmp_path: Path, library: Path, verb: str, share: int
) -> None:
    root, saved, second, before, after = ready(tmp_path, verb)
    points = calls(tmp_path, root, verb, root, second, disk=Disk(library, root, tmp_path / "disk"))
    versions, lost, missed = [], 0, 0
    for name, number in points[::share]:
        shutil.rmtree(root)
        shutil.copytree(saved, root, symlinks=True)
        disk = Disk(library, root, tmp_path / "disk")
        done = run(tmp_path, verb, root, second, strace=(*disk.watched(), *kill_at(name, number)))
        if done.returncode == 0:
            missed += 1
            continue
        left = disk.left()
        for state in STATES:
            lost += disk.become(left, state)
            found = is_whole(root)
            versions.append(found.current.version)  # type: ignore[union-attr]
            if verb == "install" or versions[-1] == before:
                again = run(tmp_path, verb, root, second)
                assert again.returncode == 0, f"{name} {number}, {state}: {again.stderr}"
                assert is_whole(root).current.version == after  # type: ignore[union-attr]
    print(
        f"{verb}: power cut at {len(points[::share]) - missed} of {len(points)} calls, {len(versions)} disks, "
        f"{lost} without something that was written; {versions.count(after)} after the switch"
    )
    assert missed <= len(points) // 50
    assert set(versions) <= {before, after}
    assert before in versions
    assert lost or share > 1


@SHARES
def test_a_pull_and_a_power_cut_leave_nothing_half(tmp_path: Path, library: Path, share: int) -> None:
    good = small_bundle(tmp_path / "good", 2)
    push(good, Folder(tmp_path / "usb"))
    (tmp_path / "driver.py").write_text(PULL)
    out = tmp_path / "out"
    out.mkdir()
    points = calls(tmp_path, out, tmp_path / "usb", out, disk=Disk(library, out, tmp_path / "disk"))
    whole = lost = missed = 0
    for name, number in points[::share]:
        shutil.rmtree(out)
        out.mkdir()
        disk = Disk(library, out, tmp_path / "disk")
        done = run(tmp_path, tmp_path / "usb", out, strace=(*disk.watched(), *kill_at(name, number)))
        missed += done.returncode == 0
        left = disk.left()
        for state in STATES:
            lost += disk.become(left, state)
            path = out / good.name
            whole += path.exists()
            if not path.exists():
                assert run(tmp_path, tmp_path / "usb", out).returncode == 0
            assert path.read_bytes() == good.read_bytes(), f"{name} {number}, {state}"
    print(
        f"pull: power cut at {len(points[::share]) - missed} of {len(points)} calls, "
        f"{lost} disks without something that was written; {whole} after it had its name"
    )
    assert missed <= len(points) // 50
