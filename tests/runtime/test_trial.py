"""New versions on trial: the health command decides, the version before returns, also when the power was cut."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
from program import main
from small_bundles import small_bundle
from trust_cases import device, new_key

from edgepack.base import documents
from edgepack.base.files import sha256_file
from edgepack.errors import StorageError, TrustError, VerificationError
from edgepack.runtime import install as installing
from edgepack.runtime import trial as trials
from edgepack.runtime.install import Health, install, recover, rollback
from edgepack.runtime.root import status
from edgepack.runtime.trial import Event, is_well, log
from edgepack.specs.run import RunOptions
from edgepack.specs.types import no_progress

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
WELL, ILL = Health("true"), Health("echo broken; false", 0.1)


def bundle(folder: Path, version: str) -> Path:
    return small_bundle(folder / version, 2, version=version)


def put(path: Path, root: Path, health: Health | None = None, *, again: bool = False) -> object:
    return install(path, root, RunOptions(), no_progress, 0.0, health, again=again)


def events(root: Path) -> list[tuple[str, str]]:
    lines = (root / "audit.jsonl").read_text().splitlines()
    return [(line["event"], line["version"]) for line in map(json.loads, lines)]


def version(root: Path) -> str | None:
    found = status(root)
    assert found.problem is None
    return found.current.version if found.current else None


def test_a_version_that_is_well_stays(tmp_path: Path) -> None:
    root = tmp_path / "root"
    put(bundle(tmp_path, "1"), root)
    seen = tmp_path / "seen"
    command = f'test -f "$EDGEPACK_BUNDLE" && echo "$EDGEPACK_VERSION" > {seen} && test -f {root}/trial.json'
    put(bundle(tmp_path, "2"), root, Health(command))
    assert (version(root), seen.read_text()) == ("2", "2\n")
    assert not (root / "trial.json").exists()
    assert not status(root).on_trial
    assert events(root) == [("in use", "1"), ("on trial", "2"), ("in use", "2")]


def test_a_version_that_is_ill_gives_way_to_the_one_before(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for v in ("1", "2"):
        put(bundle(tmp_path, v), root)
    with pytest.raises(
        VerificationError, match=r"small 3 is not healthy: the health command ended with 1: broken; the version before"
    ):
        put(bundle(tmp_path, "3"), root, ILL)
    assert version(root) == "2"
    assert {record.version for record in status(root).versions} == {"1", "2"}
    assert not (root / "trial.json").exists()
    assert rollback(root).version == "1", "not the one that was ill"
    assert events(root)[-2:] == [("went back", "3"), ("rolled back to", "1")]


def test_the_first_version_that_is_ill_leaves_none(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with pytest.raises(VerificationError, match="there is none before it"):
        put(bundle(tmp_path, "1"), root, ILL)
    assert version(root) is None
    put(bundle(tmp_path, "2"), root, WELL)
    assert version(root) == "2"


def test_a_bundle_that_failed_twice_is_not_tried_again(tmp_path: Path) -> None:
    root = tmp_path / "root"
    ill = bundle(tmp_path, "2")
    put(bundle(tmp_path, "1"), root)
    for _ in range(2):
        with pytest.raises(VerificationError, match="is not healthy"):
            put(ill, root, ILL)
    with pytest.raises(VerificationError, match="failed 2 times here and is not tried again"):
        put(ill, root, WELL)
    put(bundle(tmp_path, "3"), root, WELL)
    put(ill, root, WELL, again=True)
    assert version(root) == "2"
    with pytest.raises(VerificationError, match="is not healthy"):
        put(bundle(tmp_path, "4"), root, ILL)


def test_what_computes_wrong_values_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, path = tmp_path / "root", bundle(tmp_path, "1")
    prove = installing.prove_in_child

    def wrong(*arguments: object) -> object:
        import dataclasses

        record = prove(*arguments)  # type: ignore[arg-type]
        return dataclasses.replace(record, verification=dataclasses.replace(record.verification, passed=False))

    monkeypatch.setattr(installing, "prove_in_child", wrong)
    for _ in range(2):
        with pytest.raises(VerificationError, match="computes wrong values"):
            put(path, root)
    monkeypatch.setattr(installing, "prove_in_child", prove)
    with pytest.raises(VerificationError, match="not tried again"):
        put(path, root)
    assert events(root) == [("refused", "1")] * 2


def test_the_health_command_may_take_its_time_within_the_window(tmp_path: Path) -> None:
    now, waited = [0.0], []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        now[0] += seconds

    command = f"echo x >> {tmp_path}/tries; test $(wc -l < {tmp_path}/tries) -ge 3"
    assert is_well(command, 10, {}, lambda: now[0], sleep) is None
    assert waited == [1.0, 1.0]
    (tmp_path / "tries").unlink()
    assert is_well(command, 1.5, {}, lambda: now[0], sleep) == "the health command ended with 1"


def test_a_health_command_may_start_a_service_that_keeps_its_output_open(tmp_path: Path) -> None:
    """As an init script that restarts a program does."""
    began = time.monotonic()
    assert is_well(f"setsid sleep 98765 & echo $! > {tmp_path}/pid", 20, {}) is None
    assert time.monotonic() - began < 10
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_what_a_health_command_says_is_kept_in_bounded_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    command = "head -c 300000000 /dev/zero | tr '\\0' x; echo; echo the last words; exit 7"
    clock = iter([0.0, 0.0, 100.0])
    assert str(is_well(command, 60, {}, clock=lambda: next(clock))).endswith("the last words")
    assert is_well("yes", 0.5, {}) == "the health command did not end in 0 s"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_a_health_command_that_closes_its_output_is_waited_for() -> None:
    assert is_well("exec >&- 2>&-; sleep 0.3; exit 0", 20, {}) is None
    assert is_well("exec >&- 2>&-; sleep 98765", 0.5, {}) == "the health command did not end in 0 s"


def test_a_health_command_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    began = time.monotonic()
    why = is_well(f"sleep 98765 & echo $! > {tmp_path}/pid; sleep 98765", 0.5, {})
    assert "did not end" in str(why)
    assert time.monotonic() - began < 20
    deadline = time.monotonic() + 10
    while Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


CUT = """
import os, signal, sys
from edgepack.cli.main import cli
health = f"kill -9 {os.getpid()}; sleep 60"
cli.main(["install", sys.argv[1], "--root", sys.argv[2], "--health", health])
"""


@pytest.mark.parametrize("way", ["recover", "install", "rollback", "script"])
def test_after_a_power_cut_on_trial_the_version_before_returns(tmp_path: Path, way: str) -> None:
    """The process is killed while its health command runs, and the device starts anew."""
    root, ill = tmp_path / "root", bundle(tmp_path, "2")
    put(bundle(tmp_path, "1"), root)
    done = subprocess.run([sys.executable, "-c", CUT, str(ill), str(root)], capture_output=True, check=False)
    assert done.returncode == -9
    found = status(root)
    assert (found.on_trial, version(root)) == (True, "2")
    if way == "recover":
        assert main(["recover", "--root", str(root)]) == 0
    elif way == "rollback":
        assert rollback(root).version == "1"
    elif way == "script":
        environment = {**os.environ, "PYTHON": sys.executable}
        script = str(EXAMPLES / "edgepack-recover.sh")
        said = subprocess.run([script, str(root)], capture_output=True, text=True, check=True, env=environment)
        assert "small 1" in said.stdout
        subprocess.run([script, str(tmp_path / "nothing")], check=True, env=environment)
    else:
        put(bundle(tmp_path, "3"), root, WELL)
        assert rollback(root).version == "1"
    assert version(root) == "1"
    assert not status(root).on_trial
    with pytest.raises(VerificationError, match="is not healthy"):
        put(ill, root, ILL)
    with pytest.raises(VerificationError, match="failed 2 times"):
        put(ill, root, WELL)


def test_recovering_where_nothing_is_on_trial_changes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    put(bundle(tmp_path, "1"), root, WELL)
    before = sorted((path, path.read_bytes() if path.is_file() else b"") for path in root.rglob("*"))
    assert recover(root).version == "1"  # type: ignore[union-attr]
    assert main(["recover", "--root", str(root)]) == 0
    assert sorted((path, path.read_bytes() if path.is_file() else b"") for path in root.rglob("*")) == before


@pytest.mark.parametrize("step", range(8))
def test_going_back_is_killed_at_any_step_and_done_by_the_next(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every write on the way back fails in turn, as when the power goes again; then the device starts."""
    root, ill = tmp_path / "root", bundle(tmp_path, "2")
    put(bundle(tmp_path, "1"), root)
    names = ("count_failure", "_activate", "write_text", "log", "end", "shutil.rmtree", "sync_folder", "history")
    name = names[step]
    with monkeypatch.context() as cut:
        real = installing._go_back

        def go_back(*arguments: object) -> None:
            def stop(*_: object, **__: object) -> None:
                raise KeyboardInterrupt

            cut.setattr(f"edgepack.runtime.install.{name}", stop)
            real(*arguments)  # type: ignore[arg-type]

        cut.setattr(installing, "_go_back", go_back)
        with pytest.raises((KeyboardInterrupt, VerificationError)):
            put(ill, root, ILL)
    recover(root)
    assert version(root) == "1"
    assert not (root / "trial.json").exists()
    with pytest.raises(VerificationError, match="is not healthy"):
        put(ill, root, ILL)  # it has failed once until now, whatever was counted twice


def test_refusals_and_what_was_put_in_use_are_logged_with_signers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trust_cases import signed_bundle

    root, key = tmp_path / "root", new_key(tmp_path, "release")
    monkeypatch.setenv("EDGEPACK_POLICY", str(device(tmp_path / "etc", key)))
    with pytest.raises(TrustError):
        put(bundle(tmp_path, "0"), root)
    assert not root.exists()
    path = signed_bundle(tmp_path / "signed", key)
    put(path, root)
    with pytest.raises(TrustError):
        put(bundle(tmp_path, "2"), root)
    lines = [documents.from_json(Event, line, "x") for line in (root / "audit.jsonl").read_text().splitlines()]
    assert [(line.event, line.version) for line in lines] == [("in use", "1.0"), ("refused", "2")]
    assert lines[0].signers == (f"release {key.public.id[:16]}",)
    assert lines[0].sha256 == sha256_file(path)
    assert "is not signed" in str(lines[1].reason)


def test_the_log_does_not_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "_MOST_AUDIT_BYTES", 2000)
    for i in range(40):
        log(tmp_path, Event("t", "in use", "id", "name", str(i), "ab" * 32))
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) < 2300
    assert events(tmp_path)[-1] == ("in use", "39")


# --- room and old versions --------------------------------------------------------------------------------------------


def test_how_many_versions_are_kept_is_the_policys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    monkeypatch.setenv("EDGEPACK_POLICY", str(device(tmp_path / "etc", require_signature=False, keep=1)))
    for v in ("1", "2", "3"):
        put(bundle(tmp_path, v), root)
    assert {record.version for record in status(root).versions} == {"2", "3"}, "the one before stays in any case"


def test_old_versions_make_room_and_those_in_use_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    for v in ("1", "2", "3"):
        put(bundle(tmp_path, v), root)
    usage = namedtuple("usage", "total used free")
    free = iter([0, 1 << 30])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, next(free)))
    put(bundle(tmp_path, "4"), root)
    assert {record.version for record in status(root).versions} == {"2", "3", "4"}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 1000))
    with pytest.raises(StorageError, match=r"0\.0 MB free.*no space left"):
        put(bundle(tmp_path, "5"), root)
    assert {record.version for record in status(root).versions} == {"3", "4"}
    assert version(root) == "4"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    unit = (EXAMPLES / "edgepack-recover.service").read_text().replace("/usr/bin/python3", sys.executable)
    (tmp_path / "edgepack-recover.service").write_text(unit)
    words = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "edgepack-recover.service")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "edgepack-recover" not in done.stderr
