"""One stage alone, on small files."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from in_process import InProcess
from PIL import Image
from small_bundles import onnx_outputs, small_onnx

from edgepack.base import documents
from edgepack.bundle.archive import open_bundle
from edgepack.data.recipes import load_recipe
from edgepack.errors import ConfigError, DataError, VerificationError
from edgepack.pipeline.single_stage import (
    calibrate_model,
    compile_file,
    lint_model,
    make_job,
    measure_model,
    merge_statistics,
    pack_folder,
    quantize_model,
    ranges_of,
)
from edgepack.specs.model import CompiledModel
from edgepack.specs.task import Task

IMAGES = np.random.default_rng(0).standard_normal((12, 3, 8, 8), np.float32)


@pytest.fixture
def runner(tmp_path: Path) -> Any:
    return InProcess(tmp_path / "run")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return small_onnx(tmp_path / "m.onnx")


@pytest.fixture
def data(tmp_path: Path, model: Path) -> str:
    labels = onnx_outputs(model, {"image": IMAGES})["scores"].argmax(axis=1)
    np.savez(tmp_path / "data.npz", image=IMAGES, labels=labels)
    return str(tmp_path / "data.npz")


def ranges(runner: Any, model: Path, data: str, **more: Any) -> Any:
    words = {"recipe_name": None, "samples": None, "observer": None, "percentile": None, "seed": 0, **more}
    return calibrate_model(runner, model, data, **words)


@pytest.mark.parametrize(("samples", "used"), [(None, 12), (5, 5)])
def test_ranges_are_of_all_samples_or_of_as_many_as_asked(
    runner: Any, model: Path, data: str, samples: Any, used: int
) -> None:
    found = ranges(runner, model, data, samples=samples, observer="mse")
    assert (found.samples, found.observer, found.percentile) == (used, "mse", None)
    assert set(found.tensors) >= {"image", "scores"}
    assert runner.ran[-1] == ("calibrate", f"mse ranges on {used} samples")


def test_samples_are_checked_before_they_are_used(runner: Any, model: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "copies.npz", image=np.repeat(IMAGES[:1], 12, axis=0))
    ranges(runner, model, str(tmp_path / "copies.npz"))
    assert any("Hint:" in note for note in runner.events.notes)
    with pytest.raises(DataError, match="--strict"):
        ranges(runner, model, str(tmp_path / "copies.npz"), strict=True)


@pytest.mark.parametrize("observer", [None, "entropy"])
def test_statistics_of_two_machines_are_merged(
    runner: Any, model: Path, data: str, tmp_path: Path, observer: Any
) -> None:
    for name, part in (("one", slice(0, 5)), ("other", slice(5, 12))):
        np.savez(tmp_path / f"{name}.npz", image=IMAGES[part])
        found = measure_model(runner, model, str(tmp_path / f"{name}.npz"), None, None, 0)
        (tmp_path / f"{name}.json").write_text(documents.to_json(found))
    assert runner.ran[-1] == ("measure_statistics", "statistics of 7 samples")
    merged = ranges_of(merge_statistics([tmp_path / "one.json", tmp_path / "other.json"]), observer, None)
    whole = ranges(runner, model, data, observer=observer or "minmax")
    assert (merged.tensors, merged.samples, merged.observer) == (whole.tensors, 12, observer or "minmax")


def test_a_job_has_what_the_recipe_says(runner: Any, model: Path, tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text("{}")
    (tmp_path / "words.toml").write_text(
        'title = "words"\n[task]\nkind = "text-classification"\ninput = {tokenizer = "own.json", max_length = 8}\n'
    )
    plain, words = make_job(runner, model, None), make_job(runner, model, str(tmp_path / "words.toml"))
    assert runner.ran[-1] == ("write_job", "m.onnx")
    assert (plain.job.preprocessing, plain.job.task) == (None, None)
    assert words.job.task == Task("text-classification", input={"max_length": 8})
    assert [entry.path for entry in words.job.files] == ["model/model.onnx", "task/tokenizer.json"]
    pictures = make_job(runner, model, "imagenet").job.preprocessing
    assert pictures == load_recipe("imagenet").preprocessing


def test_lint_compares_with_other_samples(runner: Any, model: Path, data: str) -> None:
    words: Any = (None, None, None, None, 0)
    alone = lint_model(runner, str(model), data, None, *words)
    assert (alone.samples, alone.eval_samples) == (12, None)
    both = lint_model(runner, str(model), data, data, *words)
    assert (both.samples, both.eval_samples) == (12, 12)
    assert "overlap" in {finding.check for finding in both.warnings}


def test_quantizing_needs_ranges_of_this_file(runner: Any, model: Path, data: str, tmp_path: Path) -> None:
    found = ranges(runner, model, data)
    (tmp_path / "ranges.json").write_text(documents.to_json(found))
    result = quantize_model(runner, model, tmp_path / "ranges.json", "host-onnxruntime")
    assert result.outputs[0].name == "scores"
    other = small_onnx(tmp_path / "other.onnx", channels=4)
    with pytest.raises(ConfigError, match=r"ranges\.json was measured on a different model than .*other\.onnx"):
        quantize_model(runner, other, tmp_path / "ranges.json", "host-onnxruntime")


def compiled(runner: Any, model: Path, tmp_path: Path, **changes: Any) -> Path:
    """A folder as 'edgepack compile' writes it."""
    found = compile_file(runner, model, "host-onnxruntime", "fp32")
    folder = found.folder
    (folder / "compiled.json").write_text(documents.to_json(dataclasses.replace(found, **changes), folder))
    assert isinstance(found, CompiledModel)
    return folder


def test_a_compiled_folder_is_verified_and_packed(runner: Any, model: Path, data: str, tmp_path: Path) -> None:
    folder = compiled(runner, model, tmp_path)
    path = pack_folder(runner, folder, model, "host-onnxruntime", data, None, 0, "mine", "7")
    manifest = open_bundle(path).manifest
    assert (manifest.name, manifest.version, manifest.target) == ("mine", "7", "host-onnxruntime")
    assert manifest.accuracy is not None
    assert manifest.accuracy.agreement == 1.0
    assert manifest.accuracy.note == "accuracy on labels was not measured by 'edgepack pack'"
    assert pack_folder(runner, folder, model, "host-onnxruntime", data, None, 0, None, "7").name == "m.edgepack"


def test_files_that_compute_something_else_are_not_packed(runner: Any, model: Path, data: str, tmp_path: Path) -> None:
    folder = compiled(runner, model, tmp_path)
    # The same weights in another order: the classes are exchanged.
    proto = onnx.load(folder / "model.onnx")
    for tensor in proto.graph.initializer:
        if tensor.name == "matrix":
            values = onnx.numpy_helper.to_array(tensor)[:, ::-1].copy()
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, "matrix"))
    onnx.save(proto, folder / "model.onnx")
    with pytest.raises(VerificationError, match="the fp32 output 'scores'"):
        pack_folder(runner, folder, model, "host-onnxruntime", data, None, 0, "mine", "7")


def test_a_folder_that_compile_did_not_write_is_refused(runner: Any, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no compiled\.json") as caught:
        pack_folder(runner, tmp_path, model, "host-onnxruntime", None, None, 0, None, "1")
    assert "edgepack compile" in str(caught.value.hint)


def test_a_graph_is_compiled_in_the_precision_that_it_has(runner: Any, model: Path, data: str, tmp_path: Path) -> None:
    found = ranges(runner, model, data)
    (tmp_path / "r.json").write_bytes(documents.to_json(found).encode())
    quantized = quantize_model(runner, model, tmp_path / "r.json", "host-onnxruntime").path
    assert compile_file(runner, model, "host-onnxruntime", None).precision == "fp32"
    assert compile_file(runner, quantized, "host-onnxruntime", None).precision == "int8"
    with pytest.raises(ConfigError, match="has no quantized operators, not in int8") as error:
        compile_file(runner, model, "host-onnxruntime", "int8")
    assert "edgepack quantize" in error.value.hint
    with pytest.raises(ConfigError, match="computes in int8, not in fp32"):
        compile_file(runner, quantized, "host-onnxruntime", "fp32")


@pytest.fixture
def damaged(tmp_path: Path) -> tuple[str, str]:
    """A folder of 12 pictures, one of which is none, and a recipe for them."""
    for number, image in enumerate(IMAGES):
        path = tmp_path / "pictures" / f"class{number % 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((np.clip(image.transpose(1, 2, 0), 0, 1) * 255).astype(np.uint8)).save(path)
    path.write_bytes(b"no picture")
    recipe = tmp_path / "own.toml"
    recipe.write_text('title = "own"\n[preprocessing]\nresize = [8, 8]\n')
    return str(tmp_path / "pictures"), str(recipe)


def test_broken_samples_are_left_out_where_that_is_asked_for(
    runner: Any, model: Path, damaged: tuple[str, str]
) -> None:
    pictures, recipe = damaged
    assert ranges(runner, model, pictures, recipe_name=recipe, skip_bad=1).samples == 11
    assert measure_model(runner, model, pictures, recipe, None, 0, 1).samples == 11
    assert lint_model(runner, str(model), pictures, None, recipe, None, None, None, 0, 1).samples == 11
    with pytest.raises(DataError, match="is not a picture"):
        ranges(runner, model, pictures, recipe_name=recipe)


def test_a_module_is_exported_on_the_samples_that_are_whole(
    runner: Any, tmp_path: Path, damaged: tuple[str, str]
) -> None:
    pictures, recipe = damaged
    (tmp_path / "net.py").write_text("import torch\n\ndef net():\n    return torch.nn.Conv2d(3, 4, 3)\n")
    source = f"{tmp_path / 'net.py'}:net"
    with pytest.raises(DataError, match="is not a picture"):
        lint_model(runner, source, pictures, None, recipe, None, None, None, 0)
    assert lint_model(runner, source, pictures, None, recipe, None, None, None, 0, 1).samples == 11
