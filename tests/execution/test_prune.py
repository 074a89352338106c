"""What a store holds, and what is removed of it first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgepack.errors import ConfigError
from edgepack.execution.prune import by_stage, entries_of, prune
from edgepack.execution.store import Store
from edgepack.execution.store_folder import VALUE

NOW = 1_000_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Three outputs of two stages, of 1000, 2000 and 4000 bytes, used ten, two and one days ago."""
    made = Store(tmp_path / "store")
    for stage, size, days in (("export", 1000, 10), ("compile", 2000, 2), ("compile", 4000, 1)):
        made.run(stage, 1, {"size": size}, int, lambda out, size=size: (out / "file").write_bytes(b"x" * size))
        (entry,) = [e for e in made.entries() if (e / "file").stat().st_size == size]
        os.utime(entry / VALUE, (NOW - days * 86_400, NOW - 20 * 86_400))
    return made


def sizes(store: Store) -> list[int]:
    return sorted((entry / "file").stat().st_size for entry in store.entries())


def test_entries_are_listed_by_their_last_use(store: Store) -> None:
    found = entries_of(store)
    assert [(entry.stage, NOW - entry.used_s) for entry in found] == [
        ("export", 864_000), ("compile", 172_800), ("compile", 86_400),
    ]  # fmt: skip
    assert all(entry.size_bytes > size for entry, size in zip(found, (1000, 2000, 4000), strict=True))
    stages = by_stage(found)
    assert [(stage.stage, stage.entries) for stage in stages] == [("compile", 2), ("export", 1)]
    assert sum(stage.size_bytes for stage in stages) == sum(entry.size_bytes for entry in found)


@pytest.mark.parametrize(
    ("since", "most", "left"),
    [
        (NOW - 5 * 86_400, None, [2000, 4000]),
        (NOW, None, []),
        (NOW - 11 * 86_400, None, [1000, 2000, 4000]),
        (None, 5000, [4000]),
        (None, 0, []),
        (None, 1 << 40, [1000, 2000, 4000]),
        (NOW - 5 * 86_400, 5000, [4000]),
    ],
)
def test_the_longest_unused_goes_first(store: Store, since: float | None, most: int | None, left: list[int]) -> None:
    removed = prune(store, since, most)
    assert sizes(store) == left
    assert len(removed) == 3 - len(left)
    assert not [path for path in store.folder.rglob(".*") if path.is_dir()], "nothing half removed is left"


def test_what_was_removed_is_made_again(store: Store) -> None:
    prune(store, None, 0)
    fresh = Store(store.folder)
    assert fresh.run("export", 1, {"size": 1000}, int, lambda out: (out / "file").write_bytes(b"x" * 1000)) == 1000
    assert (fresh.ran, fresh.reused) == (["export"], [])


def test_only_what_a_store_made_is_an_entry(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / VALUE).write_text("{}")
    (store.folder / "export" / ("0" * 32)).symlink_to(outside)
    mine = store.folder / "export" / "mine"
    mine.mkdir()
    (mine / VALUE).write_text("{}")
    prune(store, None, 0)
    assert (outside / VALUE).is_file()
    assert (mine / VALUE).is_file()


def test_another_folder_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError):
        prune(Store(tmp_path), None, 0)
    assert (tmp_path / "thesis.txt").is_file()
