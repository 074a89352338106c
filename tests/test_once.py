"""What is made once for a session, whatever the number of its processes."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest
from once import made_once


def fill(folder: Path) -> None:
    time.sleep(0.1)  # long enough for the others to come
    with (folder / "times").open("a") as file:
        file.write("made\n")


def worker(base: Path) -> None:
    os.environ["PYTEST_XDIST_WORKER"] = "gw0"
    made_once(base, "thing", fill)


def test_several_processes_make_it_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=worker, args=(tmp_path / f"popen-gw{n}",)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "thing" / "times").read_text() == "made\n"


def test_one_process_keeps_it_in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder above is shared with other sessions, older ones among them."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    assert made_once(tmp_path, "thing", fill) == tmp_path / "thing"


def test_what_failed_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)

    def fail(folder: Path) -> None:
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        made_once(tmp_path, "thing", fail)
    made_once(tmp_path, "thing", fill)
    assert (tmp_path / "thing" / "times").read_text() == "made\n"
