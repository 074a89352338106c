"""What a board that lies may say: as much as is taken, and in bounded time. A program stands for ssh."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from edgepack.errors import RemoteError
from edgepack.remote import ssh

BOARD = ssh.Board("board")


@pytest.fixture
def says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Let a line of shell answer in the place of a board."""

    def let(line: str) -> None:
        script = tmp_path / "ssh.sh"
        script.write_text(f"{line}\n")
        monkeypatch.setenv(ssh.VARIABLE, f"sh {script}")

    return let


def test_an_answer_and_its_words(says: object) -> None:
    says("echo out; echo err >&2; exit 3")  # type: ignore[operator]
    assert ssh.ask(BOARD, ["true"], 30) == ssh.Answer(3, b"out\n", "err")


def test_an_endless_answer_takes_bounded_memory(says: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "_MOST_ANSWER_BYTES", 1 << 20)
    says("exec yes")  # type: ignore[operator]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RemoteError, match="more than 1 MiB"):
        ssh.ask(BOARD, ["true"], 60)
    with pytest.raises(RemoteError), ssh.conversation(BOARD, ["true"]):
        pass
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_of_endless_words_the_last_are_kept(says: object) -> None:
    says("yes | head -c 3000000 >&2; echo last >&2; exit 1")  # type: ignore[operator]
    found = ssh.ask(BOARD, ["true"], 60)
    assert found.err.endswith("last")
    assert len(found.err) < 5000


def test_who_says_nothing_is_waited_for_no_longer_than_allowed(says: object) -> None:
    says("exec sleep 60")  # type: ignore[operator]
    with pytest.raises(RemoteError, match="did not finish"):
        ssh.ask(BOARD, ["true"], 0.5)
