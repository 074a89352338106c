"""Functions in child processes: every way in which a child, its parent or an engine can go wrong."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import child_functions as functions
import crashing_backend
import pytest
from child_calls import call, is_alive, wait_until

from edgepack.engines.onnxruntime import engine as onnxruntime
from edgepack.errors import ChildError, CompileError, EdgepackError
from edgepack.execution import child as children
from edgepack.specs.model import CompiledModel, OnnxModel, TensorSpec
from edgepack.specs.target import Target

pytestmark = pytest.mark.slow

HELPERS = Path(__file__).resolve().parents[1] / "helpers"

either = pytest.mark.usefixtures("either_way")


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
from typing import Any

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
