"""Zig links for every processor: for libc alone, for the glibc that was asked, and the same bytes everywhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgepack.engines.common import linking
from edgepack.engines.common.linking import build_program
from edgepack.engines.tvm.elf import machine_of
from edgepack.errors import CompileError, ToolchainError

pytestmark = pytest.mark.long

SOURCE = """
#include <dlfcn.h>
#include <stdlib.h>
int main(int count, char** words) { return dlopen(words[0], RTLD_NOW) ? secure_getenv("A") != 0 : count; }
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source" / "small.cpp"
    path.parent.mkdir()
    path.write_text(SOURCE)
    return path


@pytest.mark.parametrize("arch", linking.ARCHITECTURES)
def test_a_program_is_built_for_each_processor(arch: str, source: Path, tmp_path: Path) -> None:
    build_program(source, tmp_path / "out", arch, "2.31")
    assert machine_of(tmp_path / "out") == arch
    data = (tmp_path / "out").read_bytes()
    wanted = {tuple(int(n) for n in v.split(b".")) for v in re.findall(rb"GLIBC_(2\.[0-9]+)", data)}
    assert wanted
    assert max(wanted) <= (2, 31)
    assert str(tmp_path).encode() not in data


def test_a_newer_glibc_is_used_where_it_is_there(source: Path, tmp_path: Path) -> None:
    build_program(source, tmp_path / "old", "aarch64", "2.31")
    build_program(source, tmp_path / "new", "aarch64", "2.36")
    assert b"GLIBC_2.34" not in (tmp_path / "old").read_bytes()
    assert b"GLIBC_2.34" in (tmp_path / "new").read_bytes()  # dlopen moved into libc in 2.34


def test_another_folder_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    other = tmp_path / "deeper" / "elsewhere" / "small.cpp"
    other.parent.mkdir(parents=True)
    other.write_text(SOURCE)
    build_program(source, tmp_path / "a", "aarch64", None)
    build_program(other, tmp_path / "b", "aarch64", None)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_zig_says_is_told(source: Path, tmp_path: Path) -> None:
    source.write_text("int main() { return undeclared; }")
    with pytest.raises(CompileError, match="undeclared"):
        build_program(source, tmp_path / "out", "x86_64", None)
    assert not (tmp_path / "out").exists()


def test_an_unknown_processor_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="linking is not supported for armv7l") as caught:
        build_program(source, tmp_path / "out", "armv7l", None)
    assert "aarch64" in caught.value.hint


def test_without_zig_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ToolchainError, match="ziglang") as caught:
        linking.zig()
    assert caught.value.hint == "pip install 'edgepack[tvm]'"
