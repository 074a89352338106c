"""The commands on the store of stage outputs: a folder, and one that machines share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepack.execution.open_store import open_store
from edgepack.execution.store import Store

Run = Callable[..., "Ran"]  # noqa: F821 - cli/conftest.py


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("store", "prune"), "give --older-than or --max-size"),
        (("store", "prune", "--older-than", "30"), "examples: 12h, 30d"),
        (("store", "prune", "--max-size", "5"), "examples: 500MB, 5GB"),
        (("store", "--clear", "list"), "cannot be used with 'list'"),
        (("store", "lst"), "did you mean 'list'"),
        (("store", "list", "--store", "s4://bucket/x"), "s4:// is not known"),
        (("store", "verify", "--store", "file://x"), "three strokes"),
    ],
)
def test_what_cannot_be_meant_changes_nothing(refusal: Callable[..., str], words: tuple[str, ...], said: str) -> None:
    assert said in refusal(words)


def test_the_store_is_listed_and_pruned(edgepack: Run, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    Store(folder).run("export", 1, {}, int, lambda out: (out / "file").write_bytes(b"x" * 5000))
    for words in (("store", "list", "--store", folder), ("store", "--store", folder, "list")):
        (found,) = json.loads(edgepack(*words, "--json").out)
        assert (found["stage"], found["entries"]) == ("export", 1)
    assert "\n1 output of a stage, 5" in edgepack("store", "list", "--store", folder).out
    kept = edgepack("store", "prune", "--older-than", "1d", "--store", folder)
    assert kept.out == "removed 0 outputs of stages, 0 B\n"
    pruned = json.loads(edgepack("store", "prune", "--max-size", "1kB", "--store", folder, "--json").out)
    assert pruned["removed"] == 1
    assert pruned["freed_bytes"] > 5000
    assert json.loads(edgepack("store", "list", "--store", folder, "--json").out) == []
    assert edgepack("store", "list", "--store", folder).out.splitlines()[-1] == "0 outputs of stages, 0 B"


def test_a_damaged_output_is_found_and_removed(edgepack: Run, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    store = Store(folder)
    for number in (1, 2):
        store.run("export", 1, {"n": number}, int, lambda out: (out / "file").write_bytes(b"x" * 5000))
    assert edgepack("store", "verify", "--store", folder).out == "every file is as it was stored\n"
    (store.entries()[0] / "file").write_bytes(b"y" * 5000)
    found = edgepack("store", "verify", "--store", folder)
    assert found.code == 5
    assert "1 damaged" in found.out
    assert store.entries()[0].name in found.out
    assert edgepack("store", "verify", "--remove", "--store", folder).code == 0
    assert len(store.entries()) == 1
    assert json.loads(edgepack("store", "verify", "--store", folder, "--json").out)["damaged"] == []


def test_a_shared_store_is_listed_verified_and_pruned(
    edgepack: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPACK_STORE_CACHE", str(tmp_path / "local"))
    monkeypatch.setenv("EDGEPACK_STORE", f"file://{tmp_path}/shared")
    store = open_store()
    for number in (1, 2):
        store.run("export", 1, {"n": number}, int, lambda out, n=number: (out / "file").write_bytes(bytes([n]) * 5000))
    (found,) = json.loads(edgepack("store", "list", "--json").out)
    assert (found["stage"], found["entries"], found["size_bytes"]) == ("export", 2, 10_000)
    blob = next(path for path in (tmp_path / "shared" / "blobs").rglob("*") if path.is_file())
    blob.write_bytes(b"y" * 5000)
    ran = edgepack("store", "verify")
    assert (ran.code, "1 damaged" in ran.out) == (5, True)
    assert edgepack("store", "verify", "--remove").code == 0
    assert edgepack("store", "verify").out == "every file is as it was stored\n"
    read_only = ("--store", f"file://{tmp_path}/shared?read-only")
    for words in (("prune", "--max-size", "1kB"), ("verify", "--remove")):
        refused = edgepack("store", *words, *read_only)
        assert (refused.code, "nothing is removed there" in refused.err) == (2, True)
    assert json.loads(edgepack("store", "prune", "--max-size", "1kB", "--json").out)["removed"] == 1
    assert not [path for path in (tmp_path / "shared").rglob("*") if path.is_file()]
    assert json.loads(edgepack("store", "--json").out)["folder"] == str(store.folder)
