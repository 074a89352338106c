"""What is made of workers' answers, good ones and every kind of bad one; they run in this Python, from files here."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from edgepack.errors import ChildError, ConfigError, ModelError, ToolchainError
from edgepack.execution import child
from edgepack.export.worker import Worker, convert, find_interpreter, lock_needed, read_facts
from edgepack.specs.model import OnnxModel
from edgepack.specs.source import SourceOptions
from edgepack.specs.types import Progress

pytestmark = pytest.mark.slow

HEAD = """
import numpy as np, onnx, os, signal, sys, time
from onnx import TensorProto, helper

def model(job, factor=2.0, nodes=None, name="y"):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["unk__7", 3])
    y = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["unk__7", 3])
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3], [factor] * 3)
    nodes = nodes or [helper.make_node("Mul", ["x", "w"], [name])]
    graph = helper.make_graph(nodes, "g", [x], [y], [weight])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    proto.metadata_props.add(key="path", value="/somebody/else")
    onnx.save(proto, str(job.model))

def pairs(job, factor=2.0, count=2):
    for number in range(count):
        values = np.random.default_rng(number).normal(size=(1 + number, 3)).astype(np.float32)
        job.pair({"x": values}, {"y": values * np.float32(factor)})

def good(job):
    model(job); pairs(job); job.describe("Toy", "twice", "onnx")

"""
GOOD = "def convert(job):\n    good(job)\n"


def worker(folder: Path, code: str) -> Worker:
    (folder / "toy.py").write_text(HEAD + code)
    return Worker(str(folder / "toy.py"), str(folder / "toy.txt"))


def run(folder: Path, code: str, progress: Progress | None = None, **options: object) -> OnnxModel:
    chosen = SourceOptions(python=sys.executable, **options)  # type: ignore[arg-type]
    out = folder / "out"
    return convert(worker(folder, code), "net.toy", {}, chosen, out, progress or (lambda *_: None))


def test_a_good_answer_becomes_a_checked_model_with_its_facts(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    code = (
        "def convert(job):\n    job.progress('reading', 1, 2); good(job); job.note('by hand')\n"
        "    job.meta['classes'] = ['a']\n"
    )
    model = run(tmp_path, code, lambda *words: told.append(words))
    assert model.inputs[0].shape == ("N", 3)
    facts = read_facts(model)
    assert facts is not None
    assert (facts.framework, facts.title, facts.classes, facts.notes) == ("Toy", "twice", ("a",), ("by hand",))
    assert facts.versions["onnx"]
    assert (facts.pairs, facts.largest_difference) == (2, 0.0)
    assert told == [("reading", 1, 2)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["meta.json", "model.onnx"]
    assert b"somebody" not in model.path.read_bytes()


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    first = run(tmp_path, GOOD).sha256
    code = "def convert(job):\n    good(job); p = onnx.load(str(job.model))\n" + (
        "    for v in (*p.graph.input, *p.graph.output): v.type.tensor_type.shape.dim[0].dim_param = 'unk__12345'\n"
        "    onnx.save(p, str(job.model))\n"
    )
    assert run(tmp_path, code).sha256 == first


BAD = {
    # what convert does: the kind of error, words of its message and of its hint
    "refuses": ("    raise job.refuse('no such layer', 'write it')", ModelError, "net.toy: no such layer", "write it"),
    "raises": ("    raise KeyError('x')", ModelError, "net.toy: KeyError", "own framework"),
    "lacks a package": ("    import no_such_package_at_all",
        ToolchainError, "no_such_package_at_all is not installed", "-m pip"),
    "dies": ("    print('last words', flush=True); os._exit(3)",
        ModelError, "ended with status 3.*last words", "memory"),
    "is killed": ("    os.kill(os.getpid(), signal.SIGKILL)", ModelError, "killed by signal 9", "memory"),
    "says nothing": ("    os._exit(0)", ModelError, "status 0 without an answer", "memory"),
    "lies about its pairs": ("    model(job); pairs(job, 3.0)", ModelError, "does not compute what", "random numbers"),
    "is wrong for missing values": (
        "    good(job); v = np.full((2, 3), np.nan, np.float32); job.pair({'x': v}, {'y': np.ones_like(v)})",
        ModelError, "does not compute what", "SimpleImputer",
    ),
    "is wrong at another size": (
        "    good(job); v = np.ones((3, 6), np.float32); job.pair({'x': v}, {'y': v * 2})",
        ModelError, "cannot run the exported model", "--shape x=Nx",
    ),
    "has one pair": ("    model(job); pairs(job, count=1)", ModelError, "1 pairs", "update"),
    "has equal pairs": (
        "    model(job); v = np.ones((1, 3), np.float32); [job.pair({'x': v}, {'y': v * 2}) for _ in range(3)]",
        ModelError, "all have the same inputs", "update",
    ),
    "names other outputs": ("    model(job, name='z'); pairs(job)",
        ModelError, r"its pairs have the outputs", "update"),
    "writes no model": ("    job.model.write_bytes(b'nothing'); pairs(job)", ModelError, "cannot be used", ""),
    "writes a pickle for pairs": (
        "    good(job); job.finish(); np.savez('pairs.npz', **{'0/in/x': np.array([print], object)}); "
        "job.finish = lambda: None",
        ModelError, "pairs.npz cannot be read", "update",
    ),
    "writes other facts": ("    model(job); pairs(job); job.meta['sha'] = 1",
        ModelError, "meta.json cannot be read", "update",
    ),
    "answers with no number": (
        "    model(job, float('nan')); pairs(job, float('nan')); job.describe('Toy', 't', 'onnx')",
        ModelError, "computes no number", "weights",
    ),
    "leaves a pipe for its pairs": (
        "    good(job); job.finish(); os.unlink('pairs.npz'); os.mkfifo('pairs.npz'); job.finish = lambda: None",
        ModelError, "not a regular file", "update",
    ),
    "draws random numbers": (
        "    nodes = [helper.make_node('StatelessRandomUniformV2', ['x', 'w'], ['y'], name='noise')]\n"
        "    model(job, nodes=nodes); pairs(job)",
        ModelError, "draws random numbers: .*noise", "training=False",
    ),
    "leaves dropout on": (
        "    flag = helper.make_tensor('t', TensorProto.BOOL, [], [True])\n"
        "    nodes = [helper.make_node('Constant', [], ['t'], value=flag),"
        "helper.make_node('Dropout', ['x', '', 't'], ['y'], name='drop')]; model(job, nodes=nodes); pairs(job, 1.0)",
        ModelError, "'drop' is a Dropout in training mode", "inference",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_worker_that(what: str, tmp_path: Path) -> None:
    code, kind, said, hint = BAD[what]
    with pytest.raises(kind, match=f"(?s){said}") as raised:
        run(tmp_path, f"def convert(job):\n{code}\n")
    assert hint in raised.value.hint
    assert not (tmp_path / "out" / "model.onnx").exists()


def convert_here(toy: str, out: Path) -> OnnxModel:
    return convert(Worker(toy, "none"), "net.toy", {}, SourceOptions(python=sys.executable), out, lambda *_: None)


def test_a_worker_that_hangs_is_stopped_with_its_stage(tmp_path: Path) -> None:
    made = worker(tmp_path, "def convert(job):\n    print('waiting', flush=True); time.sleep(600)\n")
    with pytest.raises(ChildError, match="took longer than 4 s") as raised:
        child.call(convert_here, made.script, tmp_path / "out", limit_s=4, log=tmp_path / "log")
    assert "--compile-limit" in raised.value.hint
    assert "waiting" in (tmp_path / "log").read_text()


def test_what_a_worker_leaves_behind_is_not_waited_for(tmp_path: Path) -> None:
    began = time.monotonic()
    run(tmp_path, "def convert(job):\n    good(job)\n    if os.fork() == 0: time.sleep(30); os._exit(0)\n")
    assert time.monotonic() - began < 25


def test_a_flood_is_cut_and_in_the_end_stopped(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "def convert(job):\n    [print('x' * 63) for _ in range(1 << 17)]; good(job)\n")
    assert 4 << 20 <= len(capfd.readouterr().out) < 5 << 20
    with pytest.raises(ModelError, match="printed over 256 MB"):
        run(tmp_path, "def convert(job):\n    while True: os.write(1, b'y' * 65535 + b'\\n')\n")


# --- what a worker may do ---------------------------------------------------------------------------------------------

TRIES = """
import json, socket
def convert(job):
    good(job)
    tried = {}
    for name, place in (("outside", OUTSIDE), ("home", os.path.expanduser("~/x")), ("here", "x.txt")):
        try:
            open(place, "w").write("x"); tried[name] = "wrote"
        except OSError as error:
            tried[name] = type(error).__name__
    try:
        socket.create_connection(("127.0.0.1", PORT), timeout=5).close(); tried["network"] = "connected"
    except OSError as error:
        tried["network"] = type(error).__name__
    try:
        socket.socket(socket.AF_UNIX).connect(LOCAL); tried["local"] = "connected"
    except OSError as error:
        tried["local"] = type(error).__name__
    for one in socket.socketpair():
        one.close()
    tried["secret"] = os.environ.get("MY_TOKEN", "unseen")
    job.meta["extra"] = tried
"""


def test_a_worker_writes_into_its_folder_alone_and_has_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    monkeypatch.setenv("MY_TOKEN", "s3cret")
    daemon = f"\0edgepack-{tmp_path}"[:100] if len(str(tmp_path)) > 80 else str(tmp_path / "daemon")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        port = server.getsockname()[1]
        local.bind(daemon)
        local.listen()
        code = TRIES.replace("OUTSIDE", repr(str(tmp_path / "outside"))).replace("PORT", str(port))
        code = code.replace("LOCAL", repr(daemon))
        facts = read_facts(run(tmp_path, code))
        assert facts is not None
        if facts.not_confined:
            pytest.skip(f"this system cannot confine a process: {facts.not_confined}")
        assert facts.extra["outside"] == "PermissionError"
        assert not (tmp_path / "outside").exists()
        assert (facts.extra["here"], facts.extra["home"]) == ("wrote", "wrote")
        assert (facts.extra["network"] != "connected", facts.extra["local"]) == (True, "PermissionError")
        assert facts.extra["secret"] == "unseen"
        allowed = read_facts(run(tmp_path, code, download=True))
        assert allowed is not None
        assert (allowed.extra["network"], allowed.extra["local"]) == ("connected", "PermissionError")


def test_files_beside_the_worker_do_not_stand_in_for_packages(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')\n")
    assert run(tmp_path, GOOD)


# --- which Python -----------------------------------------------------------------------------------------------------


def test_the_users_python_comes_first_then_this_one_then_an_environment(tmp_path: Path) -> None:
    (tmp_path / "toy.txt").write_text("# size: 3 MB\ntoy==1.0\n")
    lock = str(tmp_path / "toy.txt")
    here, nowhere = Worker("x", lock, needs=("numpy", "onnx")), Worker("x", lock, needs=("numpy", "no_such_module"))
    assert find_interpreter(here, SourceOptions()).python == sys.executable
    needed = lock_needed(nowhere, SourceOptions())
    assert needed is not None
    assert (needed.size_mb, needed.packages) == (3, ("toy",))
    assert lock_needed(Worker("x", lock), SourceOptions()) is not None
    assert lock_needed(nowhere, SourceOptions(python="mine")) is None


def test_a_python_is_found_from_where_the_user_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "python").symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    found = find_interpreter(Worker("x", "none"), SourceOptions(python="./python"))
    assert found.python == str(tmp_path / "python"), "a link stays one: a virtual environment is known by it"


@pytest.mark.parametrize("wrong", ["/no/such/python", "/bin/true", os.devnull])
def test_a_python_that_is_none_is_said(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a Python that runs"):
        convert(worker(tmp_path, GOOD), "x", {}, SourceOptions(python=wrong), tmp_path, lambda *_: None)


def test_the_request_has_absolute_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.toy").write_text("x")
    Path("mine.py").write_text("x = 1")
    code = (
        "def convert(job):\n    good(job)\n"
        "    job.meta['extra'] = {'source': job.source, **{k: str(v) for k, v in job.options.items()}}\n"
    )
    model = run(tmp_path, code, module="mine.py:Net", weights="net.toy")
    facts = json.loads((model.path.parent / "meta.json").read_text())["extra"]
    assert (facts["source"], facts["module"]) == (str(tmp_path / "net.toy"), f"{tmp_path / 'mine.py'}:Net")
    assert facts["weights"] == str(tmp_path / "net.toy")
