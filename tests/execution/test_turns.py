"""Whose turn it is on a machine."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgepack.errors import EdgepackError
from edgepack.execution.turns import alone_in, build_turn, machine_id, turn


def test_this_machine_has_one_name() -> None:
    assert machine_id() == machine_id()
    assert len(machine_id()) == 8


def test_who_measures_waits_for_the_others_and_is_not_overtaken(tmp_path: Path) -> None:
    order: list[str] = []
    inside, leave = threading.Event(), threading.Event()

    def stays() -> None:
        with turn(tmp_path, alone=False):
            inside.set()
            leave.wait(10)
            order.append("first")

    def comes(name: str, alone: bool) -> None:
        with turn(tmp_path, alone=alone):
            order.append(name)
            time.sleep(0.1)
            order.append(name)

    threads = [threading.Thread(target=stays)]
    threads[0].start()
    inside.wait(10)
    for name, alone in (("alone", True), ("late", False)):
        threads.append(threading.Thread(target=comes, args=(name, alone)))
        threads[-1].start()
        time.sleep(0.2)
    assert order == []
    leave.set()
    for thread in threads:
        thread.join()
    assert order == ["first", "alone", "alone", "late", "late"]


def test_stages_that_do_not_measure_run_beside_each_other(tmp_path: Path) -> None:
    with turn(tmp_path, alone=False), turn(tmp_path, alone=False):
        pass


def test_a_killed_process_gives_its_turn_back(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from edgepack.execution.turns import turn\n"
        "with turn(pathlib.Path(sys.argv[1]), alone=True):\n    print('in', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"in\n"
        process.send_signal(signal.SIGKILL)
        with turn(tmp_path, alone=True):
            pass


def test_two_stages_work_in_one_folder_after_each_other(tmp_path: Path) -> None:
    """As one that was handed out again while it still runs where it was; others do not wait for it."""
    order: list[str] = []

    def works(name: str, out: Path) -> None:
        with alone_in(out, tmp_path / "turns"):
            order.append(f"{name} begins")
            time.sleep(0.1)
            order.append(f"{name} ends")

    with alone_in(tmp_path / "other", tmp_path / "turns"):
        threads = [threading.Thread(target=works, args=(name, tmp_path / "out")) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert [line.split()[1] for line in order] == ["begins", "ends"] * 3
    assert all(order[i][0] == order[i + 1][0] for i in (0, 2, 4))
    assert not list((tmp_path / "turns").iterdir())


def test_builds_into_one_folder_take_turns_and_say_so(tmp_path: Path) -> None:
    out, order, told = tmp_path / "new" / "out", list[str](), list[str]()
    waits = threading.Event()

    def comes() -> None:
        def tell(text: str) -> None:
            told.append(text)
            waits.set()

        with build_turn(out, tell):
            order.append("second")

    with build_turn(out, told.append):
        thread = threading.Thread(target=comes)
        thread.start()
        assert waits.wait(10)
        with build_turn(tmp_path / "other", told.append):
            order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert told == [f"another build writes into {out}; this one goes on after it"]
    assert not list(out.iterdir()), "nothing is left in the folder"


def test_a_build_without_a_folder_to_write_into_says_which(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgepackError, match="file"), build_turn(tmp_path / "file", print):
        pass
