"""What --store and EDGEPACK_STORE name: a folder, or a shared store behind a folder of limited size."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from shared_outputs import Output, make

from edgepack.errors import ConfigError
from edgepack.execution.open_store import cache_folder, open_store
from edgepack.execution.shared.address import parse_address
from edgepack.execution.shared.shared import SharedStore


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EDGEPACK_STORE", "EDGEPACK_STORE_KEY", "EDGEPACK_STORE_CACHE", "EDGEPACK_STORE_CACHE_BYTES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_folder_is_a_store_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_store(tmp_path / "x").behind is None
    assert open_store().folder == tmp_path / "cache" / "edgepack" / "store"
    monkeypatch.setenv("EDGEPACK_STORE", str(tmp_path / "mine"))
    assert open_store().folder == tmp_path / "mine"
    assert open_store(str(tmp_path / "x")).folder == tmp_path / "x"


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(ConfigError, match="is a file"):
        open_store(tmp_path / "x")


def test_an_address_has_a_folder_of_its_own_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"file://{tmp_path}/shared"
    monkeypatch.setenv("EDGEPACK_STORE", url)
    store = open_store()
    assert isinstance(store.behind, SharedStore)
    assert store.behind.url == url
    assert store.folder.parent == tmp_path / "cache" / "edgepack" / "shared"
    assert store.folder == cache_folder(parse_address(url + "?read-only"))
    assert store.folder != open_store(url + "/other").folder
    monkeypatch.setenv("EDGEPACK_STORE_CACHE", str(tmp_path / "here"))
    assert open_store().folder.parent == tmp_path / "here"


def test_a_key_is_read_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "key"
    key.write_bytes(b"k" * 32)
    key.chmod(0o600)
    monkeypatch.setenv("EDGEPACK_STORE_KEY", str(key))
    behind = open_store(f"file://{tmp_path}/shared").behind
    assert isinstance(behind, SharedStore)
    assert behind.secret == b"k" * 32


def test_what_was_not_used_for_longest_leaves_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"file://{tmp_path}/shared"
    monkeypatch.setenv("EDGEPACK_STORE_CACHE_BYTES", "25000")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from shared_outputs import Output, make\n"
        "from edgepack.execution.open_store import open_store\n"
        "store = open_store(sys.argv[2])\n"
        "for n in map(int, sys.argv[3].split(',')):\n"
        "    store.run('stage', 1, {'number': n}, Output, make(n, 10_000))\n"
        "print(len(store.ran), len(store.reused))"
    )
    helpers = Path(__file__).parents[1] / "helpers"

    def run(numbers: str) -> str:
        command = [sys.executable, "-c", program, str(helpers), url, numbers]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert run("1,2,3") == "3 0"
    folder = cache_folder(parse_address(url))
    ages = {1: 300, 2: 200, 3: 100}
    for value in folder.glob("stage/*/_value.json"):
        number = (value.parent / "model.bin").read_bytes()[0]
        stamp = value.stat().st_mtime - ages[number]
        os.utime(value, (stamp, stamp))
    assert run("1") == "0 1"  # opening removed it, the longest unused; it came again
    assert run("3") == "0 1"
    left = {(path.parent / "model.bin").read_bytes()[0] for path in folder.glob("stage/*/_value.json")}
    assert left == {1, 3}


def test_a_folder_in_use_is_not_made_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"file://{tmp_path}/shared"
    first = open_store(url)
    first.run("stage", 1, {}, Output, make())
    monkeypatch.setenv("EDGEPACK_STORE_CACHE_BYTES", "0")
    assert open_store(url).entries()


@pytest.mark.parametrize("text", ["lots", "-1", "1.5", ""])
def test_a_size_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("EDGEPACK_STORE_CACHE_BYTES", text)
    with pytest.raises(ConfigError, match="EDGEPACK_STORE_CACHE_BYTES"):
        open_store(f"file://{tmp_path}/shared")
