"""What a board that lies may say: as much as is taken, and in bounded time. A program stands for ssh."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import pytest

from edgepack.errors import ConfigError, RemoteError
from edgepack.remote import commands, ssh

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
    with pytest.raises(RemoteError), ssh.conversation(BOARD, ["true"], 60):
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


def test_a_conversation(says: object) -> None:
    says("read line; echo got $line; wc -c; echo last >&2; exit 3")  # type: ignore[operator]
    with ssh.conversation(BOARD, ["true"], 30) as (talk, ended):
        talk.say(b"this\n")
        assert talk.line(1000) == b"got this\n"
        talk.say(bytes(1 << 20))
    assert ended == [ssh.Answer(3, b"1048576\n", "last")]


def test_a_line_has_an_end(says: object) -> None:
    says("printf 0123456789; sleep 0.2; printf 'ab\\ncd'")  # type: ignore[operator]
    with ssh.conversation(BOARD, ["true"], 30) as (talk, ended):
        assert [talk.line(4) for _ in range(4)] == [b"0123", b"4567", b"89ab", b"\n"]
    assert ended[0].out == b"cd"


@pytest.mark.parametrize(
    ("line", "talked"),
    [
        ("sleep 20", lambda talk: talk.line(10)),
        ("while :; do printf .; sleep 0.1; done", lambda talk: talk.line(1000)),
        ("sleep 20", lambda talk: talk.say(bytes(1 << 20))),
        ("exec sleep 20", lambda _: None),
        ("sleep 20 & exec sleep 0.1", lambda talk: talk.line(10)),  # ssh goes, and what it started holds its pipes
        ("exec 1>&-; sleep 20", lambda _: None),
    ],
    ids=["says nothing", "says no whole line", "reads nothing", "does not end", "leaves another", "closes and stays"],
)
def test_a_board_that_answers_nothing_is_left(says: object, line: str, talked: object) -> None:
    says(line)  # type: ignore[operator]
    began = time.monotonic()
    silent = pytest.raises(ssh.SilentError, match="board was silent for 1 s")
    with silent as caught, ssh.conversation(BOARD, ["true"], 0.6) as (talk, _):
        talked(talk)  # type: ignore[operator]
    assert "keeps the board busy" in str(caught.value.hint)
    assert time.monotonic() - began < 20


def test_a_file_for_a_board_that_answers_nothing_is_not_sent_again(
    says: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(f"echo x >>{tmp_path}/asked; exec sleep 20")  # type: ignore[operator]
    monkeypatch.setattr(commands, "_SILENT_S", 0.5)
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(ssh.SilentError):
        commands.send(BOARD, tmp_path / "file")
    assert (tmp_path / "asked").read_text() == "x\n"


def test_a_host_has_a_length_that_a_file_can_be_named_by() -> None:
    with pytest.raises(ConfigError, match="is not a host"):
        ssh.Board("x" * 300)


@pytest.mark.parametrize("line", ["echo Welcome to camera 7", "printf '%0*d' 9000 0 | tr 0 ["])
def test_what_others_print_before_an_answer_is_shown(says: object, tmp_path: Path, line: str) -> None:
    """A login shell that greets: it passed for another version of edgepack."""
    shown = "Welcome to camera 7" if "echo" in line else r"\[\[\["
    says(f'{line}; echo \'{{"python": "3.11"}}\'')  # type: ignore[operator]
    with pytest.raises(RemoteError, match=shown) as caught:
        commands.probe(BOARD)
    assert "~/.bashrc" in (caught.value.hint or "")
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    with pytest.raises(RemoteError, match=shown):
        commands.send(BOARD, path, sleep=lambda _: None)


def test_what_others_print_behind_an_answer_is_shown(says: object) -> None:
    says('echo \'{"python": "3.11", "arch": "x"}\'; echo bye')  # type: ignore[operator]
    with pytest.raises(RemoteError, match="bye"):
        commands.probe(BOARD)


@pytest.mark.parametrize(
    "locale", ["LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0", "PYTHONIOENCODING=latin-1", "LC_ALL=xx_YY"]
)
def test_answers_and_names_are_utf_8_whatever_the_locale(says: object, locale: str) -> None:
    """It was what the board's locale has: names came back as other ones, and an answer in Latin-1 was not read."""
    says(f'while [ "$1" != -- ]; do shift; done; shift 2; export {locale}; exec sh -c "$1"')  # type: ignore[operator]
    board = ssh.Board("board", sys.executable)
    words = ssh.python(board, "-c", "import sys; print(sys.argv[1]); sys.exit(sys.argv[1])", "Prüfstand ✓")
    found = ssh.ask(board, words, 30)
    assert found.out.decode() == "Prüfstand ✓\n"
    assert found.err.endswith("Prüfstand ✓")
