"""Installing, going back and pulling, killed at every system call in turn: the old version or the new one, whole.

strace counts the calls of a whole run and kills a run at one of them; the next run finishes the work. The golden
vectors are not run here, so that a run is short: they run in a process of their own, whose death is tested elsewhere.

A cut of the power is simulated: a library before libc notes at each fsync what is on the disk from then on, and after
the kill everything else is taken away, once the bytes that were not flushed, once the names too (``power_cut.py``).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from forked import STRACE, Forked
from power_cut import Disk, unsynced_library
from small_bundles import small_bundle
from trust_cases import new_key

from edgepack.bundle.archive import open_bundle
from edgepack.registry.reference import Folder
from edgepack.registry.transfer import push
from edgepack.runtime.install import install
from edgepack.runtime.root import RootStatus, status
from edgepack.trust.sign import sign

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(STRACE is None, reason="strace is not installed"),
]
SHARES = pytest.mark.parametrize(
    "share",
    [40, pytest.param(1, marks=[pytest.mark.long, pytest.mark.own, pytest.mark.timeout(7200)])],
    ids=["some", "every"],
)
VERBS = pytest.mark.parametrize("verb", ["install", "sign", "rollback"])

PULL = """
from pathlib import Path
from edgepack.registry.reference import Folder
from edgepack.registry.transfer import pull

def run(source, out):
    pull(Folder(Path(source)), Path(out) / "small.edgepack")
"""
INSTALL = """
from pathlib import Path
from edgepack.execution import child
from edgepack.runtime import install, prove
from edgepack.runtime.root import read_record

def run(verb, root, bundle):
    known = read_record(next((Path(root).with_name("saved") / "versions").iterdir()))
    child.call = lambda *_, **__: prove.Proof(known.engine, known.chosen, known.passed_over, known.verification)
    prove.host_facts = lambda: known.host
    install.rollback(Path(root)) if verb == "rollback" else install.install(Path(bundle), Path(root))
"""


def is_whole(root: Path) -> RootStatus:
    found = status(root)
    assert found.problem is None
    assert found.current is not None
    open_bundle(root / "current" / found.current.file)
    return found


class Case:
    """A root with version 1 in use, and 2 to come by an installation or 1 by going back from it.

    The verb "sign" installs version 1 once more, signed by another key: a version is then told by who signed it.
    """

    def __init__(self, folder: Path, verb: str) -> None:
        self.root, self.saved = folder / "root", folder / "saved"
        keys = [new_key(folder, name) for name in ("one", "two")]
        first = small_bundle(folder / "1", 2, version="1")
        second = small_bundle(folder / "2", 3, version="2")
        if verb == "sign":
            second.write_bytes(first.read_bytes())
            sign(first, (keys[0],))
            sign(second, (keys[1],))
        install(first, self.root)
        self.before, self.after = "1", "2"
        self.second = open_bundle(second).sha256
        if verb == "rollback":
            install(second, self.root)
            self.before, self.after = self.after, self.before
        shutil.copytree(self.root, self.saved, symlinks=True)
        self.words = (verb, self.root, second)

    def begin_again(self) -> None:
        shutil.rmtree(self.root)
        shutil.copytree(self.saved, self.root, symlinks=True)

    def version(self) -> str:
        """Return the version in use, which is whole; of the verb "sign" by the file that it has."""
        found = is_whole(self.root).current
        assert found is not None
        if self.words[0] != "sign":
            return found.version
        return "2" if open_bundle(self.root / "current" / found.file).sha256 == self.second else "1"

    def finish(self, forked: Forked, version: str, where: str) -> None:
        """Let the next run finish what was cut off; a rollback that was done is not done again."""
        if self.words[0] != "rollback" or version == self.before:
            again = forked.run(*self.words)
            assert again.returncode == 0, f"{where}: {again.stderr}"
            assert self.version() == self.after, where
            found = is_whole(self.root).current
            assert found is not None
            assert found.sha256 == self.second or self.words[0] == "rollback", where
            assert found.successor_sha256 is None, where


@VERBS
@SHARES
def test_a_kill_at_any_system_call_leaves_a_whole_version(tmp_path: Path, verb: str, share: int) -> None:
    case = Case(tmp_path, verb)
    root, versions, missed = case.root, [], 0
    with Forked(tmp_path / "program", INSTALL) as forked:
        points = forked.calls(root, *case.words)
        assert case.version() == case.after
        for name, number in points[::share]:
            case.begin_again()
            done = forked.killed_at(name, number, *case.words)
            if done.returncode == 0:  # a run may have a call less than the one that was counted
                missed += 1
                assert case.version() == case.after
                continue
            versions.append(case.version())
            for path in root.glob(".*.tmp"):  # what is younger than a minute might be another process's
                os.utime(path, (0, 0))
            case.finish(forked, versions[-1], f"{name} {number}")
            left = [p.name for p in (*root.iterdir(), *(root / "versions").iterdir()) if p.name.startswith(".")]
            assert set(left) <= {".edgepack", ".lock"} or verb == "rollback", f"{name} {number}: {left}"
    print(f"{verb}: killed at {len(versions)} of {len(points)} calls, {versions.count(case.after)} after the switch")
    assert missed <= len(points) // 50
    assert set(versions) <= {case.before, case.after}
    assert case.before in versions


@SHARES
def test_a_pull_killed_at_any_system_call_leaves_nothing_half(tmp_path: Path, share: int) -> None:
    """Under the final name is nothing or the whole bundle, and the next pull gives it."""
    good, out = small_bundle(tmp_path / "good", 2), tmp_path / "out"
    push(good, Folder(tmp_path / "usb"))
    out.mkdir()
    words, path = (tmp_path / "usb", out), out / good.name
    whole = missed = 0
    with Forked(tmp_path / "program", PULL) as forked:
        points = forked.calls(out, *words)
        for name, number in points[::share]:
            shutil.rmtree(out)
            out.mkdir()
            missed += forked.killed_at(name, number, *words).returncode == 0
            whole += path.exists()
            if not path.exists():
                assert forked.run(*words).returncode == 0
            assert path.read_bytes() == good.read_bytes(), f"{name} {number}"
    print(f"pull: killed at {len(points[::share]) - missed} of {len(points)} calls, {whole} after it had its name")
    assert missed <= len(points) // 50


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unsynced_library(tmp_path_factory.mktemp("unsynced"))


@VERBS
@SHARES
def test_a_power_cut_at_any_system_call_leaves_a_whole_version(
    tmp_path: Path, library: Path, verb: str, share: int
) -> None:
    case = Case(tmp_path, verb)
    disk = Disk(library, case.root, tmp_path / "disk")
    versions, lost, missed = [], 0, 0
    with Forked(tmp_path / "program", INSTALL, disk.variables) as forked:
        points = forked.calls(case.root, *case.words)
        for name, number in points[::share]:
            case.begin_again()
            disk = Disk(library, case.root, tmp_path / "disk")
            if forked.killed_at(name, number, *case.words).returncode == 0:
                missed += 1
                continue
            for end in disk.ends():
                lost += end.lacks
                disk.become(end)
                versions.append(case.version())
                case.finish(forked, versions[-1], f"{name} {number}, {end.state}")
    print(
        f"{verb}: power cut at {len(points[::share]) - missed} of {len(points)} calls, {len(versions)} disks, "
        f"{lost} without something that was written; {versions.count(case.after)} after the switch"
    )
    assert missed <= len(points) // 50
    assert set(versions) <= {case.before, case.after}
    assert case.before in versions
    assert lost or share > 1


@SHARES
def test_a_pull_and_a_power_cut_leave_nothing_half(tmp_path: Path, library: Path, share: int) -> None:
    good, out = small_bundle(tmp_path / "good", 2), tmp_path / "out"
    push(good, Folder(tmp_path / "usb"))
    out.mkdir()
    words, path = (tmp_path / "usb", out), out / good.name
    whole = lost = missed = 0
    with Forked(tmp_path / "program", PULL, Disk(library, out, tmp_path / "disk").variables) as forked:
        points = forked.calls(out, *words)
        for name, number in points[::share]:
            shutil.rmtree(out)
            out.mkdir()
            disk = Disk(library, out, tmp_path / "disk")
            missed += forked.killed_at(name, number, *words).returncode == 0
            for end in disk.ends():
                lost += end.lacks
                disk.become(end)
                whole += path.exists()
                if not path.exists():
                    assert forked.run(*words).returncode == 0
                assert path.read_bytes() == good.read_bytes(), f"{name} {number}, {end.state}"
    print(
        f"pull: power cut at {len(points[::share]) - missed} of {len(points)} calls, "
        f"{lost} disks without something that was written; {whole} after it had its name"
    )
    assert missed <= len(points) // 50
