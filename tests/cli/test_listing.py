"""The names that options take."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from edgepack.cli.listing import names_by_kind

Run = Callable[..., "Ran"]  # noqa: F821 - cli/conftest.py


def test_names_are_listed_one_a_line_or_all_together(edgepack: Run) -> None:
    found = names_by_kind()
    assert {"imagenet", "cifar10"} <= set(found["recipes"])
    assert {"rpi5", "raspberry-pi-5", "host-onnxruntime"} <= set(found["targets"])
    assert edgepack("list", "recipes").out.splitlines() == list(found["recipes"])
    assert json.loads(edgepack("list", "--json").out) == {kind: list(names) for kind, names in found.items()}
    assert json.loads(edgepack("list", "metrics", "--json").out) == list(found["metrics"])
    everything = edgepack("list").out
    for names in found.values():
        assert all(name in everything for name in names)


def test_every_name_is_taken_by_its_option(edgepack: Run) -> None:
    for target in names_by_kind()["targets"]:
        assert edgepack("targets", "show", target, "--json").code == 0


def test_no_name_is_broken_where_the_terminal_is_narrow(edgepack: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgepack.cli.show.terminal.columns", lambda _: 60)
    lines = edgepack("list").out.splitlines()
    assert max(map(len, lines)) <= 60
    assert " ".join(line.strip() for line in lines) == " ".join(
        f"{kind}: {' '.join(names)}" for kind, names in names_by_kind().items()
    )
