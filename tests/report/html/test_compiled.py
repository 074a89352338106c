"""Compiled templates are kept, and never run where they are not this template's, or another user may write them."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

from edgepack.report.html import compiled

OPTIONS = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one template, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "a.jinja").write_text("<{{ x }}>\n{% if x %}\nyes\n{% endif %}\n")
    return tmp_path / "templates"


def rendered(folder: Path, **options: bool) -> str:
    return str(compiled.environment(folder, {**OPTIONS, **options}).get_template("a.jinja").render(x="&"))


def refuse(*_: object) -> None:
    raise AssertionError("compiled again")


def kept() -> list[Path]:
    return sorted(compiled.cache_folder().iterdir())


def test_a_template_is_compiled_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = rendered(folder)
    assert first == "<&amp;>\nyes\n"
    monkeypatch.setattr(jinja2.Environment, "_generate", refuse)
    assert rendered(folder) == first
    assert [path.stat().st_mode & 0o777 for path in (compiled.cache_folder(), *kept())] == [0o700, 0o600]


def test_a_changed_template_and_other_options_are_compiled_anew(folder: Path) -> None:
    rendered(folder)
    assert rendered(folder, trim_blocks=False) == "<&amp;>\n\nyes\n"
    assert rendered(folder, autoescape=False) == "<&>\nyes\n"
    (folder / "a.jinja").write_text("other")
    assert rendered(folder) == "other"


def test_another_version_compiles_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered(folder)
    monkeypatch.setattr(jinja2, "__version__", "0.0")
    rendered(folder)
    assert len(kept()) == 2


@pytest.mark.parametrize("size", [0, 1, 40, 200])
def test_a_damaged_file_is_made_again(folder: Path, size: int) -> None:
    first = rendered(folder)
    (path,) = kept()
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    assert rendered(folder) == first
    assert path.read_bytes() == whole


def test_a_folder_that_others_may_write_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = rendered(folder)
    (path,) = kept()
    path.write_bytes(b"not ours")
    compiled.cache_folder().chmod(0o777)
    assert rendered(folder) == first
    assert path.read_bytes() == b"not ours"


def test_without_a_place_for_it_the_page_is_written_all_the_same(folder: Path) -> None:
    compiled.cache_folder().parent.parent.mkdir()
    compiled.cache_folder().parent.write_text("a file")
    assert rendered(folder) == "<&amp;>\nyes\n"
