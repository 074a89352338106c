"""Functions in child processes: what goes through, and the errors that they raise."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import child_functions as functions
import pytest
from child_calls import call
from child_functions import Item

from edgepack.errors import ChildError, CompileError, ConfigError, DataError, EdgepackError, StorageError

pytestmark = pytest.mark.slow

either = pytest.mark.usefixtures("either_way")


# --- what goes through ------------------------------------------------------------------------------------------------


@either
def test_a_value_of_every_kind_comes_back_equal(log: Path) -> None:
    item = Item(
        "naïve 苹果 🍎 \ud800 \0 \n", Path("/tmp/ä b"), -(1 << 80), 0.1, True, None, "b", (1, 2), {"t": (1e-300, 2.0)}
    )
    assert call(functions.echo, item, log=log) == item


@pytest.mark.parametrize(("arguments", "result"), [((1,), 11), ((1, 2), 3)])
def test_defaults_are_the_functions_own(arguments: tuple[int, ...], result: int, log: Path) -> None:
    assert call(functions.add, *arguments, log=log) == result


def test_a_function_may_return_nothing(log: Path) -> None:
    assert call(functions.nothing, 1, log=log) is None


@either
def test_the_function_runs_in_a_process_group_of_its_own(log: Path) -> None:
    pid, group, session, folder, *_ = call(functions.process_facts, log=log)
    assert pid == group == session != str(os.getpid())
    assert folder == str(Path.cwd())


@either
def test_numpys_products_have_one_thread_unless_the_user_says_otherwise(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    assert call(functions.environment, "OPENBLAS_NUM_THREADS", log=log) == "1"
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    assert call(functions.environment, "OPENBLAS_NUM_THREADS", log=log) == "3"


@either
def test_the_environment_can_be_added_to(log: Path) -> None:
    assert call(functions.environment, "EDGEPACK_TEST", log=log, environment={"EDGEPACK_TEST": "yes"}) == "yes"
    assert call(functions.environment, "EDGEPACK_TEST", log=log) == ""


def test_modules_in_the_current_folder_do_not_stand_in_for_the_standard_library(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "typing", "numpy", "selectors", "edgepack"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    assert call(functions.add, 1, log=log) == 11


def test_megabytes_go_both_ways(log: Path) -> None:
    assert call(functions.takes_text, "é" * 20_000_000, log=log) == 20_000_000
    assert call(functions.long_text, 20_000_000, log=log) == "é" * 20_000_000


@either
def test_what_is_printed_goes_to_the_log_and_not_to_us(log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call(functions.print_a_lot, 8, log=log) == 8
    assert log.stat().st_size == 2 * 8 * (1 << 20) + len("the last words\n")
    assert capfd.readouterr() == ("", "")


@either
def test_a_log_is_added_to(log: Path) -> None:
    log.parent.mkdir()
    log.write_text("before\n")
    call(functions.print_a_lot, 0, log=log)
    assert log.read_text() == "before\nthe last words\n"


@either
def test_a_child_may_have_children(log: Path, tmp_path: Path) -> None:
    assert call(functions.call_again, tmp_path / "inner.log", log=log) == 3


def test_a_function_may_be_called_while_an_error_is_handled(log: Path) -> None:
    try:
        raise ValueError("first")
    except ValueError:
        assert call(functions.add, 1, log=log) == 11


@either
def test_progress_arrives_in_order(log: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    assert call(functions.count, 300, log=log, progress=lambda *step: seen.append(step)) == 300
    assert seen == [("counting", n + 1, 300) for n in range(300)]


@either
def test_progress_from_several_threads_is_not_mixed_up(log: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    call(functions.count_from_threads, 50, log=log, progress=lambda *step: seen.append(step))
    assert sorted(seen) == sorted(("x" * 9000, n, i) for n in range(4) for i in range(50))


# --- errors that the function raises ----------------------------------------------------------------------------------


@either
@pytest.mark.parametrize(
    ("kind", "error", "message", "hint"),
    [
        ("data", DataError, "the samples are wrong", "give others"),
        ("child", ChildError, "a grandchild died", "look there"),
        ("default-hint", CompileError, "refused", CompileError.default_hint),
        ("other", StorageError, "the disk is full", StorageError.default_hint),
    ],
)
def test_our_errors_come_back_as_they_were(
    kind: str, error: type[EdgepackError], message: str, hint: str, log: Path
) -> None:
    with pytest.raises(error) as caught:
        call(functions.raise_known, kind, log=log)
    assert type(caught.value) is error
    assert (caught.value.message, caught.value.hint) == (message, hint)


@either
@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (functions.raise_unknown, ("kaputt é",), "RuntimeError: kaputt é"),
        (functions.raise_unknown, ("x" * 100_000,), "RuntimeError: xxx"),
        (functions.raise_interrupt, (), "KeyboardInterrupt"),
        (functions.call_exit, (3,), "SystemExit: 3"),
        (functions.recurse, (0,), "RecursionError"),
        (functions.returns_what_no_document_holds, ("nan",), "cannot hold the number nan"),
        (functions.returns_what_no_document_holds, ("set",), "cannot hold a set"),
        (functions.returns_what_no_document_holds, ("bytes",), "cannot hold a bytes"),
        (functions.returns_what_no_document_holds, ("object",), "cannot hold a object"),
    ],
)
def test_other_exceptions_become_errors_that_name_the_log(
    function: Any, arguments: tuple[Any, ...], message: str, log: Path
) -> None:
    with pytest.raises(EdgepackError) as caught:
        call(function, *arguments, log=log)
    assert type(caught.value) is EdgepackError
    assert message in caught.value.message
    assert len(caught.value.message) < 3000
    assert str(log) in caught.value.hint
    assert "Traceback" in log.read_text()


def test_a_full_disk_in_the_child_is_a_storage_error(log: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no space left while writing .*model\.bin"):
        call(functions.raise_disk_full, tmp_path / "model.bin", log=log)


def test_a_result_of_the_wrong_type_is_refused(log: Path) -> None:
    with pytest.raises(ConfigError, match="expected a whole number"):
        call(functions.returns_another_type, log=log)


def test_too_many_arguments_are_refused(log: Path) -> None:
    with pytest.raises(EdgepackError, match="takes 2 arguments, not 3"):
        call(functions.add, 1, 2, 3, log=log)


def test_an_argument_that_no_document_holds_is_refused_before_any_process(log: Path) -> None:
    with pytest.raises(TypeError, match="cannot hold a bytes"):
        call(functions.takes_text, b"bytes", log=log)
    assert not log.exists()


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        call(functions.add, 1, log=tmp_path / "file" / "child.log")


@either
def test_a_full_disk_of_temporary_files_is_told(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was taken for a want of memory, or for the log's disk: a worker's may be full where the build's is not."""
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: Path("/dev/full").open("w+b"))  # noqa: SIM115
    with pytest.raises(StorageError) as caught:
        call(functions.add, 1, log=log)
    assert caught.value.message == f"no space left while writing {tempfile.gettempdir()}"


def test_a_function_without_a_name_is_refused(log: Path) -> None:
    """What a child is asked is JSON without anything that could run: a function's name and values."""
    with pytest.raises(EdgepackError, match="AttributeError"):
        call(lambda: 1, log=log)
