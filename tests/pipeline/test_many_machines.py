"""The example of docs/many-machines.md, run on three machines made of network namespaces; and one that goes away."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import graph_models
import numpy as np
import pytest
from machines import Machine, available, machines
from pages import read_page

pytestmark = [
    pytest.mark.long,
    pytest.mark.own,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not available(), reason="no network namespaces can be made: it needs root and ip on Linux"),
]
PAGE = "docs/many-machines.md"
ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.0.0.3")
_WHERE = re.compile(r"# on (\S+?), (?:(and stays)|in (/\S+))\n(.*)", re.DOTALL)


@dataclass(frozen=True)
class Step:
    """A block of the page: where it is run, in which folder, or that it stays."""

    address: str
    folder: str
    script: str
    stays: bool


def steps(heading: str) -> list[Step]:
    """The blocks below a heading of the page."""
    text = read_page(PAGE).text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    found = [_WHERE.fullmatch(block) for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]
    return [Step(match[1], match[3] or "", match[4], bool(match[2])) for match in found if match]


@dataclass
class Site:
    """The three machines, the folder that all mount and the one that each has for itself."""

    by_address: dict[str, Machine]
    shared: Path
    build: Path
    logs: Path

    def run(self, step: Step) -> subprocess.Popen[bytes]:
        """Start a step as the page says it, with this test's places for the page's."""
        script = step.script.replace("/shared", str(self.shared))
        folder = {"/shared": self.shared, "/build": self.build}.get(step.folder, self.logs)
        return self.by_address[step.address].start(script, folder, self.log(step))

    def log(self, step: Step) -> Path:
        return self.logs / f"{step.address}-{step.script.splitlines()[-1].split()[1]}.log"

    def finish(self, step: Step, limit_s: float = 900.0) -> str:
        """Run a step to its end and return what it said."""
        code = self.run(step).wait(limit_s)
        said = self.log(step).read_text()
        assert code == 0, said
        return said


def make_inputs(folder: Path) -> None:
    """Write what the page says that is there."""
    (folder / "models.toml").write_text(read_page(PAGE).files["models.toml"])
    graph_models.write(graph_models.small_conv(), folder, "first.onnx")
    graph_models.write(graph_models.small_conv(18), folder, "second.onnx")
    proto = graph_models.small_conv()
    name, dims = proto.graph.input[0].name, proto.graph.input[0].type.tensor_type.shape.dim
    shape = [dim.dim_value or 1 for dim in dims][1:]
    np.savez(folder / "samples.npz", **{name: np.random.default_rng(0).random((32, *shape), dtype=np.float32)})


def bundles(folder: Path) -> dict[str, str]:
    found = sorted(folder.rglob("*.edgepack"))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    shared, build, logs = tmp_path / "shared", tmp_path / "build", tmp_path / "logs"
    for folder in (shared, build, logs):
        folder.mkdir()
    with machines(ADDRESSES, tmp_path / "disks", {build: "build"}) as found:
        make_inputs(shared)
        for machine in found.values():
            make_inputs(machine.own / "build")
        yield Site(found, shared, build, logs)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The bundles that one machine makes by itself."""
    folder = tmp_path_factory.mktemp("alone")
    make_inputs(folder)
    words = [sys.executable, "-m", "edgepack", "build", "models.toml", "--store", str(folder / "store")]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    return bundles(folder / "all")


def begin(site: Site) -> Step:
    """Start what stays of the first example; return the build."""
    *stay, build = steps("Workers on two machines")
    assert [step.stays for step in stay] == [True, True, True]
    words = ("Scheduler at", "Registered to", "Registered to")
    for step, said in zip(stay, words, strict=True):
        site.run(step)
        wait_for_words(site.log(step), said)
    return build


def wait_for_words(log: Path, words: str) -> None:
    wait_for(lambda: log.exists() and words in log.read_text())


def wait_for(what: Callable[[], bool], limit_s: float = 120.0) -> None:
    deadline = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def worked(site: Site) -> int:
    """How many machines have run a stage: each takes its turns by a file of its own."""
    return len(list((site.shared / "store" / "logs").rglob("room-*.log")))


def test_workers_of_two_machines_make_the_bundles_of_one(site: Site, alone: dict[str, str]) -> None:
    site.finish(begin(site))
    assert bundles(site.shared / "all") == alone
    assert len(alone) == 8
    assert worked(site) == 2, "stages ran on both machines with workers, and none where the build is"


def test_a_machine_that_goes_away_costs_its_task_only(site: Site, alone: dict[str, str]) -> None:
    """Its cable is pulled: no connection is closed, nothing answers."""
    build = begin(site)
    process = site.run(build)
    wait_for(lambda: worked(site) == 2)
    site.by_address["10.0.0.3"].unplug()
    began = time.monotonic()
    assert process.wait(900) == 0, site.log(build).read_text()
    print(f"built {time.monotonic() - began:.0f} s after the cable was pulled")
    assert bundles(site.shared / "all") == alone


def test_the_first_machine_may_begin_again(site: Site, alone: dict[str, str]) -> None:
    """The scheduler is killed in the middle; the same commands go on from the store."""
    build = begin(site)
    process = site.run(build)
    wait_for(lambda: any(site.shared.glob("store/*/*/_value.json")))
    for pid in scheduler_pids(site):
        with contextlib.suppress(ProcessLookupError):
            subprocess.run(["kill", "-KILL", str(pid)], check=False)
    assert process.wait(300) != 0
    said = site.log(build).read_text()
    assert "the scheduler is gone" in said
    assert "Traceback" not in said
    kept = len(list(site.shared.glob("store/*/*/_value.json")))
    assert kept
    for log in site.logs.iterdir():
        log.unlink()
    site.finish(begin(site))
    assert bundles(site.shared / "all") == alone


def scheduler_pids(site: Site) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if b"scheduler\0--host\x0010.0.0.1" in path.read_bytes() and in_space(path.parent, site):
                found.append(int(path.parent.name))
    return found


def in_space(process: Path, site: Site) -> bool:
    space = Path("/run/netns") / site.by_address["10.0.0.1"].space
    return (process / "ns" / "net").stat().st_ino == space.stat().st_ino


def test_a_bucket_gives_what_another_machine_made(site: Site, alone: dict[str, str]) -> None:
    server, writer, reader = steps("Builds that share what they made")
    site.run(server)
    wait_for_words(site.log(server), "Running on")
    site.finish(writer)
    shutil.rmtree(site.by_address[writer.address].own / "home")  # the reader has nothing of it
    site.finish(reader)
    disks = [site.by_address[step.address].own / "build" for step in (writer, reader)]
    first, second = (json.loads((disk / "all" / "build.json").read_text()) for disk in disks)
    assert bundles(disks[0] / "all") == bundles(disks[1] / "all")
    assert len(bundles(disks[1] / "all")) == 8
    assert first["stages_run"] > 0
    assert second["stages_run"] == 0
