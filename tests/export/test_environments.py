"""Environments are made by the real pip, from a wheel that is made here; nothing is fetched."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edgepack.errors import ConfigError, ToolchainError
from edgepack.export import environments
from edgepack.export.environments import (
    environments_folder,
    find_lock,
    is_made,
    list_environments,
    make_environment,
    place_of,
    remove_environments,
)

pytestmark = pytest.mark.long
LOCKS = sorted(path.stem for path in (Path(environments.__file__).parent / "locks").glob("*.txt"))


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a lock with one package that is in a folder of wheels, with its hash."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel = wheels / "toy-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("toy.py", "VALUE = 7\n")
        archive.writestr("toy-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
        archive.writestr("toy-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("toy-1.0.dist-info/RECORD", "toy.py,,\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv(environments.VARIABLE, str(tmp_path / "environments"))
    monkeypatch.setattr(environments.shutil, "which", lambda _name: None)
    path = tmp_path / "toy.txt"
    path.write_text(f"# size: 30 MB\ntoy==1.0 \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    return path


def value_in(python: str) -> str:
    return subprocess.run(
        [python, "-c", "import toy; print(toy.VALUE)"], capture_output=True, text=True, check=True
    ).stdout


def test_it_is_made_once_listed_and_removed(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, told = find_lock(str(lock)), []
    assert not is_made(found)
    made = make_environment(found, lambda *words: told.append(words))
    assert value_in(made.python) == "7\n"
    assert told[-1] == ("packages for toy", 1, 1)
    monkeypatch.setattr(environments, "_make", None)  # a second call makes nothing
    assert make_environment(found) == made
    (listed,) = list_environments()
    assert listed.ready
    assert listed.name == f"toy-{found.sha256[:12]}"
    assert listed.size_bytes > 1000
    assert remove_environments(("toy",)) == (listed,)
    assert list_environments() == ()
    assert not is_made(found)


def test_what_an_interrupted_run_left_is_gone_on_with(lock: Path) -> None:
    found = find_lock(str(lock))
    make_environment(found)
    ready = place_of(found) / "ready.json"
    ready.unlink()  # as when it was killed just before the end
    mark = place_of(found) / "pyvenv.cfg"
    before = mark.stat().st_mtime_ns
    (listed,) = list_environments()
    assert not listed.ready
    assert value_in(make_environment(found).python) == "7\n"
    assert ready.is_file()
    assert mark.stat().st_mtime_ns == before, "the venv was made anew"


def test_where_uv_cannot_pip_is_asked(lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv = tmp_path / "uv"
    uv.write_text(f"#!/bin/sh\necho $@ > {tmp_path / 'asked'}\necho error: No solution found >&2\nexit 1\n")
    uv.chmod(0o755)
    monkeypatch.setattr(environments.shutil, "which", lambda _name: str(uv))
    assert value_in(make_environment(find_lock(str(lock))).python) == "7\n"
    assert "--no-deps --only-binary :all:" in (tmp_path / "asked").read_text()


@pytest.mark.parametrize(
    ("said", "taken"), [("cuda: Optional[str] = None", True), ("cuda: Optional[str] = '13.0'", False)]
)
def test_a_torch_for_cuda_is_refused(lock: Path, monkeypatch: pytest.MonkeyPatch, said: str, taken: bool) -> None:
    run = environments._run

    def also_torch(command: list[str], *more: Any) -> None:
        run(command, *more)
        for packages in environments_folder().glob("toy-*/lib/python*/site-packages"):
            (packages / "torch").mkdir(exist_ok=True)
            (packages / "torch" / "version.py").write_text(f"__version__ = '2.13.0'\n{said}\nhip = None\n")

    monkeypatch.setattr(environments, "_run", also_torch)
    if taken:
        assert value_in(make_environment(find_lock(str(lock))).python) == "7\n"
        return
    with pytest.raises(ToolchainError, match="a build of torch for CUDA") as caught:
        make_environment(find_lock(str(lock)))
    assert "PIP_EXTRA_INDEX_URL" in (caught.value.hint or "")
    assert list_environments() == ()


def test_half_a_venv_is_made_anew(lock: Path) -> None:
    found = find_lock(str(lock))
    (place_of(found) / "bin").mkdir(parents=True)
    (place_of(found) / "bin" / "python").write_text("#!/bin/false\n")
    (place_of(found) / "bin" / "python").chmod(0o755)
    environments.mark(environments_folder(), "environments of edgepack")
    assert value_in(make_environment(found).python) == "7\n"


def test_a_changed_file_and_a_missing_package_are_refused_with_the_way_out(lock: Path) -> None:
    lock.write_text(f"toy==1.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(ToolchainError, match=r"could not be made: .*(?i:hash)") as raised:
        make_environment(find_lock(str(lock)))
    assert "--python PATH" in raised.value.hint
    lock.write_text("no-such-package-here==1.0\n")
    with pytest.raises(ToolchainError, match="no-such-package-here"):
        make_environment(find_lock(str(lock)))
    assert not any(e.ready for e in list_environments())


def test_nothing_of_others_is_written_into_or_removed(lock: Path) -> None:
    environments_folder().mkdir()
    (environments_folder() / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"holiday\.jpg"):
        make_environment(find_lock(str(lock)))
    with pytest.raises(ConfigError, match=r"holiday\.jpg"):
        remove_environments(("toy",))
    assert (environments_folder() / "holiday.jpg").exists()


def test_an_unknown_name_is_said_with_those_that_are_there(lock: Path) -> None:
    make_environment(find_lock(str(lock)))
    with pytest.raises(ConfigError, match="there is no environment 'keras'") as raised:
        remove_environments(("keras",))
    assert "toy-" in raised.value.hint


@pytest.mark.parametrize("name", LOCKS)
def test_every_lock_pins_cpu_builds_and_says_its_size(name: str) -> None:
    found = find_lock(name)
    assert 50 < found.size_mb < 3000
    assert len(set(found.packages)) > 10
    assert not [
        package for package in found.packages if "nvidia" in package or "cuda" in package or package == "tensorflow"
    ]
    assert "torch==2.13.0+cpu" in found.text.splitlines() or "torch" not in found.packages
    lines = [line for line in found.text.splitlines() if line and line[0] not in "# "]
    assert all("==" in line for line in lines)
    if "torch" not in found.packages:
        assert found.text.count("--hash=sha256:") >= len(lines)
