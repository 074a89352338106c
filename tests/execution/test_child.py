"""Functions in child processes: what goes through, and every way in which a child can go wrong."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import child_functions as functions
import crashing_backend
import pytest
from child_functions import Item

from edgepack.engines.onnxruntime import engine as onnxruntime
from edgepack.errors import ChildError, CompileError, ConfigError, DataError, EdgepackError, StorageError
from edgepack.execution import child as children
from edgepack.specs.model import CompiledModel, OnnxModel, TensorSpec
from edgepack.specs.target import Target

pytestmark = pytest.mark.slow

HELPERS = Path(__file__).resolve().parents[1] / "helpers"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "child.log"


OPTIONS: dict[str, Any] = {}


def call(function: Any, *arguments: Any, log: Path, limit_s: float = 60, **options: Any) -> Any:
    return children.call(function, *arguments, limit_s=limit_s, log=log, **{**OPTIONS, **options})


@pytest.fixture(params=["started", "forked"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Let ``call`` start processes, or fork them."""
    way: str = request.param
    if way == "forked":
        monkeypatch.setitem(OPTIONS, "forked", True)
        parents = {call(functions.parent, log=tmp_path / "begun.log") for _ in range(3)}
        assert parents - {os.getpid()}, "the second call begins the process that forks"
    return way


either = pytest.mark.usefixtures("either_way")


def is_alive(pid: int) -> bool:
    """Say whether a process runs: one that was killed and not yet collected by init does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


def wait_until(condition: Any) -> None:
    """Wait for something that must happen; a minute is never taken when it does."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


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


# --- children that die or hang ----------------------------------------------------------------------------------------


@either
@pytest.mark.parametrize(
    ("function", "arguments", "how"),
    [
        (functions.segfault, (), "killed by SIGSEGV"),
        (functions.end_by_signal, (int(signal.SIGKILL),), "killed by SIGKILL, as by another program"),
        (functions.end_by_signal, (int(signal.SIGABRT),), "killed by SIGABRT"),
        (functions.end_by_signal, (int(signal.SIGRTMIN) + 3,), "killed by signal"),
        (functions.end_at_once, (7,), "exit status 7"),
        (functions.end_at_once, (0,), "exit status 0"),
    ],
)
def test_a_crash_costs_one_call(function: Any, arguments: tuple[Any, ...], how: str, log: Path) -> None:
    with pytest.raises(ChildError) as caught:
        call(function, *arguments, log=log)
    assert f"crashed ({how}" in caught.value.message
    assert caught.value.exit_code == 4
    assert str(log) in caught.value.hint
    assert call(functions.add, 1, log=log) == 11


def test_memory_is_blamed_when_the_kernel_says_so(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for counts, words in (((3, 4), "because memory ran out"), ((3, 3), "as by another program"),
                          ((None, None), "as when memory runs out")):  # fmt: skip
        asked = iter(counts)
        monkeypatch.setattr(children, "_killed_for_memory", lambda asked=asked: next(asked))
        with pytest.raises(ChildError, match=f"killed by SIGKILL, {words}"):
            call(functions.end_by_signal, int(signal.SIGKILL), log=log)


@either
def test_a_crash_tells_where_it_was_and_its_last_words(log: Path) -> None:
    with pytest.raises(ChildError) as caught:
        call(functions.segfault, log=log)
    assert "about to read address 0" in log.read_text()
    assert "in segfault" in caught.value.log  # the stack, by faulthandler


def test_a_log_that_is_not_text_is_shown_all_the_same(log: Path) -> None:
    with pytest.raises(ChildError) as caught:
        call(functions.print_bytes, log=log)
    assert "\ufffd\ufffd broken \ufffd text" in caught.value.log


def test_only_the_end_of_a_long_log_is_carried(log: Path) -> None:
    log.parent.mkdir()
    with log.open("wb") as file:
        file.truncate(1 << 33)
    with pytest.raises(ChildError) as caught:
        call(functions.end_at_once, 1, log=log)
    assert caught.value.log.endswith("giving up\n")
    assert len(caught.value.log) <= 2000


@pytest.fixture(scope="module")
def hung(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[ChildError, Path]]:
    """How four that hang ended, side by side as each takes the whole limit, and the file that says which process."""
    folder = tmp_path_factory.mktemp("hung")
    for _ in range(2):
        call(functions.add, 1, log=folder / "begun.log", forked=True)

    def ended(name: str) -> ChildError:
        argument = "step 7 of 9" if name == "hang_after_printing" else folder / name
        function = getattr(functions, name.removesuffix(" (forked)"))
        with pytest.raises(ChildError) as caught:
            call(function, argument, log=folder / f"{name}.log", limit_s=3, forked=name.endswith("(forked)"))
        return caught.value

    names = ("hang", "hang_deaf", "hang_deaf (forked)", "hang_after_printing")
    with ThreadPoolExecutor(4) as pool:
        return {name: (error, folder / name) for name, error in zip(names, pool.map(ended, names), strict=True)}


@pytest.mark.parametrize("name", ["hang", "hang_deaf", "hang_deaf (forked)"])
def test_a_hang_ends_at_the_limit(name: str, hung: dict[str, tuple[ChildError, Path]]) -> None:
    error, started = hung[name]
    assert f"{name.removesuffix(' (forked)').replace('_', ' ')} took longer than 3 s" in error.message
    assert "--compile-limit" in error.hint
    assert not is_alive(int(started.read_text()))


def test_a_hang_carries_its_last_words(hung: dict[str, tuple[ChildError, Path]]) -> None:
    error, _ = hung["hang_after_printing"]
    assert "took longer" in error.message
    assert "step 7 of 9" in error.log


@either
def test_a_limit_that_is_over_before_the_child_began_is_kept(log: Path) -> None:
    with pytest.raises(ChildError, match="took longer than 0 s"):
        call(functions.add, 1, log=log, limit_s=0)


def test_no_limit_is_allowed(log: Path) -> None:
    assert call(functions.add, 1, log=log, limit_s=float("inf")) == 11


# --- grandchildren ----------------------------------------------------------------------------------------------------


@either
def test_processes_that_a_child_leaves_are_ended(log: Path, tmp_path: Path) -> None:
    pid = call(functions.leave_a_process, tmp_path / "pid", log=log)
    wait_until(lambda: not is_alive(pid))


@either
def test_a_crash_is_seen_although_a_grandchild_holds_the_pipe(log: Path, tmp_path: Path) -> None:
    with pytest.raises(ChildError, match="killed by SIGSEGV"):
        call(functions.fork_and_die, tmp_path / "pid", log=log)
    wait_until(lambda: not is_alive(int((tmp_path / "pid").read_text())))


# --- parents that are interrupted or die ------------------------------------------------------------------------------


@either
def test_an_error_in_the_parents_progress_ends_the_child(log: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(functions.count, 10_000_000, log=log, progress=interrupt)


PARENT = """
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
import child_functions
from edgepack.execution import child
forked = sys.argv[4] == "forked"
for _ in range(2):
    child.call(child_functions.add, 1, limit_s=60, forked=forked)
child.call(child_functions.hang_deaf, Path(sys.argv[2]), limit_s=600, log=Path(sys.argv[3]), forked=forked)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_parent_that_is_ended_takes_the_child_with_it(
    number: signal.Signals, either_way: str, log: Path, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    command = [sys.executable, "-c", PARENT, str(HELPERS), str(started), str(log), either_way]
    parent = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wait_until(lambda: started.is_file() and started.read_text())
    child = int(started.read_text())
    assert is_alive(child)
    parent.send_signal(number)
    assert parent.wait(timeout=60) != 0
    wait_until(lambda: not is_alive(child))


@either
def test_what_is_held_stays_locked_until_the_child_is_gone(log: Path, tmp_path: Path) -> None:
    """A parent that is killed has closed its files a moment before the child that dies of it is gone."""
    file, started = tmp_path / "lock", tmp_path / "started"
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with ThreadPoolExecutor(1) as pool, file.open() as other:
        ending = pool.submit(call, functions.hang_deaf, started, log=log, held=handle)
        wait_until(lambda: started.is_file() and started.read_text())
        os.close(handle)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.kill(int(started.read_text()), signal.SIGKILL)
        with pytest.raises(ChildError):
            ending.result()
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@either
def test_nothing_stays_open_or_unwaited(log: Path, tmp_path: Path) -> None:
    def state() -> tuple[int, str]:
        return len(list(Path("/proc/self/fd").iterdir())), Path("/proc/self/task").joinpath(
            str(os.getpid()), "children"
        ).read_text()

    for _ in range(3):  # one process that forks stays
        call(functions.add, 1, log=log)
    before = state()
    for function, arguments in (
        (functions.add, (1,)),
        (functions.segfault, ()),
        (functions.raise_unknown, ("x",)),
        (functions.hang, (tmp_path / "s",)),
    ):
        try:
            call(function, *arguments, log=log, limit_s=60 if function is not functions.hang else 0.5)
        except EdgepackError:
            continue
    assert state() == before


# --- engines ----------------------------------------------------------------------------------------------------------


def _model(tmp_path: Path) -> OnnxModel:
    import onnx
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(proto, tmp_path / "model.onnx")
    specs = [(TensorSpec(name, "float32", ("N", 4)),) for name in ("x", "y")]
    size = (tmp_path / "model.onnx").stat().st_size
    return OnnxModel(tmp_path / "model.onnx", "0" * 64, size, 17, *specs)


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("segfault", "crashed (killed by SIGSEGV)"),
        ("abort", "crashed (killed by SIGABRT)"),
        ("exit", "crashed (exit status 0)"),
        ("hang", "took longer than 3 s"),
    ],
)
def test_an_engine_that_goes_wrong_costs_one_compile(mode: str, message: str, log: Path, tmp_path: Path) -> None:
    for _ in range(2):  # what is forked hangs soon enough for a short limit, on a busy machine too
        call(functions.add, 1, log=log, forked=True)
    model = _model(tmp_path)
    bad, good = (Target("t", title, "onnxruntime", "x86_64") for title in (mode, "good"))
    for folder in ("bad", "good"):
        (tmp_path / folder).mkdir()
    with pytest.raises(ChildError) as caught:
        call(crashing_backend.compile_model, model, bad, "fp32", tmp_path / "bad", log=log, limit_s=3, forked=True)
    assert message in caught.value.message
    assert "compiling model.onnx" in log.read_text()
    compiled = call(onnxruntime.compile_model, model, good, "fp32", tmp_path / "good", log=log)
    assert isinstance(compiled, CompiledModel)
    assert (compiled.folder / compiled.entry).is_file()


def test_an_engines_refusal_comes_back_with_its_words_in_the_log(log: Path, tmp_path: Path) -> None:
    model = _model(tmp_path)
    model.path.write_bytes(model.path.read_bytes().replace(b"Relu", b"Rely"))
    with pytest.raises(CompileError, match="ONNX Runtime refused"):
        call(onnxruntime.compile_model, model, Target("t", "t", "onnxruntime", "x86_64"), "fp32", tmp_path, log=log)
    assert "Rely" in log.read_text()


def test_a_request_is_a_document(log: Path) -> None:
    """What a child is asked is JSON without anything that could run: a function's name and values."""
    assert json.loads(json.dumps({"arguments": [1]})) == {"arguments": [1]}
    with pytest.raises(EdgepackError, match="AttributeError"):
        call(lambda: 1, log=log)
