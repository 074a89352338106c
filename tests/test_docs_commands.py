"""README.md and docs/: every console block runs, in the order of the pages."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pages import ROOT, of_kind, page_names, read_page

PROGRAMS = ("edgepack", "python")


def pages_before(name: str) -> list[str]:
    """The pages that must run before a page, the last one first."""
    page = read_page(name)
    return [page.after, *pages_before(page.after)] if page.after is not None else []


# make test-all leaves these out: they train, tune, build and look for most, which is tested part by part elsewhere.
OF_THEIR_OWN = (
    "docs/engines/tensorrt.md",
    "docs/engines/tvm.md",
    "docs/many-models.md",
    "docs/targets.md",
    "docs/tasks.md",
    "docs/texts-sounds-tables.md",
)


# Each page goes on from what the quickstart built: make test-all runs the others.
def parameters() -> list[object]:
    names = sorted((name for name in page_names() if of_kind(name, PROGRAMS)), key=lambda name: len(pages_before(name)))
    assert set(OF_THEIR_OWN) <= set(names)
    own = {name: [pytest.mark.own] for name in OF_THEIR_OWN}
    return [pytest.param(name, marks=[pytest.mark.slow, pytest.mark.long, *own.get(name, [])]) for name in names]


def masked(line: str) -> str:
    """A line of output without its numbers, their units of time, and the widths of columns and rules."""
    line = re.sub(r"[+-]?[0-9]+(?:[.,][0-9]+)*(?:e[+-]?[0-9]+)?", "#", line)
    line = re.sub(r"# (?:ns|µs|ms|s)\b", "# time", line)
    line = re.sub(r"\b(?:ns|µs|ms)\b", "time", line)  # in a heading
    return " ".join(re.sub(r"─+", "─", line).split())


def in_short(words: list[str]) -> list[str]:
    """A command as the tests run it: what is measured, where the page leaves the time open, a quarter of it.

    The peaks of this host, which are most of what a short measurement takes, are measured by a page's first one alone.
    """
    match words:
        case ["edgepack", "build", *given] if not {"--duration", "--no-benchmark"} & set(given):
            return [*words, "--duration", "0.5"]
        case ["edgepack", "demo", *given]:
            return ["python", "-P", str(ROOT / "tests" / "helpers" / "brief_demo.py"), "demo", *given]
        case ["edgepack", "benchmark", *given] if "--sign" in given:
            return [*words, "--no-limit"]
    return words


def run_page(name: str, folder: Path, environment: dict[str, str]) -> None:
    for file, text in read_page(name).files.items():
        (folder / file).write_text(text, encoding="utf-8")
    for command in of_kind(name, PROGRAMS):
        words = in_short(shlex.split(command.line))
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, f"{command.line}\n{done.stderr}"
        said = {masked(line) for line in (done.stdout + done.stderr).splitlines()}
        for line in command.output:
            assert line == "..." or masked(line) in said, f"{command.line}\ndoes not say: {line}\nbut:\n{done.stderr}"


@pytest.fixture(scope="module")
def folder_after(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Run a page in a folder that is as the pages before it leave it, each of which runs once."""
    shared = tmp_path_factory.mktemp("docs")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "EDGEPACK_STORE": str(shared / "store"),
        "COLUMNS": "120",
    }
    place = shared / "place"
    ran: dict[str, Path | str] = {}

    def run(name: str) -> Path:
        if name not in ran:
            left = shared / name.replace("/", "-")
            before = read_page(name).after
            found = run(before) if before is not None else None
            ran[name] = f"{name} failed, which is to be run before"
            # Every page in one place, as its user has it: what a page before it built is not built again.
            shutil.rmtree(place, ignore_errors=True)
            if found is None:
                place.mkdir()
            else:
                shutil.copytree(found, place, symlinks=True)
            run_page(name, place, environment)
            shutil.copytree(place, left, symlinks=True)
            ran[name] = left
        result = ran[name]
        assert isinstance(result, Path), result
        return result

    yield run
    shutil.rmtree(shared, ignore_errors=True)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", parameters())
def test_the_commands_of_a_page_run_in_order(name: str, folder_after: Callable[[str], Path]) -> None:
    folder = folder_after(name)
    if name == "docs/report.md":
        assert (folder / "report.html").stat().st_size > 5000
