"""Children that are forked begin as fresh processes would; where they would not, processes are started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import child_functions as functions
import pytest

from edgepack.base import versions
from edgepack.base.stage import stage
from edgepack.device.host import host_facts
from edgepack.errors import ChildError
from edgepack.execution import child, fork_server, forks
from edgepack.execution.events import Silent
from edgepack.execution.runner import StageRunner
from edgepack.execution.store import Store

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux alone"),
]


@pytest.fixture(autouse=True)
def own_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test has servers of its own, which end with it."""
    servers = fork_server._Servers()
    monkeypatch.setattr(fork_server, "_SERVERS", servers)
    yield
    servers.end()


def call(function: Any, *arguments: Any, **options: Any) -> Any:
    return child.call(function, *arguments, limit_s=60, forked=True, **options)


def server() -> int:
    """The number of the process that forks."""
    assert fork_server._SERVERS._server is not None
    return fork_server._SERVERS._server._process.pid


def begin() -> int:
    for _ in range(2):
        call(functions.add, 1)
    return server()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_second_call_begins_a_process_that_forks_all_further_ones() -> None:
    parents = [call(functions.parent) for _ in range(4)]
    assert parents == [os.getpid(), *[server()] * 3]


def test_what_most_stages_need_is_loaded_in_forked_ones_alone() -> None:
    assert [call(functions.loaded, "onnx") for _ in range(3)] == [False, True, True]
    assert not child.call(functions.loaded, "onnx", limit_s=60)
    assert not call(functions.loaded, "torch")


@stage("named", loads=("wave",))
def named(number: int) -> int:
    return functions.parent()


def test_what_a_stage_names_and_its_own_module_stay_loaded_for_all_later_ones() -> None:
    begin()
    own = "edgepack.base.versions"
    assert [call(functions.loaded, name) for name in ("wave", own)] == [False, False]
    assert call(named, 1) == server()
    assert call(versions.is_older, "1.2", "1.10")
    assert [call(functions.loaded, name) for name in ("wave", own)] == [True, True]


def test_nothing_of_the_users_stays_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of theirs may change between two calls."""
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    assert forks._kept(["child_functions", "wave", "json"]) == ["wave"]
    assert forks._kept(["edgepack.no_such"]) == ["edgepack.no_such"]


def test_nothing_is_imported_for_others_while_a_child_runs(tmp_path: Path) -> None:
    """What would end the server then would end the child."""
    begin()
    started = tmp_path / "started"
    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(call, functions.hang_deaf, started)
        wait_until(lambda: started.is_file() and started.read_text())
        assert call(named, 1) == server()
        assert not call(functions.loaded, "wave")
        os.kill(int(started.read_text()), signal.SIGKILL)
        with pytest.raises(ChildError):
            ending.result()


@stage("threaded", loads=("begins_a_thread",))
def threaded(number: int) -> int:
    return functions.parent()


def test_a_package_that_starts_a_thread_ends_the_server_and_no_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    (tmp_path / "begins_a_thread.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    begin()
    assert [call(threaded, 1) for _ in range(2)] == [os.getpid()] * 2


def test_the_environment_is_that_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what libraries may read when they are loaded, under another process; edgepack's own, under the same one."""
    first = begin()
    monkeypatch.setenv("EDGEPACK_TEST", "1")
    assert (call(functions.environment, "EDGEPACK_TEST"), server()) == ("1", first)
    monkeypatch.delenv("EDGEPACK_TEST")
    assert (call(functions.environment, "EDGEPACK_TEST"), server()) == ("", first)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert (call(functions.environment, "OMP_NUM_THREADS"), server()) == ("7", first)
    assert call(functions.environment, "OMP_NUM_THREADS") == "7"
    assert server() != first
    assert not is_alive(first)
    once = {"OMP_NUM_THREADS": "5"}
    assert call(functions.environment, "OMP_NUM_THREADS", environment=once) == "5"
    assert call(functions.environment, "OMP_NUM_THREADS") == "7"


def test_the_folder_and_the_import_path_are_those_of_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin()
    monkeypatch.chdir(tmp_path)
    assert call(functions.folder_and_path)[0] == str(tmp_path)
    (tmp_path / "below").mkdir()
    assert call(functions.folder_and_path, folder=tmp_path / "below")[0] == str(tmp_path / "below")
    monkeypatch.syspath_prepend(str(tmp_path / "below"))
    for _ in range(2):
        assert call(functions.folder_and_path) == (str(tmp_path), str(tmp_path / "below"))


def test_numpys_random_numbers_are_each_processs_own() -> None:
    begin()
    assert len({call(functions.drawn) for _ in range(3)}) == 3


def test_many_at_once_are_told_apart() -> None:
    begin()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda n: call(functions.add, n, n), range(40))) == [2 * n for n in range(40)]


def test_without_the_process_that_forks_others_are_started(tmp_path: Path) -> None:
    """The one that it has forked ends with it, as crashed."""
    pid, started = begin(), tmp_path / "started"

    def end_it() -> None:
        wait_until(lambda: started.is_file() and started.read_text())
        os.kill(pid, signal.SIGKILL)

    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(end_it)
        with pytest.raises(ChildError, match="killed by SIGKILL"):
            call(functions.hang_deaf, started)
        ending.result()
    wait_until(lambda: not is_alive(int(started.read_text())))
    assert [call(functions.parent) for _ in range(3)] == [os.getpid()] * 3


def test_one_that_has_several_threads_forks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that another thread holds would be held for ever in what is forked."""
    text = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    (tmp_path / "sitecustomize.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert [call(functions.parent) for _ in range(3)] == [os.getpid()] * 3


def test_one_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """An import that hangs would take the time limit from every stage."""
    begun = fork_server.run_module(child.__name__)
    monkeypatch.setattr(fork_server, "_ANSWER_S", 0.2)
    monkeypatch.setattr(
        fork_server, "run_module",
        lambda name: begun if name == child.__name__ else [sys.executable, "-c", "import time; time.sleep(600)"],
    )  # fmt: skip
    assert [call(functions.parent) for _ in range(3)] == [os.getpid()] * 3


OWNER = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
import child_functions
from edgepack.execution import child, fork_server, forks
for _ in range(2):
    child.call(child_functions.add, 1, limit_s=60, forked=True)
print(fork_server._SERVERS._server._process.pid, flush=True)
if sys.argv[2] == "fork" and os.fork() == 0:  # it has a copy of the socket, and calls for itself
    before = fork_server._SERVERS._server._process.pid
    parents = {child.call(child_functions.parent, limit_s=60, forked=True) for _ in range(3)}
    assert parents == {fork_server._SERVERS._server._process.pid} != {before}
elif sys.argv[2] == "fork":
    assert os.wait()[1] == 0
    assert child.call(child_functions.parent, limit_s=60, forked=True) == fork_server._SERVERS._server._process.pid
elif sys.argv[2] == "left behind":  # the copy of the socket lives on
    left = os.fork()
    if left == 0:
        os.closerange(0, 3)
        time.sleep(60)
    print(left, flush=True)
elif sys.argv[2] == "wait":
    sys.stdin.read()
os._exit(3) if sys.argv[2] in ("exit at once", "left behind") else None
"""


@pytest.mark.parametrize("how", ["end", "exit at once", "left behind", "wait", "fork"])
def test_it_ends_with_the_process_that_began_it(how: str) -> None:
    command = [sys.executable, "-W", "error", "-c", OWNER, str(Path(functions.__file__).parent), how]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, text=True, **pipes) as owner:
        assert owner.stdout is not None
        assert owner.stderr is not None
        pid = int(owner.stdout.readline())
        if how == "wait":
            assert is_alive(pid)
            owner.kill()
        ends = {"exit at once": 3, "left behind": 3, "wait": -signal.SIGKILL}
        assert owner.wait(30) == ends.get(how, 0), owner.stderr.read()
        assert owner.stderr.read() == ""
        left = owner.stdout.read().split()
    wait_until(lambda: not is_alive(pid))
    for copy in map(int, left):
        assert is_alive(copy)
        os.kill(copy, signal.SIGKILL)


@stage("plain")
def plain(number: int, out: Path) -> int:
    return functions.parent()


@stage("timed", host="speed")
def timed(number: int, out: Path) -> int:
    return functions.parent()


@stage("users", tracks=lambda *_: True)
def users(number: int, out: Path) -> int:
    return functions.parent()


def test_stages_are_forked_but_for_those_that_measure_or_run_users_code(tmp_path: Path) -> None:
    """The memory that is measured would have what the stage did not load; what users import would seem loaded."""
    runner = StageRunner(Store(tmp_path / "store"), tmp_path / "logs", Silent(), 60.0, host_facts())
    begin()
    found = [runner.run(function, 1) for function in (plain, timed, users)]
    assert found == [server(), os.getpid(), os.getpid()]
