from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpack into the test's folder, never into the user's cache."""
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def edgepack(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run the command line in this process and return its exit code, stdout and stderr."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: object) -> Ran:
        from edgepack.cli.main import cli

        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([str(word) for word in words])
        captured = capfd.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def refusal(
    edgepack: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[tuple[str, ...]], str]:
    """Run a command that is refused, in an empty folder that stays empty, and return what it says."""

    def run(words: tuple[str, ...]) -> str:
        monkeypatch.chdir(tmp_path)
        ran = edgepack(*words)
        assert (ran.code, ran.out) == (2, "")
        assert list(tmp_path.iterdir()) == []
        return ran.err

    return run
