"""Bringing edgepack to a machine with a bare Python: packages for its processor, unpacked, and nothing else touched."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_bundles import small_bundle
from ssh_server import SSHD, Server, serving

from edgepack.bundle.archive import open_bundle
from edgepack.errors import ToolchainError
from edgepack.remote import bootstrap
from edgepack.remote.bootstrap import bring, packages_for
from edgepack.remote.commands import Facts, probe
from edgepack.remote.deploy import deploy
from edgepack.remote.ssh import Board
from edgepack.runtime.root import status
from edgepack.specs.bundle import Requirements

FACTS = Facts("3.11", "aarch64", "2.36", None, 0, "cpython-311")


def test_the_first_engine_that_pip_can_bring_is_asked_for(tmp_path: Path) -> None:
    manifest = open_bundle(small_bundle(tmp_path)).manifest
    needs = Requirements(None, (), {"onnxruntime": "1.17"})
    assert packages_for(dataclasses.replace(manifest, requirements=needs)) == (
        "numpy", "click", "onnxruntime>=1.17",
    )  # fmt: skip
    (first,) = manifest.payloads
    own, built = (dataclasses.replace(first, backend=name) for name in ("tvm", "tensorrt"))
    assert packages_for(dataclasses.replace(manifest, payloads=(own,))) == ("numpy", "click")
    assert packages_for(dataclasses.replace(manifest, payloads=(built,))) == ("numpy", "click")


@pytest.mark.parametrize(
    ("libc", "newest"),
    [("2.36", "manylinux_2_35_aarch64"), ("2.27", "manylinux_2_27_aarch64"), ("", "manylinux_2_17_aarch64")],
)
def test_wheels_fit_the_boards_c_library(libc: str, newest: str) -> None:
    names = bootstrap._platforms(dataclasses.replace(FACTS, libc=libc))
    assert (names[0], names[-1]) == (newest, "manylinux2014_aarch64")


def test_what_no_wheel_is_for_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = subprocess.CompletedProcess([], 1, "", "ERROR: No matching distribution found for numpy")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: refused)
    with pytest.raises(ToolchainError, match=r"Python 3\.11 on sparc with glibc 2\.36: ERROR: No matching"):
        bootstrap.gather(dataclasses.replace(FACTS, arch="sparc"), ("numpy",), tmp_path)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A machine whose Python has no package at all."""
    if SSHD is None:
        pytest.skip("sshd is not installed: apt-get install openssh-server")
    with serving(tmp_path / "server", python_path="") as server:
        monkeypatch.setenv("EDGEPACK_SSH", server.ssh)
        yield server


def bare_python(folder: Path) -> str:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return str(folder / "bin" / "python")


@pytest.mark.slow
def test_a_bare_machine_is_brought_what_it_needs(bare: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages that pip would fetch are copied from this environment: the test needs no index."""
    import click
    import numpy

    board = Board("board", bare_python(tmp_path / "venv"))
    asked: list[list[str]] = []
    really = subprocess.run

    def pip(words: list[str], **options: object) -> object:
        if "pip" not in words:
            return really(words, **options)  # type: ignore[call-overload]
        asked.append(words)
        out = Path(words[words.index("--target") + 1])
        out.mkdir()
        for package in (numpy, click):
            place = Path(package.__file__).parent
            (out / place.name).symlink_to(place)
        import onnxruntime

        for name in (Path(onnxruntime.__file__).parent, Path(numpy.__file__).parents[1] / "numpy.libs"):
            if name.exists():
                (out / name.name).symlink_to(name)
        for name in ("flatbuffers", "google", "packaging"):
            place = Path(numpy.__file__).parents[1] / name
            if place.exists():
                (out / name).symlink_to(place)
        return subprocess.CompletedProcess(words, 0, "", "")

    path = small_bundle(tmp_path / "1", 4)
    with pytest.raises(ToolchainError, match="has no edgepack"):
        deploy(path, board, str(tmp_path / "root"))
    monkeypatch.setattr(subprocess, "run", pip)
    found = bring(board, path)
    assert found.edgepack is not None
    (words,) = asked
    assert words[words.index("--python-version") + 1] == f"{sys.version_info[0]}.{sys.version_info[1]}"
    site = bare.home / ".data" / "edgepack" / "site"
    assert (site / "edgepack" / "_data" / "targets" / "raspberry-pi-5.toml").is_file()
    assert not list(site.parent.glob("site.*"))
    monkeypatch.setattr(subprocess, "run", really)
    deploy(path, board, str(tmp_path / "root"))
    assert status(tmp_path / "root").problem is None
    assert probe(board).edgepack is not None


def unpacked(home: Path, archive: bytes, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run on this machine what unpacks an archive on a board."""
    words = ["sh", "-c", bootstrap._UNPACK, sys.executable]
    here = {"PATH": os.environ["PATH"], "XDG_DATA_HOME": str(home)}
    return subprocess.run(words, input=archive, env=here, capture_output=True, check=False, **options)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_link_that_is_cut_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    """At every member's end too, where a shorter archive is an archive."""
    for name, count in (("before", 2), ("after", 9)):
        (tmp_path / name / "edgepack").mkdir(parents=True)
        for i in range(count):
            (tmp_path / name / "edgepack" / f"{i}.py").write_text("x" * 700)
        bootstrap._pack(tmp_path / name, tmp_path / f"{name}.tar")
    home = tmp_path / "home"
    (home / "edgepack").mkdir(parents=True)
    assert unpacked(home, (tmp_path / "before.tar").read_bytes()).returncode == 0
    old = files(home)
    assert "edgepack/site/edgepack/1.py" in old
    whole = (tmp_path / "after.tar").read_bytes()
    for length in range(0, len(whole.rstrip(b"\0")), 512):
        done = unpacked(home, whole[:length])
        assert done.returncode, length
        assert files(home) == old, length
    assert unpacked(home, whole).returncode == 0
    assert files(home / "edgepack" / "site") == files(tmp_path / "after")


def test_what_a_board_that_was_switched_off_kept_goes_with_the_next_try(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    bootstrap._pack(tmp_path / "site", tmp_path / "site.tar")
    ended = subprocess.Popen(["true"])
    ended.wait()
    for pid in (ended.pid, os.getpid()):
        (tmp_path / "home" / "edgepack" / f"site.new.{pid}" / "numpy").mkdir(parents=True)
    assert unpacked(tmp_path / "home", (tmp_path / "site.tar").read_bytes()).returncode == 0
    assert files(tmp_path / "home" / "edgepack") == ["site", f"site.new.{os.getpid()}", f"site.new.{os.getpid()}/numpy"]
