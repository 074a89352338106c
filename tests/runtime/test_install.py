"""Installing on real files with ONNX Runtime: whole or not at all, proved before use, and back again."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from full_disk import full_disk
from program import main
from small_bundles import small_bundle, small_bundle_of_two, small_compiled, small_facts

from edgepack.base.files import sha256_file
from edgepack.bundle.archive import measure, open_bundle, read_member, write_archive
from edgepack.bundle.pack import pack
from edgepack.errors import ConfigError, IntegrityError, StorageError, VerificationError
from edgepack.execution import child
from edgepack.runtime.install import install, rollback
from edgepack.runtime.load import load
from edgepack.runtime.root import status
from edgepack.verify.golden import read_golden, write_golden

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.slow

HELPERS = Path(__file__).resolve().parents[1] / "helpers"


def bundle(folder: Path, channels: int, version: str) -> Path:
    return small_bundle(folder / version, channels, version=version)


def wrong_bundle(folder: Path) -> Path:
    """A whole bundle whose golden vectors are another model's."""
    compiled = small_compiled(folder / "compiled")
    from small_bundles import small_golden

    path = small_golden(compiled.folder / "model.onnx", folder / "golden.npz")
    golden = read_golden(path)
    outputs = tuple({name: -value for name, value in sample.items()} for sample in golden.outputs)
    write_golden(dataclasses.replace(golden, outputs=outputs), path)
    return pack(compiled, path, small_facts(version="9"), folder)


def in_use(root: Path) -> str:
    return (root / "current").resolve().name


def test_an_installed_bundle_is_whole_proved_and_in_use(tmp_path: Path) -> None:
    one = bundle(tmp_path, 8, "1")
    record = install(one, tmp_path / "root")
    installed = tmp_path / "root" / "current" / "small.edgepack"
    assert installed.read_bytes() == one.read_bytes()
    assert (record.version, record.verification.passed, record.engine) == ("1", True, "onnxruntime")
    assert record.sha256 == sha256_file(one)
    found = status(tmp_path / "root")
    assert found.current == record
    assert (found.problem, found.previous, len(found.versions)) == (None, None, 1)
    one.unlink()
    with load(installed) as model:
        assert model.infer({"image": np.zeros((1, 3, 8, 8), np.float32)})


def test_a_second_version_comes_in_use_and_goes_back(tmp_path: Path) -> None:
    root = tmp_path / "root"
    first = install(bundle(tmp_path, 8, "1"), root)
    second = install(bundle(tmp_path, 6, "2"), root)
    assert in_use(root) == second.id
    assert status(root).previous == first.id
    assert rollback(root).id == first.id
    assert in_use(root) == first.id
    assert rollback(root).id == second.id, "a rollback can be taken back"


def test_the_same_bundle_again_changes_nothing_but_its_proof(tmp_path: Path) -> None:
    root = tmp_path / "root"
    one = bundle(tmp_path, 8, "1")
    first, again = install(one, root), install(one, root)
    assert first.id == again.id
    assert len(list((root / "versions").iterdir())) == 1


def test_old_versions_are_removed_but_never_those_in_use(tmp_path: Path) -> None:
    root = tmp_path / "root"
    ids = [install(bundle(tmp_path, 3 + i, str(i)), root).id for i in range(5)]
    left = {path.name for path in (root / "versions").iterdir()}
    assert left == set(ids[-3:])


def test_a_bundle_that_computes_wrong_values_is_not_put_in_use(tmp_path: Path) -> None:
    root = tmp_path / "root"
    first = install(bundle(tmp_path, 8, "1"), root)
    with pytest.raises(VerificationError, match="not put in use"):
        install(wrong_bundle(tmp_path / "wrong"), root)
    assert in_use(root) == first.id
    assert [path.name for path in (root / "versions").iterdir()] == [first.id]


def test_engines_that_would_stand_in_are_proved_too(tmp_path: Path) -> None:
    good = install(small_bundle_of_two(tmp_path / "good", same=True), tmp_path / "root")
    assert [output.way for output in good.verification.outputs] == ["", "onnxruntime"]
    with pytest.raises(VerificationError, match="not put in use"):
        install(small_bundle_of_two(tmp_path / "bad", same=False), tmp_path / "other")
    assert not (tmp_path / "other" / "current").exists()


def test_a_damaged_bundle_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    one = bundle(tmp_path, 8, "1")
    data = bytearray(one.read_bytes())
    data[len(data) // 2] ^= 1
    one.write_bytes(data)
    with pytest.raises(IntegrityError):
        install(one, tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_a_damaged_version_in_use_is_told_and_mended(tmp_path: Path) -> None:
    root = tmp_path / "root"
    one = bundle(tmp_path, 8, "1")
    install(one, root)
    installed = root / "current" / "small.edgepack"
    installed.chmod(0o644)
    installed.write_bytes(one.read_bytes()[:-10])
    assert status(root).problem is not None
    assert main(["status", "--root", str(root)]) == 5
    install(one, root)
    assert status(root).problem is None


def test_a_damaged_earlier_version_is_not_gone_back_to(tmp_path: Path) -> None:
    root = tmp_path / "root"
    first = install(bundle(tmp_path, 8, "1"), root)
    second = install(bundle(tmp_path, 6, "2"), root)
    (root / "versions" / first.id / "small.edgepack").write_bytes(b"")
    with pytest.raises(Exception, match=r"small\.edgepack"):
        rollback(root)
    assert in_use(root) == second.id


def test_what_was_never_installed_is_told(tmp_path: Path) -> None:
    for call in (status, rollback):
        with pytest.raises(ConfigError, match="nothing is installed"):
            call(tmp_path / "nowhere")
    install(bundle(tmp_path, 8, "1"), tmp_path / "root")
    with pytest.raises(ConfigError, match="no earlier version"):
        rollback(tmp_path / "root")


def test_junk_in_the_root_is_one_error_or_overlooked(tmp_path: Path) -> None:
    root = tmp_path / "root"
    record = install(bundle(tmp_path, 8, "1"), root)
    (root / "history.json").write_text("{")
    (root / "versions" / "junk").mkdir()
    assert status(root).current == record
    (root / "versions" / record.id / "install.json").write_text("[]")
    found = status(root)
    assert found.current is None
    assert found.problem == f"current points to {record.id}, which is not installed whole"
    assert len(found.damaged) == 1
    assert "install.json: expected a table" in found.damaged[0]


# --- what is ours and what is not -------------------------------------------------------------------------------------


def test_a_folder_of_somebody_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    """A program's own folder that happens to have versions in it, as pyenv's or nvm's."""
    root = tmp_path / "app"
    (root / "versions" / "3.11.9" / "bin").mkdir(parents=True)
    (root / "versions" / "3.11.9" / "bin" / "python").write_text("a program")
    before = sorted(root.rglob("*"))
    one = bundle(tmp_path, 8, "1")
    with pytest.raises(ConfigError, match="is not an installation of edgepack: it holds 'versions'"):
        install(one, root)
    with pytest.raises(ConfigError, match="is not an installation of edgepack"):
        rollback(root)
    (root / "versions").rename(root / "releases")
    with pytest.raises(ConfigError, match="it holds 'releases'"):
        install(one, root)
    (root / "releases").rename(root / "versions")
    assert sorted(root.rglob("*")) == before


def test_what_others_put_into_a_root_stays(tmp_path: Path) -> None:
    root = tmp_path / "root"
    install(bundle(tmp_path, 8, "0"), root)
    for name in ("versions/1.2.3/data", "versions/.hidden/data", ".current.backup/data", "notes/data"):
        (root / name).parent.mkdir()
        (root / name).write_text("mine")
    (root / "versions" / "0123456789abcdef").symlink_to(root / "notes")
    for i in range(1, 5):
        install(bundle(tmp_path, 3 + i, str(i)), root)
    assert sorted(path.parent.name for path in root.rglob("data")) == [".current.backup", ".hidden", "1.2.3", "notes"]


def test_a_root_of_an_older_version_has_no_marker_and_is_known(tmp_path: Path) -> None:
    root = tmp_path / "root"
    first = install(bundle(tmp_path, 8, "1"), root)
    (root / ".edgepack").unlink()
    install(bundle(tmp_path, 6, "2"), root)
    assert (root / ".edgepack").read_text().startswith("an installation of edgepack\n")
    assert rollback(root).id == first.id


# --- what is not as it was installed ----------------------------------------------------------------------------------


def test_a_bundle_put_in_the_place_of_the_installed_one_is_told(tmp_path: Path) -> None:
    root = tmp_path / "root"
    first, second = (install(bundle(tmp_path, n, str(n)), root) for n in (8, 6))
    for record in (first, second):
        shutil.copy(bundle(tmp_path, 4, "forged"), root / "versions" / record.id / record.file)
    assert "is not the bundle that was installed" in str(status(root).problem)
    assert main(["status", "--root", str(root)]) == 5
    with pytest.raises(IntegrityError, match="is not the bundle that was installed"):
        rollback(root)
    assert in_use(root) == second.id


def test_a_signature_that_was_changed_is_told(tmp_path: Path) -> None:
    """It is outside of the manifest, so that the contents alone would not show it."""
    root = tmp_path / "root"
    record = install(bundle(tmp_path, 8, "1"), root)
    installed = root / "current" / record.file
    opened = open_bundle(installed)
    sources = {}
    for entry in opened.manifest.files:
        path = tmp_path / f"member{len(sources)}"
        path.write_bytes(read_member(opened, entry.path))
        sources[entry.path] = measure(path)
    (tmp_path / "signature").write_text("{}")
    sources["signature.dsse.json"] = measure(tmp_path / "signature")
    signed = tmp_path / "signed.edgepack"
    write_archive(signed, read_member(opened, "manifest.json"), sources)
    assert open_bundle(signed).manifest_sha256 == opened.manifest_sha256
    shutil.copy(signed, installed)
    assert status(root).problem is not None
    again = install(signed, root)
    assert (again.id, again.sha256) == (record.id, sha256_file(signed))
    assert status(root).problem is None


def test_what_is_recorded_is_what_was_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that was named is replaced while the bundle is proved."""
    one, other = bundle(tmp_path, 8, "1"), bundle(tmp_path, 6, "2")
    wanted = sha256_file(one)
    proved = child.call

    def swap(*arguments: object, **options: object) -> object:
        other.replace(one)
        return proved(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(child, "call", swap)
    record = install(one, tmp_path / "root")
    assert (record.sha256, record.version) == (wanted, "1")
    assert sha256_file(tmp_path / "root" / "current" / record.file) == wanted
    assert status(tmp_path / "root").problem is None


@pytest.mark.parametrize("text", ["", "{", '{"format": 1}'])
def test_one_broken_record_does_not_stop_the_others(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    first, second, third = (install(bundle(tmp_path, n, str(n)), root) for n in (8, 6, 4))
    (root / "versions" / second.id / "install.json").write_text(text)
    found = status(root)
    assert (found.current, found.problem, found.previous) == (third, None, first.id)
    assert len(found.damaged) == 1
    assert second.id in found.damaged[0]
    assert call(["status", "--root", root], capsys)[0] == 0
    assert rollback(root).id == first.id
    assert install(bundle(tmp_path, 6, "6"), root).id == second.id, "installing it again mends it"
    assert status(root).damaged == ()


def test_a_broken_record_of_the_version_in_use_is_told_and_mended(tmp_path: Path) -> None:
    root = tmp_path / "root"
    one = bundle(tmp_path, 8, "1")
    record = install(one, root)
    (root / "versions" / record.id / "install.json").write_bytes(b"")
    assert main(["status", "--root", str(root)]) == 5
    assert install(one, root).id == record.id
    assert status(root).problem is None


def test_current_that_is_a_folder_is_named_and_mended(tmp_path: Path) -> None:
    """As after 'cp -rL', 'scp -r' or a copy over a FAT disk."""
    first = install(bundle(tmp_path, 8, "1"), tmp_path / "root")
    second = install(bundle(tmp_path, 6, "2"), tmp_path / "root")
    for way in ("install", "rollback"):
        root = tmp_path / way
        shutil.copytree(tmp_path / "root", root, symlinks=False)
        found = status(root)
        assert found.current == second
        assert "current is a folder, not a link" in str(found.problem)
        assert main(["status", "--root", str(root)]) == 5
        wanted = rollback(root).id if way == "rollback" else install(bundle(tmp_path, 4, "3"), root).id
        assert (root / "current").is_symlink()
        assert in_use(root) == wanted
        assert status(root).problem is None
        assert not [path for path in root.iterdir() if path.name.startswith(".current")]
        assert status(root).previous == second.id != wanted
        assert (wanted == first.id) is (way == "rollback")


def test_current_that_is_a_folder_with_other_files_is_not_removed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    install(bundle(tmp_path, 8, "1"), root)
    (root / "current").unlink()
    (root / "current").mkdir()
    (root / "current" / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match="holds files that no version has"):
        install(bundle(tmp_path, 6, "2"), root)
    assert (root / "current" / "notes.txt").read_text() == "mine"


def test_current_that_leads_elsewhere_is_told(tmp_path: Path) -> None:
    root = tmp_path / "root"
    record = install(bundle(tmp_path, 8, "1"), root)
    shutil.copytree(root / "versions", tmp_path / "versions")
    (root / "current").unlink()
    (root / "current").symlink_to(tmp_path / "versions" / record.id)
    assert "which is not a version of this installation" in str(status(root).problem)


def test_two_installations_at_once_take_turns(tmp_path: Path) -> None:
    import fcntl

    root = tmp_path / "root"
    install(bundle(tmp_path, 8, "1"), root)
    with (root / ".lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StorageError, match="another process"):
            install(bundle(tmp_path, 6, "2"), root)


def test_a_full_disk_leaves_the_version_in_use(tmp_path: Path) -> None:
    """Simulated by RLIMIT_FSIZE: no file may grow over 3 kB, as on a disk that is full."""
    root = tmp_path / "root"
    first = install(bundle(tmp_path, 8, "1"), root)
    second = bundle(tmp_path, 200, "2")
    done = subprocess.run(
        [sys.executable, "-m", "edgepack.runtime", "install", str(second), "--root", str(root)],
        capture_output=True, text=True, check=False, **full_disk(3000),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "no space left" in done.stderr
    assert in_use(root) == first.id
    assert [path.name for path in (root / "versions").iterdir()] == [first.id]


_STOP = """
import os, sys

count, target, seen = 0, int(sys.argv[1]), [0]
names = ("rename", "mkdir", "symlink", "unlink", "replace", "fsync", "open")

def watch(event, arguments):
    # Every file operation of this process: the process ends itself, as by a power cut, before the given one.
    if event in ("os.rename", "os.mkdir", "os.symlink", "os.remove", "os.chmod", "open", "shutil.rmtree"):
        place = str(arguments[0])
        if sys.argv[2] in place or (event == "os.rename" and sys.argv[2] in str(arguments[1])):
            seen[0] += 1
            if seen[0] == target:
                os.kill(os.getpid(), 9)

sys.addaudithook(watch)
from edgepack.base.files import sha256_file
from edgepack.bundle.archive import measure, open_bundle, read_member, write_archive
from edgepack.cli.main import cli
try:
    cli.main(["install", sys.argv[3], "--root", sys.argv[2]])
finally:
    print("steps", seen[0])
"""


def test_a_process_killed_at_any_step_leaves_a_version_that_runs(tmp_path: Path) -> None:
    """SIGKILL before each file operation below the root in turn; the version in use is the old one or the new one."""
    root = tmp_path / "root"
    first = install(bundle(tmp_path, 8, "1"), root)
    shutil.copytree(root, tmp_path / "saved", symlinks=True)
    second = bundle(tmp_path, 6, "2")
    script = tmp_path / "stop.py"
    script.write_text(_STOP)

    def run(step: int) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, str(script), str(step), str(root), str(second)]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    whole = run(10**9)
    assert whole.returncode == 0, whole.stderr
    steps = int(whole.stdout.split()[-1])
    assert steps > 15
    seen = set()
    for step in range(1, steps + 1, max(1, steps // 6)):
        shutil.rmtree(root)
        shutil.copytree(tmp_path / "saved", root, symlinks=True)
        assert run(step).returncode == -signal.SIGKILL
        found = status(root)
        assert found.problem is None
        assert found.current is not None
        seen.add(found.current.version)
    assert install(second, root).version == "2"
    assert not [path for path in (root / "versions").iterdir() if path.name.startswith(".")]
    assert "1" in seen
    assert first.version == "1"


def test_a_killed_proof_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child that loads and verifies is killed, as by the kernel when memory runs out."""
    (tmp_path / "double").mkdir()
    (tmp_path / "double" / "onnxruntime.py").write_text(
        "# A test double of an engine that the kernel kills.\nimport os\nos.kill(os.getpid(), 9)\n"
    )
    root = tmp_path / "root"
    monkeypatch.syspath_prepend(str(tmp_path / "double"))
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    one = bundle_without_engine(tmp_path)
    with pytest.raises(VerificationError, match="SIGKILL"):
        install(one, root)
    assert not (root / "current").exists()


def bundle_without_engine(folder: Path) -> Path:
    """Make the bundle in another process, where the real engine is."""
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from small_bundles import small_bundle; print(small_bundle(Path(sys.argv[1])))"
    )
    words = [sys.executable, "-c", code, str(folder / "made"), str(HELPERS)]
    return Path(subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip())


# --- the device's command line ----------------------------------------------------------------------------------------


def call(arguments: Sequence[object], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main([str(word) for word in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_devices_commands_install_show_and_go_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    code, out, err = call(["install", bundle(tmp_path, 8, "1"), "--root", root, "--json"], capsys)
    assert code == 0, err
    assert json.loads(out)["verification"]["passed"] is True
    assert "verified with 2 golden vectors" in err
    call(["install", bundle(tmp_path, 6, "2"), "--root", root], capsys)
    code, out, err = call(["status", "--root", root, "--json"], capsys)
    assert (code, len(json.loads(out)["versions"])) == (0, 2)
    assert "rollback goes here" in err
    code, out, _ = call(["rollback", "--root", root], capsys)
    assert code == 0
    assert "small 1" in out
    assert call(["status", "--root", tmp_path / "nowhere"], capsys)[0] == 2
    assert call(["install", tmp_path / "nothing.edgepack", "--root", root], capsys)[0] == 2


def test_a_clock_is_in_utc(tmp_path: Path) -> None:
    record = install(bundle(tmp_path, 8, "1"), tmp_path / "root")
    stated = time.strptime(record.installed_at, "%Y-%m-%dT%H:%M:%SZ")
    assert abs(time.mktime(stated) - time.timezone - time.time()) < 4000
    assert str((tmp_path / "root" / "current").readlink()) == f"versions/{record.id}"
