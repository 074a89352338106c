"""Tables that installed packages add to by entry points."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from edgepack.base.extensions import Table, extension_sources
from edgepack.errors import ConfigError, ToolchainError

OWN = {"first": "json", "second": "json:dumps"}


def install(folder: Path, name: str, entries: str, code: str = "") -> None:
    """Lay a package with entry points into a folder, as an installer does."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[edgepack.tests]\n{entries}\n")
    (folder / f"{name}.py").write_text(code)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table[object]:
    monkeypatch.syspath_prepend(str(tmp_path))
    return Table("trial", "edgepack.tests", OWN)


def test_own_rows_are_modules_or_attributes(table: Table[object]) -> None:
    import json

    assert table.names() == ("first", "second")
    assert table.get("first") is json
    assert table.get("second") is json.dumps
    assert "first" in table


def test_a_package_adds_a_row(table: Table[object], tmp_path: Path) -> None:
    install(tmp_path, "added_trial", "third = added_trial:VALUE", "VALUE = 3\n")
    assert table.names() == ("first", "second", "third")
    assert table.get("third") == 3
    assert dict(table.all())["third"] == 3


def test_an_unknown_name_is_answered_with_the_nearest(table: Table[object]) -> None:
    with pytest.raises(ConfigError) as caught:
        table.get("secnd")
    assert "unknown trial 'secnd'" in caught.value.message
    assert "second" in caught.value.hint


def test_a_package_that_cannot_be_imported_is_a_warning(
    table: Table[object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(tmp_path, "broken_trial", "third = broken_trial", "import no_such_module_here\n")
    with caplog.at_level(logging.WARNING, "edgepack"):
        assert [name for name, _ in table.all()] == ["first", "second"]
    assert "'third'" in caplog.text
    assert "broken_trial" in caplog.text
    with pytest.raises(ToolchainError, match=r"third.*broken_trial.*no_such_module_here"):
        table.get("third")


def test_a_package_cannot_take_a_name_of_edgepack(
    table: Table[object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import json

    install(tmp_path, "taking_trial", "first = taking_trial", "")
    with caplog.at_level(logging.WARNING, "edgepack"):
        assert table.get("first") is json
        assert table.names() == ("first", "second")
    assert "ignored" in caplog.text


def test_a_row_of_another_package_must_be_of_the_tables_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    table = Table("trial", "edgepack.tests", {}, int)
    install(tmp_path, "wrong_trial", "third = wrong_trial:VALUE\nfourth = wrong_trial:GOOD", "VALUE, GOOD = 'a', 4\n")
    with pytest.raises(ToolchainError, match="'third' of the package wrong_trial is a str, not a int") as caught:
        table.get("third")
    assert caught.value.hint == "update or remove wrong_trial"
    with caplog.at_level(logging.WARNING, "edgepack"):
        assert table.find("third") is None
    assert "'third'" in caplog.text
    assert table.find("fourth") == 4
    assert table.find("fifth") is None


def test_the_source_of_added_packages_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    assert not [path for path in extension_sources() if path.is_relative_to(tmp_path)]
    install(tmp_path, "single_trial", "third = single_trial", "raise SystemExit\n")
    install(tmp_path, "folder_trial", "fourth = folder_trial.inner:VALUE")
    (tmp_path / "folder_trial.py").unlink()
    (tmp_path / "folder_trial").mkdir()
    for name in ("__init__", "inner"):
        (tmp_path / "folder_trial" / f"{name}.py").write_text("raise SystemExit\n")
    found = [path.relative_to(tmp_path).as_posix() for path in extension_sources() if path.is_relative_to(tmp_path)]
    assert found == ["folder_trial/__init__.py", "folder_trial/inner.py", "single_trial.py"]
