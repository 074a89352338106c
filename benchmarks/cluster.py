"""What workers bring and cost: eight small models by six targets by two precisions, serial and on two workers, then
with workers killed at random; the cost of handing out a task; the merge of a thousand devices' statistics.

Prints, and writes artifacts/cluster.json. One part: ``cluster.py builds | kills | tasks | merge``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parent.parent
TARGETS = ("host-onnxruntime", "raspberry-pi-5", "generic-aarch64", "host-openvino", "intel-n100", "xeon-amx")
MODELS, KILLS, TASKS, WORKERS, DEVICES = 8, 20, 200, 50, 1000


def make_model(seed: int, path: Path) -> None:
    """Write a small convolutional network with seeded weights."""
    chance = np.random.default_rng(seed)
    width = 4 + seed
    weights = {
        "w1": chance.normal(0, 0.3, (width, 3, 3, 3)),
        "w2": chance.normal(0, 0.2, (width, width, 3, 3)),
        "w3": chance.normal(0, 0.1, (10, width)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("Gemm", ["f", "w3"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def make_matrix(folder: Path) -> Path:
    """Write the models, their samples and models.toml."""
    samples = np.random.default_rng(0).random((64, 3, 16, 16), dtype=np.float32)
    np.savez(folder / "samples.npz", x=samples)
    names = ", ".join(f'"{target}"' for target in TARGETS)
    lines = [
        'out = "all"', "[defaults]", 'data = "samples.npz"', f"targets = [{names}]", 'precisions = ["fp32", "int8"]',
        'method = "plain"', "benchmark = false", "allow_poor = true",
    ]  # fmt: skip
    for seed in range(MODELS):
        make_model(seed, folder / f"net{seed}.onnx")
        lines += ["[[models]]", f'model = "net{seed}.onnx"']
    (folder / "models.toml").write_text("\n".join(lines) + "\n")
    return folder / "models.toml"


class Quiet:
    """Events that nobody sees, but for notes."""

    def begin(self, *_: Any) -> None: ...
    def progress(self, *_: Any) -> None: ...
    def end(self, *_: Any) -> None: ...
    def row(self, *_: Any) -> None: ...
    def said(self, *_: Any) -> None: ...

    def note(self, text: str) -> None:
        print("  note:", text, flush=True)


def build(folder: Path, name: str, workers: str | None) -> dict[str, Any]:
    """Build the matrix with an empty store; return wall and CPU seconds, stages and the digest of each bundle."""
    from edgepack.execution.store import Store
    from edgepack.pipeline.many import build_many
    from edgepack.pipeline.matrix import read_matrix

    out = folder / name
    began, cpu = time.monotonic(), _cpu_s()
    result = build_many(
        read_matrix([str(folder / "models.toml")], {"out": str(out)}), Store(folder / f"store-{name}"), Quiet(), workers
    )
    wall, used = time.monotonic() - began, _cpu_s() - cpu
    digests = {
        f"{bundle.parent.name}/{bundle.name}": hashlib.sha256(bundle.read_bytes()).hexdigest()
        for bundle in sorted(out.rglob("*.edgepack"))
    }
    statuses: dict[str, int] = {}
    for row in result.rows:
        statuses[row.status] = statuses.get(row.status, 0) + 1
    shutil.rmtree(folder / f"store-{name}")
    return {
        "wall_s": round(wall, 1), "cpu_s": round(used, 1), "stages_run": result.stages_run,
        "stages_reused": result.stages_reused, "rows": statuses, "digests": digests,
    }  # fmt: skip


def builds(folder: Path) -> dict[str, Any]:
    """Build serially and on two workers; the bundles must be the same."""
    serial = build(folder, "serial", None)
    show("serial", serial)
    two = build(folder, "two", "local:2")
    show("local:2", two)
    same = two["digests"] == serial["digests"]
    ratio = two["wall_s"] / serial["wall_s"]
    print(f"same digests: {same} ({len(serial['digests'])} bundles), wall ratio {ratio:.2f}", flush=True)
    assert same
    return {"serial": serial, "local:2": two, "wall_ratio": round(ratio, 3)}


def kills(folder: Path, expected: dict[str, str] | None) -> dict[str, Any]:
    """The same on two workers, of which one is killed at random moments until that was done often enough."""
    expected = expected or build(folder, "serial", None)["digests"]
    with killing(folder / "store-killed") as killed:
        found = build(folder, "killed", "local:2")
    show("local:2, killed", found)
    same = found["digests"] == expected
    print(f"{len(killed)} workers killed, same digests: {same}", flush=True)
    assert same
    assert len(killed) == KILLS, len(killed)
    return {**found, "killed": len(killed)}


@contextlib.contextmanager
def killing(store: Path) -> Iterator[list[int]]:
    """Kill workers of this process at seeded random moments, from when the first stage is done."""
    chance, ended, killed = random.Random(17), threading.Event(), list[int]()

    def run() -> None:
        while len(killed) < KILLS and not ended.wait(chance.uniform(2.0, 8.0)):
            if any(store.glob("*/*/_value.json")) and (found := workers_of(os.getpid())):
                killed.append(chance.choice(found))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(killed[-1], signal.SIGKILL)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


def workers_of(pid: int) -> list[int]:
    """Return the processes of dask's workers that this one has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            fields = path.read_text().rpartition(")")[2].split()
            words = (path.parent / "cmdline").read_text().split("\0")
            if int(fields[1]) == pid and any("spawn_main" in word for word in words):
                found.append(int(path.parent.name))
    return sorted(found)


def tasks(folder: Path) -> dict[str, Any]:
    """Hand 200 tasks to 50 simulated workers: dask's own, in this process, with a double of the stage's child."""
    from distributed import Client, LocalCluster

    sys.path.insert(0, str(ROOT / "tests" / "helpers"))
    import cluster_stages

    from edgepack.base.stage import stage_of
    from edgepack.pipeline import cluster as module

    seconds = 0.2

    def run_task(task: dict[str, Any]) -> dict[str, Any]:  # the double: it takes the time and starts no process
        time.sleep(seconds)
        return {"result": {"path": "x", "number": task["arguments"][0]}, "said": []}

    real, module.run_task = module.run_task, run_task
    try:
        with (
            LocalCluster(n_workers=WORKERS, threads_per_worker=1, processes=False, dashboard_address=None) as simulated,
            Client(simulated, set_as_default=False) as client,
        ):
            found = module.Cluster(client, folder / "turns", "edgepack.pipeline.cluster", print)
            known = stage_of(cluster_stages.work)

            def one(number: int) -> int:
                made = found.call(
                    known, cluster_stages.work, number, 0.0, "", folder, limit_s=60.0, log=folder / "log", track=None,
                    said=lambda _: None, forked=True,
                )  # fmt: skip
                return int(made.number)

            with ThreadPoolExecutor(found.lanes) as pool:
                assert one(0) == 0
                began, cpu = time.monotonic(), _cpu_s()
                assert list(pool.map(one, range(TASKS))) == list(range(TASKS))
                wall, used = time.monotonic() - began, _cpu_s() - cpu
    finally:
        module.run_task = real
    least = seconds * TASKS / WORKERS
    answer = {
        "tasks": TASKS, "simulated_workers": WORKERS, "cpu_ms_a_task": round(1000 * used / TASKS, 2),
        "wall_ms_a_task_beyond_its_work": round(1000 * (wall - least) / TASKS, 2),
    }  # fmt: skip
    print(answer, flush=True)
    return answer


def merge(folder: Path) -> dict[str, Any]:
    """Read and merge the statistics of 1000 devices: copies of one document, each of samples of its own."""
    from edgepack.base import documents
    from edgepack.calibrate.merge import choose_from, measure_statistics, read_statistics
    from edgepack.calibrate.merge import merge as run
    from edgepack.data.split import SampleRequest, choose_samples
    from edgepack.graph.load import load_model

    make_model(0, folder / "merged.onnx")
    samples = np.random.default_rng(0).random((8, 3, 16, 16), dtype=np.float32)
    np.savez(folder / "device.npz", x=samples)
    model = load_model(folder / "merged.onnx")
    (folder / "chosen").mkdir()
    chosen = choose_samples(SampleRequest(str(folder / "device.npz"), None), model.inputs, folder / "chosen")
    (folder / "statistics").mkdir()
    one = json.loads(documents.to_json(measure_statistics(model, chosen.calibration, folder / "statistics")))
    for number in range(DEVICES):
        one["data_sha256"] = [hashlib.sha256(str(number).encode()).hexdigest()]
        (folder / f"{number}.json").write_text(json.dumps(one))
    cpu = _cpu_s()
    whole = run([read_statistics(folder / f"{number}.json") for number in range(DEVICES)])
    ranges = choose_from(whole, "mse", 99.99)
    used = _cpu_s() - cpu
    answer = {"devices": DEVICES, "tensors": len(ranges.tensors), "samples": whole.samples, "cpu_s": round(used, 2)}
    print(answer, flush=True)
    return answer


def show(name: str, found: dict[str, Any]) -> None:
    """Print what a build took."""
    print(name, {key: value for key, value in found.items() if key != "digests"}, flush=True)


def _cpu_s() -> float:
    """Return the CPU seconds of this process and of all that it has started, those that still run too."""
    ended = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in ended) + _running_s(os.getpid())


def _running_s(pid: int) -> float:
    """Return the CPU seconds of the processes below ``pid`` that run, and of those of theirs that have ended."""
    used = dict[int, tuple[int, float]]()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            fields = path.read_text().rpartition(")")[2].split()
            used[int(path.parent.name)] = int(fields[1]), sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    below = {pid}
    while more := {one for one, (parent, _) in used.items() if parent in below} - below:
        below |= more
    return sum(used[one][1] for one in below - {pid})


def main() -> None:
    """Run the parts that are named, all by default."""
    from edgepack.device.host import host_facts

    parts = sys.argv[1:] or ["merge", "tasks", "builds", "kills"]
    host = host_facts()
    print(f"{host.cpu}, {host.cores} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    answers: dict[str, Any] = {"host": host.cpu, "cores": host.cores, "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory(prefix="edgepack-bench-") as name:
        folder = Path(name)
        make_matrix(folder)
        for part in parts:
            if part == "kills":
                earlier = answers.get("builds", {}).get("serial", {}).get("digests")
                answers[part] = kills(folder, earlier)
            else:
                answers[part] = {"builds": builds, "tasks": tasks, "merge": merge}[part](folder)
    out = ROOT / "artifacts" / "cluster.json"
    out.write_text(json.dumps(answers, indent=1))
    print(f"wrote {out.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
