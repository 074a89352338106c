"""What commands of single stages write."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from small_bundles import small_onnx

from edgepack.cli.outputs import copy_file, copy_folder, deliver, refuse_folder, stage_runner
from edgepack.errors import ConfigError, StorageError
from edgepack.execution.runner import StageRunner
from edgepack.graph.load import load_model


def test_a_model_comes_with_its_weights(tmp_path: Path) -> None:
    proto = onnx.load(small_onnx(tmp_path / "in.onnx"))
    (tmp_path / "in").mkdir()
    onnx.save(proto, tmp_path / "in" / "m.onnx", save_as_external_data=True, location="w.data", size_threshold=100)
    deliver(load_model(tmp_path / "in" / "m.onnx"), tmp_path / "out" / "other.onnx")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["other.onnx", "w.data"]
    assert load_model(tmp_path / "out" / "other.onnx").external == ("w.data",)


def test_a_folder_is_no_file_to_write(tmp_path: Path) -> None:
    for call in (
        lambda: refuse_folder(tmp_path),
        lambda: deliver(load_model(small_onnx(tmp_path / "m.onnx")), tmp_path),
    ):
        with pytest.raises(ConfigError, match="is a folder") as caught:
            call()
        assert caught.value.hint == "give the name of the file to write, as in -o model.onnx"
    refuse_folder(tmp_path / "new.onnx")


def test_files_keep_their_places_below_a_folder(tmp_path: Path) -> None:
    source = tmp_path / "in"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "a").write_bytes(b"a")
    (source / "b").write_bytes(b"b")
    copy_folder(source, ("deep/a",), tmp_path / "out" / "new")
    assert (tmp_path / "out" / "new" / "deep" / "a").read_bytes() == b"a"
    assert not (tmp_path / "out" / "new" / "b").exists()


def test_a_file_where_a_folder_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(StorageError):
        copy_folder(tmp_path, (), tmp_path / "out" / "new")


def test_a_copy_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"old")
    with pytest.raises(FileNotFoundError):
        copy_file(tmp_path / "nothing", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(("limit", "seconds"), [(None, 600.0), (5.0, 5.0)])
def test_stages_run_in_the_store_that_was_named(tmp_path: Path, limit: float | None, seconds: float) -> None:
    with stage_runner(tmp_path / "store", limit) as runner:
        assert isinstance(runner, StageRunner)
        assert runner.store.folder == tmp_path / "store"
        assert runner.logs == tmp_path / "store" / "logs"
        assert runner.limit_s == seconds
