"""Many models at once: their rows, one report over all, and what a model that fails costs the others: nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
from dataclasses import dataclass, field
from pathlib import Path

import graph_models
import onnx
import pytest
from in_process import Recorded

from edgepack.base import documents
from edgepack.bundle.archive import open_bundle
from edgepack.errors import StorageError, ToolchainError
from edgepack.execution.store import Store
from edgepack.pipeline import many
from edgepack.pipeline.build import build, exit_code
from edgepack.pipeline.cluster import gone
from edgepack.pipeline.many import build_many
from edgepack.pipeline.matrix import Matrix, one, read_matrix
from edgepack.pipeline.outlook import outlook
from edgepack.pipeline.settings import BuildSettings
from edgepack.specs.build import BuildResult

pytestmark = pytest.mark.long
MODELS = """
out = "all"
[defaults]
targets = ["host-onnxruntime", "raspberry-pi-5"]
benchmark = false
[[models]]
model = "first.onnx"
[[models]]
model = "no_model.onnx"
precisions = ["fp32", "bf16"]
[[models]]
model = "second.onnx"
[[exclude]]
models = ["second"]
targets = ["raspberry-pi-5"]
"""


@dataclass
class Rows(Recorded):
    """``Events`` that remembers the rows too."""

    rows: list[tuple[int, int, str]] = field(default_factory=list)

    def row(self, number: int, total: int, title: str, left_s: float | None) -> None:
        self.rows.append((number, total, title))


@dataclass(frozen=True)
class Built:
    folder: Path
    matrix: Matrix
    store: Store
    result: BuildResult
    events: Rows


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Three models, one of which is not there."""
    folder = tmp_path_factory.mktemp("many")
    for number, name in enumerate(("first", "second"), 1):
        proto = graph_models.small_conv()
        proto.graph.initializer[1].raw_data = bytes(4 * 63) + number.to_bytes(4, "little")
        onnx.save(proto, folder / f"{name}.onnx")
    (folder / "models.toml").write_text(MODELS)
    stale = folder / "all" / "no_model" / "no_model-host-onnxruntime-fp32.edgepack"
    stale.parent.mkdir(parents=True)
    stale.touch()
    matrix, store, events = read_matrix([str(folder / "models.toml")]), Store(folder / "store"), Rows()
    found = outlook(matrix, store)
    assert [row.next_stage for row in found.rows if row.status == "build"] == ["export"] * 3
    assert {row.reason for row in found.rows if row.status == "failed"} == {
        f"there is no model {folder / 'no_model.onnx'} (check the path of the model)"
    }
    assert found.expected_s is None
    assert not (folder / "store").exists()
    result = build_many(matrix, store, events)
    return Built(folder, matrix, Store(folder / "store"), result, events)


def test_a_model_that_fails_is_its_rows(built: Built) -> None:
    rows = [(row.model, row.target, row.precision, row.status) for row in built.result.rows]
    assert rows == [
        ("first", "host-onnxruntime", "fp32", "ok"),
        ("first", "raspberry-pi-5", "fp32", "ok"),
        ("no_model", "host-onnxruntime", "fp32", "failed"),
        ("no_model", "host-onnxruntime", "bf16", "skipped"),
        ("no_model", "raspberry-pi-5", "fp32", "failed"),
        ("no_model", "raspberry-pi-5", "bf16", "skipped"),
        ("second", "host-onnxruntime", "fp32", "ok"),
    ]
    assert "there is no file" in str(built.result.rows[2].reason)
    assert exit_code(built.result) != 0
    assert any("no_model: there is no file" in note for note in built.events.notes)
    assert all(note.startswith(("first: ", "second: ", "no_model: ")) for note in built.events.notes)
    assert any(note.startswith("first: ") for note in built.events.notes) or not built.result.warnings
    assert list((built.folder / "all" / "no_model").glob("*.edgepack")) == []


def test_progress_is_over_the_whole(built: Built) -> None:
    assert built.events.rows == [
        (1, 7, "first host-onnxruntime fp32"),
        (2, 7, "first raspberry-pi-5 fp32"),
        (7, 7, "second host-onnxruntime fp32"),
    ]


def test_one_report_and_one_document_are_over_all(built: Built) -> None:
    document = json.loads((built.folder / "all" / "build.json").read_text())
    assert [row["sha256"] for row in document["rows"]] == [row.sha256 for row in built.result.rows]
    page = (built.folder / "all" / "report.html").read_text()
    assert all(name in page for name in ("first", "second", "no_model"))
    own = json.loads((built.folder / "all" / "no_model" / "build.json").read_text())
    assert [row["status"] for row in own["rows"]] == ["failed", "skipped", "failed", "skipped"]


def test_bundles_are_those_of_a_build_of_the_model_alone(built: Built, tmp_path: Path) -> None:
    plan = built.matrix.plans[0]
    alone = build(plan.settings, Store(built.folder / "store"))
    assert alone.stages_run == 0
    assert [row.sha256 for row in alone.rows] == [row.sha256 for row in built.result.rows[:2]]
    assert alone.rows[1].command == built.result.rows[1].command


def test_what_is_there_is_planned_as_reused_and_runs_nothing(built: Built) -> None:
    found = outlook(built.matrix, Store(built.folder / "store"))
    assert [row.status for row in found.rows if row.model != "no_model"] == ["reused"] * 3
    assert [row.status for row in found.rows if row.model == "no_model"] == ["failed", "skipped", "failed", "skipped"]
    assert found.expected_s == 0
    again = build_many(built.matrix, Store(built.folder / "store"))
    assert [row.sha256 for row in again.rows] == [row.sha256 for row in built.result.rows]
    assert (again.stages_run, again.stages_reused) == (1, built.result.stages_run + built.result.stages_reused - 1)


def test_a_stopped_build_goes_on_where_it_was(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = many.build_row, []

    def stops(*given: object) -> object:
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(many, "build_row", stops)
    store = Store(built.folder / "other store")
    with pytest.raises(KeyboardInterrupt):
        build_many(built.matrix, store)
    monkeypatch.setattr(many, "build_row", real)
    statuses = [row.status for row in outlook(built.matrix, store).rows]
    assert statuses == ["reused", "build", "failed", "skipped", "failed", "skipped", "build"]


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (ValueError("surprise"), "internal error: ValueError: surprise (build", 1),
        (OSError(28, "No space left on device"), "No space left on device", StorageError.exit_code),
    ],
)
def test_whatever_goes_wrong_with_a_model_ends_no_other(
    built: Built, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str, code: int
) -> None:
    real = many.prepare_original

    def stumbles(plan: object, runner: object) -> object:
        if plan.name == "first":
            raise error
        return real(plan, runner)

    monkeypatch.setattr(many, "prepare_original", stumbles)
    result = build_many(built.matrix, Store(built.folder / "store"))
    assert [row.status for row in result.rows if row.model == "second"] == ["ok"]
    first = [row for row in result.rows if row.model == "first"]
    assert [row.exit_code for row in first] == [code, code]
    assert all(said in str(row.reason) for row in first)


def keys(store: Store) -> set[str]:
    return {f"{entry.parent.name} {entry.name}" for entry in store.entries() if entry.parent.name != "samples"}


def test_workers_make_the_same_bytes(built: Built) -> None:
    store, events = Store(built.folder / "store of workers"), Rows()
    result = build_many(built.matrix, store, events, "local:2")
    assert [(row.status, row.sha256) for row in result.rows] == [(row.status, row.sha256) for row in built.result.rows]
    # each output once, though rows that share some were built at once
    assert (result.stages_run, result.stages_reused) == (built.result.stages_run, built.result.stages_reused)
    # under the same keys, but that of random inputs, which are found by where they lie
    assert keys(store) == keys(Store(built.folder / "store"))
    assert any(detail.startswith("second: ") for _, detail in events.begun)


def test_one_model_is_built_by_workers_into_its_own_folder(built: Built) -> None:
    plan = built.matrix.plans[0]
    settings = dataclasses.replace(plan.settings, out=str(built.folder / "one"))
    result = build_many(one(settings), Store(built.folder / "store"), None, "local:1")
    assert [row.sha256 for row in result.rows] == [row.sha256 for row in built.result.rows[:2]]
    assert (result.out, result.stages_run) == (str(built.folder / "one"), 0)
    assert sorted(path.name for path in (built.folder / "one").glob("*.*")) == [
        "build.json",
        "first-host-onnxruntime-fp32.edgepack",
        "first-raspberry-pi-5-fp32.edgepack",
        "report.html",
    ]


class Gone:
    """A cluster whose scheduler dies before the first stage."""

    gone, lanes = False, 2

    def call(self, *_: object, **__: object) -> object:
        self.gone = True
        raise gone()


def test_a_scheduler_that_is_gone_is_no_fault_of_the_models(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every row would be told as failed, and what an earlier build made would be taken away."""
    files = [path for path in (built.folder / "all").rglob("*") if path.is_file() and path.parent.name != "logs"]
    before = {path: path.stat().st_mtime_ns for path in files}
    monkeypatch.setattr(many, "open_cluster", lambda *_: contextlib.nullcontext(Gone()))
    with pytest.raises(ToolchainError, match="the scheduler is gone"):
        build_many(built.matrix, Store(built.folder / "store that is empty"), None, "dask://nowhere:1")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_targets_that_are_run_alike_are_verified_once(built: Built) -> None:
    """The first model's files for two targets of one engine are the same, and so is how this host runs them."""
    rows = [row for row in built.result.rows if row.status == "ok"]
    assert [(row.model, row.target) for row in rows] == [
        ("first", "host-onnxruntime"), ("first", "raspberry-pi-5"), ("second", "host-onnxruntime"),
    ]  # fmt: skip
    assert len(list(built.store.folder.glob("verify/*"))) == 2


def test_two_builds_of_two_models_of_one_name_into_one_folder_take_turns(tmp_path: Path) -> None:
    """What is there afterwards is one build's, whole: no bundle of the one beside another's, or in a row of another."""
    results: list[BuildResult] = []

    def build_one(factor: int) -> None:
        folder = tmp_path / str(factor)
        folder.mkdir()
        proto = graph_models.small_conv()
        weights = proto.graph.initializer[0]
        changed = onnx.numpy_helper.to_array(weights) * factor
        weights.CopyFrom(onnx.numpy_helper.from_array(changed.astype("float32"), weights.name))
        onnx.save(proto, folder / "net.onnx")
        settings = BuildSettings(
            str(folder / "net.onnx"),
            ("host-onnxruntime",),
            precisions=("fp32", "bf16"),
            benchmark=False,
            out=str(tmp_path / "out"),
        )
        results.append(build(settings, Store(tmp_path / "store"), Recorded()))

    threads = [threading.Thread(target=build_one, args=(factor,)) for factor in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = documents.from_json(BuildResult, (tmp_path / "out" / "build.json").read_bytes(), "build.json")
    assert {row.status for result in results for row in result.rows} <= {"ok", "skipped"}
    assert {row.sha256 for row in last.rows} in [{row.sha256 for row in result.rows} for result in results]
    for row in last.rows:
        assert row.bundle is None or open_bundle(Path(row.bundle)).sha256 == row.sha256
