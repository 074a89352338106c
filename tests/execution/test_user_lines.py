"""What the user's own code prints, told apart from what others print."""

from __future__ import annotations

import io
from pathlib import Path

import child_functions

from edgepack.execution import child
from edgepack.execution.user_lines import UserLines


def listened() -> tuple[UserLines, list[str]]:
    told: list[str] = []
    return UserLines(io.StringIO(), told.append), told


def test_whole_lines_of_the_user_are_told() -> None:
    out, told = listened()
    print("epoch 1", end="", file=out)
    assert told == []
    print(", loss 0.5\nepoch 2", file=out)
    print(file=out)
    assert told == ["epoch 1, loss 0.5", "epoch 2"]


def test_what_python_and_packages_print_is_not() -> None:
    out, told = listened()
    import pprint

    pprint.pprint({"a": 1}, stream=out)  # written by the standard library
    exec(compile("print('made at run time', file=out)", "<string>", "exec"), {"out": out})
    assert told == []


def test_a_flood_is_cut() -> None:
    out, told = listened()
    for i in range(1000):
        print(i, file=out)
    assert told[199:] == ["199", "... more than 200 lines; the log has them all"]
    print("x" * 10_000, file=out)
    assert len(told) == 201


def test_everything_is_passed_on() -> None:
    stream = io.StringIO()
    lines = UserLines(stream, lambda line: None)
    assert lines.write("abc\n") == 4
    lines.flush()
    assert stream.getvalue() == "abc\n"
    assert lines.getvalue() == "abc\n"  # any other attribute is the stream's


def test_a_child_tells_what_the_user_printed_and_keeps_it_in_its_log(tmp_path: Path) -> None:
    lines: list[str] = []
    log = tmp_path / "child.log"
    assert child.call(child_functions.prints, "hello\n", limit_s=60, log=log, said=lines.append) == "hello\n"
    assert lines == ["hello"]
    assert "hello" in log.read_text()
    assert child.call(child_functions.prints, "again", limit_s=60, log=log) == "again"
