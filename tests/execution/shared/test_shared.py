"""Several machines on one store: servers of S3 and Google with faults before them, and a folder that they all see."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import cast

import gs_server
import pytest
import s3_server
from fault_proxy import Faults, proxy
from s3_server import BUCKET
from shared_outputs import Machine, Output, make

from edgepack.execution.shared import remote
from edgepack.execution.shared.shared import blob_name
from edgepack.execution.shared.upkeep import entries_of_shared, prune_shared, verify_shared
from edgepack.execution.store_folder import VALUE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),  # aiohttp's, of what gcsfs uploads
]
SERVERS = {"s3": s3_server, "gs": gs_server}


@pytest.fixture(scope="module", params=["s3", pytest.param("gs", marks=pytest.mark.long)])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[ModuleType, int]]:
    """A server of each protocol, and its port."""
    if request.param == "gs":
        pytest.importorskip("gcsfs")
        pytest.importorskip("gcp_storage_emulator")
    with SERVERS[request.param].server() as port:
        yield SERVERS[request.param], port


@pytest.fixture
def faults(server: tuple[ModuleType, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """The faults of a proxy before an empty server, which clients take for the server."""
    kind, port = server
    kind.empty(port)
    found = Faults()
    with proxy(port, found) as before:
        for name, value in kind.use(before).items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
def url(server: tuple[ModuleType, int]) -> str:
    return f"{server[0].PROTOCOL}://{BUCKET}/team"


def test_what_one_machine_made_another_one_takes(faults: Faults, url: str, tmp_path: Path) -> None:
    first, second = Machine(tmp_path / "a", url), Machine(tmp_path / "b", url)
    made, taken = first.output(size=5_000_000), second.output(size=5_000_000)
    assert (first.ran, second.ran, second.reused) == (["stage"], [], ["stage"])
    assert made.path.relative_to(first.folder) == taken.path.relative_to(second.folder)
    documents = [json.loads((output.path.parent / VALUE).read_bytes()) for output in (made, taken)]
    assert documents[0] == documents[1]
    asked = len(faults.seen)
    assert Machine(tmp_path / "b", url).output(size=5_000_000) == taken
    assert len(faults.seen) == asked, "what is here is not asked for again"
    assert not (first.told)
    assert not (second.told)


def test_an_output_that_is_none_is_taken_too(faults: Faults, url: str, tmp_path: Path) -> None:
    machines = [Machine(tmp_path / name, url) for name in ("a", "b")]
    for machine in machines:
        kind = cast("type[Output | None]", Output | None)
        assert machine.run("stage", 1, {}, kind, lambda _: None) is None
    assert [machine.ran for machine in machines] == [["stage"], []]


def test_what_takes_several_requests_arrives_whole(faults: Faults, url: str, tmp_path: Path) -> None:
    Machine(tmp_path / "a", url).output(size=60_000_000)  # gcsfs sends 50 MiB at once, s3fs as well
    taken = Machine(tmp_path / "b", url)
    taken.output(size=60_000_000)
    assert taken.ran == []


def test_a_server_is_listed_verified_and_pruned(faults: Faults, url: str, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "a", url)
    before = time.time()
    for number in range(3):
        machine.output(number)
    found = entries_of_shared(machine.shared)
    assert [(entry.stage, entry.size_bytes, entry.bad) for entry in found] == [("stage", 1000, "")] * 3
    assert all(before - 2 <= entry.written_s <= time.time() + 2 for entry in found)
    assert verify_shared(machine.shared) == ()
    machine.shared.remote.remove(next(named.name for named in machine.shared.remote.list("blobs") if named.size_bytes))
    assert [damage.name for damage in verify_shared(machine.shared)]
    prune_shared(machine.shared, None, 0)
    assert machine.shared.remote.list("records") == machine.shared.remote.list("blobs") == ()


def test_the_record_is_written_last_and_contents_once(faults: Faults, url: str, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "a", url)
    machine.output(1)
    machine.run("other", 1, {}, Output, make(1))
    puts = [path for method, path in faults.seen if method == "PUT"]
    assert ["records" in path for path in puts] == [False, False, True, True]


def test_a_reader_writes_nothing(faults: Faults, url: str, tmp_path: Path) -> None:
    Machine(tmp_path / "a", url).output(1)
    faults.seen.clear()
    reader = Machine(tmp_path / "b", url + "?read-only")
    reader.output(1)
    reader.output(2)
    assert (reader.ran, reader.reused) == (["stage"], ["stage"])
    assert {method for method, _ in faults.seen} == {"GET"}


def test_what_was_measured_stays_on_its_machine(faults: Faults, url: str, tmp_path: Path) -> None:
    for machine in (Machine(tmp_path / "a", url), Machine(tmp_path / "b", url)):
        machine.run("speed", 1, {}, Output, make(), shared=False)
        assert machine.ran == ["speed"]
    assert not faults.seen


def test_paths_of_one_machine_do_not_travel(faults: Faults, url: str, tmp_path: Path) -> None:
    def names_another(out: Path) -> Output:
        (out / "x").write_text("x")
        return Output(tmp_path / "elsewhere", 1)

    Machine(tmp_path / "a", url).run("stage", 1, {}, Output, names_another)
    assert not [path for method, path in faults.seen if method == "PUT"]


@pytest.mark.parametrize("path", ["/etc/passwd", "../../../secret", "deep/../../x"])
def test_a_record_cannot_name_files_outside(faults: Faults, url: str, tmp_path: Path, path: str) -> None:
    writer = Machine(tmp_path / "a", url)
    key, _ = writer._place("stage", 1, {"number": 1, "size": 1000})
    (tmp_path / "empty").mkdir()
    document = {"stage": "stage", "version": 1, "files": {}, "value": {"path": path, "number": 1}}
    writer.shared.keep(key, document, tmp_path / "empty")
    reader = Machine(tmp_path / "b", url)
    assert reader.output(1).path.is_relative_to(reader.folder)
    assert reader.ran == ["stage"]


@pytest.mark.parametrize("what", ["records", "blobs"])
def test_what_was_changed_is_made_again_and_mended(faults: Faults, url: str, tmp_path: Path, what: str) -> None:
    Machine(tmp_path / "a", url).output(1)
    faults.change = lambda method, path: method == "GET" and what in path
    second = Machine(tmp_path / "b", url)
    second.output(1)
    assert second.ran == ["stage"]
    assert "is not used" in second.told[0]
    faults.change = lambda _m, _p: False
    third = Machine(tmp_path / "c", url)
    third.output(1)
    assert third.ran == []


def test_damaged_contents_in_the_store_are_written_again(faults: Faults, url: str, tmp_path: Path) -> None:
    first = Machine(tmp_path / "a", url)
    made = first.output(1)
    digest = remote.hashlib.sha256(made.path.read_bytes()).hexdigest()
    first.shared.remote.write(blob_name(digest), b"\0" * 1000)
    second, third = Machine(tmp_path / "b", url), Machine(tmp_path / "c", url)
    second.output(1)
    third.output(1)
    assert (second.ran, third.ran) == (["stage"], [])


def test_a_cut_answer_is_asked_for_again(faults: Faults, url: str, tmp_path: Path) -> None:
    Machine(tmp_path / "a", url).output(1, size=300_000)
    left = [2]

    def cut(method: str, path: str) -> bool:
        left[0] -= method == "GET" and "blobs" in path
        return method == "GET" and "blobs" in path and left[0] >= 0

    faults.cut = cut
    second = Machine(tmp_path / "b", url)
    second.output(1, size=300_000)
    assert second.ran == []


def test_answers_that_fail_now_and_then_cost_nothing(faults: Faults, url: str, tmp_path: Path) -> None:
    failed: set[tuple[str, str]] = set()

    def error(method: str, path: str) -> bool:  # every third request that is new fails, and works when it comes again
        fails = (method, path) not in failed and len(set(faults.seen)) % 3 == 0
        failed.update([(method, path)] if fails else [])
        return fails

    faults.error = error
    first, second = Machine(tmp_path / "a", url), Machine(tmp_path / "b", url)
    for number in range(6):
        first.output(number)
    for number in range(6):
        second.output(number)
    assert len(failed) > 6
    assert second.ran == []
    assert not (first.told)
    assert not (second.told)


def test_a_store_that_fails_ends_no_build_and_is_left_alone(faults: Faults, url: str, tmp_path: Path) -> None:
    faults.error = lambda _m, _p: True
    machine = Machine(tmp_path / "a", url)
    for number in range(4):
        machine.output(number)
    assert machine.ran == ["stage"] * 4
    assert "fails" in machine.told[0]
    assert "left alone" in machine.told[-1]
    assert len(machine.told) == 2
    asked = len(faults.seen)
    machine.output(9)
    assert len(faults.seen) == asked


@pytest.mark.parametrize("what", ["records", "blobs"])
def test_a_lost_update_is_made_again(faults: Faults, url: str, tmp_path: Path, what: str) -> None:
    faults.lose = lambda method, path: method == "PUT" and what in path
    first = Machine(tmp_path / "a", url)
    first.output(1)
    faults.lose = lambda _m, _p: False
    second, third = Machine(tmp_path / "b", url), Machine(tmp_path / "c", url)
    second.output(1)
    third.output(1)
    assert (second.ran, third.ran) == (["stage"], [])


def test_a_slow_store_is_waited_for(faults: Faults, url: str, tmp_path: Path) -> None:
    Machine(tmp_path / "a", url).output(1)
    faults.slow_s = 0.5
    second = Machine(tmp_path / "b", url)
    second.output(1)
    assert second.ran == []


def test_one_that_is_too_slow_is_not(faults: Faults, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(tmp_path / "a", url).output(1)
    monkeypatch.setattr(remote, "_LEAST_S", 0.0)
    monkeypatch.setattr(remote, "_LEAST_BYTES_PER_S", 10_000_000)
    faults.slow_s = 0.1
    second = Machine(tmp_path / "b", url)
    second.output(1)
    assert second.ran == ["stage"]
    assert "too slowly" in second.told[0]


def test_no_bucket_and_no_right_to_it_are_said(faults: Faults, url: str, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "a", url.replace(BUCKET, "none-of-this-name"))
    machine.output(1)
    assert "fails" in machine.told[0]


def test_only_what_was_written_with_the_key_is_taken(faults: Faults, url: str, tmp_path: Path) -> None:
    Machine(tmp_path / "a", url).output(1)
    team = Machine(tmp_path / "b", url, b"k" * 32)
    team.output(1)
    assert team.ran == ["stage"]
    assert "EDGEPACK_STORE_KEY" in team.told[0]
    mate, reader = Machine(tmp_path / "c", url, b"k" * 32), Machine(tmp_path / "d", url)
    mate.output(1)
    reader.output(1)
    assert (mate.ran, reader.ran) == ([], [])


# --- many at once -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["server", "file"])
def test_writers_at_once_leave_whole_outputs(faults: Faults, url: str, tmp_path: Path, kind: str) -> None:
    url = url if kind == "server" else f"file://{tmp_path}/shared"
    machines = [Machine(tmp_path / str(number), url) for number in range(6)]
    start = threading.Barrier(len(machines))

    def work(machine: Machine) -> None:
        start.wait()
        for number in random.Random(str(machine.folder)).sample(range(8), 8):
            machine.output(number, size=50_000)

    with ThreadPoolExecutor(len(machines)) as pool:
        list(pool.map(work, machines))
    late = Machine(tmp_path / "late", url)
    for number in range(8):
        late.output(number, size=50_000)
    assert late.ran == []
    assert not [line for machine in machines for line in machine.told]


_WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from shared_outputs import Machine
machine = Machine(Path(sys.argv[2]), sys.argv[3])
print("ready", flush=True)
for number in range(1000):
    machine.output(number, size=200_000)
"""


def test_a_killed_writer_leaves_nothing_half(tmp_path: Path) -> None:
    url, helpers = f"file://{tmp_path}/shared", Path(__file__).parents[2] / "helpers"
    for round_ in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", _WRITER, helpers, tmp_path / f"w{round_}", url], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        threading.Event().wait(0.2 + 0.15 * round_)
        process.kill()
        process.wait()
        process.stdout.close()
    reader = Machine(tmp_path / "reader", url)
    for number in range(5):
        reader.output(number, size=200_000)
    assert not reader.told
    assert [*(tmp_path / "shared" / "records" / "stage").iterdir()]
