"""Every console block of README.md is executed, with the files that its other blocks show."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
FILES = {m[1]: text for kind, text in BLOCKS if kind in ("python", "toml") and (m := re.match(r"# (\S+)\n", text))}
LINES = [line for kind, text in BLOCKS if kind == "console" for line in text.splitlines()]
COMMANDS = [line.removeprefix("$ ") for line in LINES if line.startswith("$ ")]
# These tests may run under make themselves, whose flags another make would take over.
OUTSIDE = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}


def test_every_shown_file_has_a_name() -> None:
    assert len(FILES) == sum(kind in ("python", "toml") for kind, _ in BLOCKS)


def test_the_two_commands_come_first() -> None:
    assert COMMANDS[:2] == ["make demo", "make test"]


@pytest.mark.timeout(900)
def test_the_first_command_runs_the_demonstration(tmp_path: Path) -> None:
    """``make demo`` itself, writing elsewhere; the environment that runs the tests is taken as the one it sets up."""
    shown = subprocess.run(
        ["make", "--no-print-directory", "-n", "demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=OUTSIDE,
    ).stdout
    assert shown.splitlines()[-1] == "EDGEPACK_STORE=artifacts/store .venv/bin/edgepack demo"
    places = ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "store")]
    words = [sys.executable, "-m", "edgepack", "demo", *places]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "report:" in done.stderr
    assert len(list((tmp_path / "out").glob("*.edgepack"))) == 4
    again = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "✓" not in again.stderr, "a second run must reuse every stage"


def test_the_second_command_is_the_one_that_runs_this(tmp_path: Path) -> None:
    """``make test`` runs these very tests, so that here only its recipe is looked at."""
    shown = subprocess.run(
        ["make", "--no-print-directory", "-n", "test"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=OUTSIDE,
    ).stdout
    assert ".venv/bin/python -m pytest" in shown


@pytest.mark.timeout(900)
def test_every_other_command_runs_in_order(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "EDGEPACK_STORE": str(tmp_path / "store"),
    }
    for line in COMMANDS[2:]:
        words = shlex.split(line)
        assert words[0] in ("edgepack", "python"), line
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert (tmp_path / "report.html").stat().st_size > 5000
