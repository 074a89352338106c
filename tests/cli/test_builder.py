"""What commands that build need, and what is said where it is not there."""

from __future__ import annotations

import sys
from collections import namedtuple

import click
import pytest
from click.testing import CliRunner
from hidden import hide

from edgepack.cli.builder import PACKAGES, BuildCommand, missing_package, require_builder
from edgepack.errors import ToolchainError


def test_this_installation_builds() -> None:
    require_builder("edgepack build")


def test_missing_packages_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "onnx", "scipy")
    with pytest.raises(
        ToolchainError, match=r"'edgepack build' needs packages that are not installed: onnx, scipy"
    ) as caught:
        require_builder("edgepack build")
    assert caught.value.hint == "pip install 'edgepack[builder]'"
    with pytest.raises(ToolchainError) as caught:
        require_builder("edgepack demo")
    assert caught.value.hint == "pip install 'edgepack[demo]'", "all that it needs, not a part"


def test_an_old_python_is_told_apart_from_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, *PACKAGES)
    version = namedtuple("version", "major minor micro")(3, 10, 2)
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(ToolchainError, match=r"needs Python 3\.11 or newer; this is 3\.10"):
        require_builder("edgepack build")


def test_a_command_that_builds_says_so_before_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []

    @click.command("make-it", cls=BuildCommand)
    def command() -> None:
        ran.append(1)

    assert CliRunner().invoke(command).exit_code == 0
    hide(monkeypatch, "onnx")
    found = CliRunner().invoke(command)
    assert isinstance(found.exception, ToolchainError)
    assert "edgepack make-it" in found.exception.message
    assert ran == [1]


@pytest.mark.parametrize(
    ("name", "said"),
    [("onnx", "onnx is not installed"), ("PIL.Image", "PIL is not installed"), ("torch", None), (None, None)],
)
def test_a_part_that_turns_out_to_be_missing(name: str | None, said: str | None) -> None:
    found = missing_package(ModuleNotFoundError("no", name=name))
    assert (found.message if found else None) == said
