"""What is said of a path at which nothing is."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgepack.base.missing import nothing_at


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for name in ("net.onnx", "net.edgepack", "models/other.onnx"):
        (tmp_path / name).touch()


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("nett.onnx", "did you mean 'net.onnx'?"),
        ("NET.ONNX", "did you mean 'net.onnx'?"),
        ("net", "did you mean 'net.onnx'?"),
        ("net.onnx ", "did you mean 'net.onnx'?"),
        ("models\\other.onnx", "did you mean 'models/other.onnx'?"),
        ("models\\none.onnx", "separate folders by /, not by \\"),
        ("model/other.onnx", "did you mean 'models/other.onnx'?"),
        ("models/othr.onnx", "did you mean 'models/other.onnx'?"),
        ("nowhere/at/all.onnx", "there is no folder nowhere either: check the path"),
        ("C:\\work\\net.onnx", "that is a path of Windows: give the one that it has on this machine"),
        ("c:/work/net.onnx", "that is a path of Windows: give the one that it has on this machine"),
        (
            "~/net.onnx",
            "write the home folder in full: a shell replaces ~ only at the beginning of a word without quotes",
        ),
        ("net.onnx/other.onnx", "net.onnx is a file, not a folder"),
        ("net.onnx/deeper/other.onnx", "net.onnx is a file, not a folder"),
        ("net.onx", "did you mean 'net.onnx'?"),
        ("file:///work/net.onnx", "give the path alone: /work/net.onnx"),
        ("s3://bucket/net.onnx", "that is an address: fetch what is there, and give its path"),
        ("missing.onnx", "check it"),
        ("xyzzy", "check it"),
        ("a\0b", "check it"),
        ("x" * 5000, "check it"),
        ("", "check it"),
    ],
)
def test_what_was_meant_is_said(path: str, hint: str) -> None:
    assert nothing_at(path, "check it", suffixes=(".onnx",))[1] == hint


def test_the_suffix_that_belongs_there_is_proposed() -> None:
    assert nothing_at("net", "", suffixes=(".edgepack",))[1] == "did you mean 'net.edgepack'?"


def test_a_space_at_an_end_is_seen() -> None:
    assert nothing_at("net.onnx ", "", what="model")[0] == "there is no model 'net.onnx '"
    assert nothing_at(Path("none"), "")[0] == "there is no file none"


@pytest.mark.parametrize("leads_to", ["fetched/../gone.onnx", "link.onnx"])
@pytest.mark.parametrize("below", ["", "/net.onnx"])
def test_a_link_to_nothing_is_named_and_not_proposed(leads_to: str, below: str) -> None:
    Path("link.onnx").symlink_to(leads_to)
    _, hint = nothing_at(f"link.onnx{below}", "")
    assert hint == f"link.onnx is a link to '{leads_to}', where nothing is"


def test_a_name_with_a_line_s_end_stays_on_one_line() -> None:
    assert nothing_at("two\nlines", "")[0] == r"there is no file 'two\nlines'"


def test_of_a_large_folder_only_the_first_names_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read = itertools.count()

    class Entries:
        """A folder without end."""

        def __enter__(self) -> Iterator[SimpleNamespace]:
            return (SimpleNamespace(name=f"{number}.jpg") for number in read)

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr("os.scandir", lambda _: Entries())
    assert nothing_at("none.onnx", "check it")[1] == "check it"
    assert next(read) == 5000


def test_a_pipe_is_there_and_not_proposed() -> None:
    os.mkfifo("pipe.onnx")
    message, hint = nothing_at("pipe.onnx", "check the path")
    assert message == "pipe.onnx is not a regular file"
    assert hint == "give a file: that is a pipe, a socket or a device"
