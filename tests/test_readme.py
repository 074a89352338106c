"""The first two commands of README.md: the demonstration and the tests. All others are run by test_docs_commands.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pages import README, ROOT, read_page

BRIEF_DEMO = ROOT / "tests" / "helpers" / "brief_demo.py"
# These tests may run under make themselves, whose flags another make would take over.
OUTSIDE = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}


def shown_by_make(target: str) -> list[str]:
    words = ["make", "--no-print-directory", "-n", target]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True, env=OUTSIDE)
    return done.stdout.splitlines()


def test_the_two_commands_come_first() -> None:
    assert [command.line for command in read_page(README).commands[:2]] == ["make demo", "make test"]


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_first_command_runs_the_demonstration(tmp_path: Path) -> None:
    """``make demo`` itself, writing elsewhere; the environment that runs the tests is taken as the one it sets up.

    Of each photograph there are 5 crops for 20, and what is built is measured for a quarter of the time.
    """
    assert shown_by_make("demo")[-1] == "EDGEPACK_STORE=artifacts/store .venv/bin/edgepack demo"
    places = ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "store")]
    (tmp_path / "sitecustomize.py").write_text("from edgepack.demo import photos\nphotos._CROPS = 5\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    words = [sys.executable, "-P", str(BRIEF_DEMO), "demo", *places]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "report:" in done.stderr
    assert len(list((tmp_path / "out").glob("*.edgepack"))) == 4
    again = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True, env=environment)
    assert "✓" not in again.stderr, "a second run must reuse every stage"


def test_the_second_command_is_the_one_that_runs_this() -> None:
    """``make test`` runs these very tests, so that here only its recipe is looked at."""
    assert any(".venv/bin/python -m pytest" in line for line in shown_by_make("test"))
