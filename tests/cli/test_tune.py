"""``edgepack tune --target``, as users run it: real kernels, a real model, the next build uses what was found."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from installed_engines import skip_without
from onnx import TensorProto, helper, numpy_helper

from edgepack.cli.main import cli
from edgepack.device.host import host_facts
from edgepack.engines.targets import load_target
from edgepack.engines.tvm import engine as tvm
from edgepack.engines.tvm.codegen.tile import Blocking
from edgepack.engines.tvm.codegen.workload import Workload, rule, tiles
from edgepack.engines.tvm.interface import FUNCTIONS, read_functions
from edgepack.engines.tvm.records import Record, Trial
from edgepack.engines.tvm.tuning.workloads import kernels_of

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_without("tvm")
    monkeypatch.setenv("EDGEPACK_TUNING", str(tmp_path / "tuning"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Two convolutions of one kind and one of another, 32x32 pictures."""
    draw = np.random.default_rng(0)
    weights = {
        "a": draw.standard_normal((32, 3, 3, 3)), "b": draw.standard_normal((32, 32, 3, 3)) / 17,
        "c": draw.standard_normal((32, 32, 3, 3)) / 17,
    }  # fmt: skip
    names = ["x", "1", "2", "y"]
    nodes = [
        helper.make_node("Conv", [names[n], w], [names[n + 1]], pads=[1, 1, 1, 1], name=f"conv{n}")
        for n, w in enumerate(weights)
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 32, 32, 32])],
        [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()],
    )
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def functions(bundle: Path) -> dict[str, str]:
    """Return the rule of each function of a bundle."""
    with zipfile.ZipFile(bundle) as archive:
        name = next(n for n in archive.namelist() if n.endswith(f"/{FUNCTIONS}"))
        return dict(read_functions(archive.read(name)))


@pytest.mark.long
def test_a_model_is_tuned_and_known_the_next_time(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two turns, each in processes of its own, in place of the seven that an interval needs: its width is not looked at.
    monkeypatch.setattr("edgepack.engines.tvm.tuning.whole_model.TURNS", 2)
    first = run("tune", model, "--target", "host-tvm", "--minutes", "0.1", "--json")
    assert first.exit_code == 0, first.stderr
    found = json.loads(first.stdout)
    kernels = {kernel["count"]: kernel for kernel in found["search"]["kernels"]}
    assert {count: kernel["state"] for count, kernel in kernels.items()} == {1: "new", 2: "new"}
    assert kernels[2]["measured"], "the one that costs most comes first"
    assert kernels[2]["trials"] > 5
    assert found["whole"]["low"] <= found["whole"]["ratio"] <= found["whole"]["high"]
    assert found["search"]["cpu"] == host_facts().cpu
    assert Path(found["search"]["records"]).is_file()
    known = sum(kernel["measured"] for kernel in kernels.values())
    again = run("tune", model, "--target", "host-tvm", "--minutes", "0.01")
    assert again.exit_code == 0, again.stderr
    assert f"{known} kernels known from records" in again.stdout
    assert "the whole model takes" in again.stdout


def remember(model_file: Path, ratio: float) -> tuple[Workload, Blocking]:
    """Keep a record, not measured but made up, that another tile than the rule's is best for a kernel of the model."""
    from edgepack.graph.load import load_model

    target, known = load_target("host-tvm"), tvm.versions()
    records = tvm.tuned_records(target, known)
    workload = max(kernels_of(load_model(model_file), target, "fp32"), key=lambda used: used.count).workload
    by_rule = rule(workload, records.machine)
    tile = next(t for t in tiles(workload, records.machine) if t.vectors == 1 and t.width > 4 and t != by_rule)
    records.add(Record(workload, by_rule, 1e5, (Trial(tile, ratio),), tile, 13, at="2026-01-01T00:00:00Z"))
    return workload, tile


@pytest.mark.long
def test_a_build_uses_the_records_and_is_made_again_when_they_change(model: Path, tmp_path: Path) -> None:
    build = ("build", model, "--target", "host-tvm", "--precision", "fp32", "--out", tmp_path / "out")
    assert run(*build).exit_code == 0
    bundle = next((tmp_path / "out").glob("*.edgepack"))
    assert not any("tuned" in text for text in functions(bundle).values())
    workload, _ = remember(model, 0.7)
    again = run(*build)
    assert again.exit_code == 0, again.stderr
    assert sum(text == f"{workload.kind} (tuned)" for text in functions(bundle).values()) >= 1
    third = run(*build)
    assert "✓ compile" not in third.stderr, "nothing changed, so that nothing is compiled"


@pytest.mark.long
def test_a_build_tunes_its_own_kernels(model: Path, tmp_path: Path) -> None:
    words = ("--target", "host-tvm", "--target", "raspberry-pi-4-tvm", "--precision", "fp32", "--tune-minutes", "0.02")
    done = run("build", model, *words, "--no-benchmark", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert "tune      2 kernels of host-tvm fp32" in done.stderr
    assert "raspberry-pi-4-tvm: not tuned" in done.stderr
    (records,) = (tmp_path / "tuning").glob("*.jsonl")
    assert records.name.startswith("host-tvm-")
    assert len(records.read_text().splitlines()) >= 2


def test_records_are_exported_merged_and_counted(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(model, 0.7)
    out = tmp_path / "shipped.jsonl"
    shown = run("tune", "--target", "host-tvm", "--export", out)
    assert shown.exit_code == 0, shown.stderr
    assert "1 kernels measured, 1 faster than the default" in shown.stdout
    monkeypatch.setenv("EDGEPACK_TUNING", str(tmp_path / "elsewhere"))
    merged = run("tune", "--target", "host-tvm", "--merge", out, "--json")
    assert merged.exit_code == 0, merged.stderr
    assert {k: json.loads(merged.stdout)[k] for k in ("kernels", "faster", "merged")} == {
        "kernels": 1, "faster": 1, "merged": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--minutes", "1"), "--minutes needs --target"),
        (("--target", "host-tvm", "--duration", "1s"), "--duration needs a bundle"),
        (("--target", "host-tvm", "--scenario", "Offline"), "--scenario needs a bundle"),
        (("--target", "host-onnxruntime"), "whose kernels are its own"),
        (("--target", "raspberry-pi-4-tvm"), "--ssh USER@HOST"),
        (("--target", "host-tvm", "--minutes", "0"), "minutes"),
        (("--target", "host-tvm", "--ssh", "-oProxyCommand=x"), "not a host for ssh"),
    ],
)
def test_what_makes_no_sense_is_refused(model: Path, words: tuple[str, ...], message: str) -> None:
    done = run("tune", model, *words)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


def test_a_bundle_has_no_kernels_to_tune(tmp_path: Path) -> None:
    done = run("tune", tmp_path / "x.edgepack", "--target", "host-tvm")
    assert done.exit_code == 2
    assert "is a bundle" in done.stderr


@pytest.mark.parametrize("text", [b"", b"{}", b'{"edgepack_tuning": 7}\n', b"\xff\x00"])
def test_a_file_that_is_not_records_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(text)
    done = run("tune", "--target", "host-tvm", "--merge", path)
    assert done.exit_code == 2
    assert "hint:" in done.stderr


def test_a_damaged_database_stops_a_build_with_a_way_out(model: Path, tmp_path: Path) -> None:
    remember(model, 0.7)
    (path,) = (tmp_path / "tuning").glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"{}\n" + lines[1])
    done = run("build", model, "--target", "host-tvm", "--precision", "fp32", "--out", tmp_path / "out")
    assert done.exit_code != 0
    assert "is damaged at line 2" in " ".join(done.stdout.split())
