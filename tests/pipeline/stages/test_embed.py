"""A build whose engine takes bytes and answers itself: the same answers, in the bundle and on the device."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from graph_models import small_conv, write
from PIL import Image
from shape_data import draw, write_detector, write_things

from edgepack.bundle.archive import open_bundle
from edgepack.embed.check import in_words
from edgepack.errors import ConfigError
from edgepack.execution.store import Store
from edgepack.pipeline.build import build
from edgepack.pipeline.plan import resolve
from edgepack.pipeline.settings import BuildSettings
from edgepack.runtime.load import load
from edgepack.runtime.run import run
from edgepack.runtime.verify import verify
from edgepack.specs.embed import EmbeddedCheck

RECIPE = """title = "small"
[preprocessing]
resize = [8, 8]
scale = 0.00392156862745098
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
[task]
kind = "image-classification"
classes = ["a", "b", "c", "d", "e"]
[task.settings]
top = 5
"""
BOTH = ("preprocessing", "postprocessing")


def settings(root: Path, **changes: object) -> BuildSettings:
    if not (root / "data").exists():
        (root / "data").mkdir()
        for seed in range(12):
            Image.fromarray(draw(seed)[0]).save(root / "data" / f"{seed}.png")
        (root / "small.toml").write_text(RECIPE)
    known: dict[str, object] = dict(  # noqa: C408
        model=str(write(small_conv(), root)), data=str(root / "data"), recipe=str(root / "small.toml"),
        precisions=("fp32", "int8"), samples=6, out=str(root / "out"), min_sqnr=-200, benchmark=False, method="plain",
    )  # fmt: skip
    return BuildSettings(**{**known, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory):
    """Rows of the same model with both parts in the graph and with none, of two engines."""
    root = tmp_path_factory.mktemp("embed")
    store, targets = Store(root / "store"), ("host-onnxruntime", "host-openvino")
    inner = build(settings(root, embed=BOTH, targets=targets), store)
    outer = build(settings(root, targets=targets, out=str(root / "outer")), store)
    return root, inner.rows, outer.rows


@pytest.mark.slow
@pytest.mark.long
def test_every_answer_is_that_of_the_outer_way(built) -> None:
    root, rows, others = built
    for row, other in zip(rows, others, strict=True):
        assert (row.status, other.status, other.embedded) == ("ok", "ok", None), row.reason
        check = row.embedded
        assert check is not None
        assert (check.same, check.samples) == (6, 6)
        assert check.outer.total_ns > check.outer.engine_ns > 0
        assert check.embedded.total_ns > check.embedded.engine_ns > 0
        assert row.notes["embedded"] == in_words(check)
        with load(Path(row.bundle)) as inner, load(Path(other.bundle)) as outer:
            for path in sorted((root / "data").iterdir()):
                first, second = inner.predict(path), outer.predict(path)
                assert first.numbers[0] == second.numbers[0]
                # int8 of the folded model is quantized otherwise; its own outer way is what the build compared
                assert first.scores[0] == pytest.approx(second.scores[0], abs=1e-5 if row.precision == "fp32" else 0.1)


@pytest.mark.slow
@pytest.mark.long
def test_the_bundle_says_what_is_embedded_and_works(built) -> None:
    root, rows, _ = built
    pixels = np.asarray(Image.open(root / "data" / "3.png").convert("RGB"))
    for row in rows:
        bundle = Path(row.bundle)
        manifest = open_bundle(bundle).manifest
        assert manifest.embedded.keys() == set(BOTH)
        assert ("integers" in manifest.embedded["preprocessing"]) == (row.precision == "int8")
        assert (manifest.inputs[0].dtype, manifest.inputs[0].shape) == ("uint8", (1, 8, 8, 3))
        assert manifest.preprocessing is not None
        assert (manifest.preprocessing.dtype, manifest.preprocessing.resize) == ("uint8", (8, 8))
        assert {spec.name: spec.shape for spec in manifest.outputs} == {"scores": (1, 5), "classes": (1, 5)}
        found = verify(bundle)
        assert found.passed
        assert all("what they answer" in str(output.note) for output in found.outputs)
        ran = run(bundle, root / "data" / "3.png")
        assert ran.top5 is None  # five scores for five classes are no row of scores here
        with load(bundle) as model:
            assert model.predict(pixels).numbers == ran.answer.numbers
            camera = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            assert model.predict(camera).numbers == model.predict(camera[None]).numbers


@pytest.mark.slow
def test_a_detector_takes_bytes(tmp_path: Path) -> None:
    write_things(tmp_path / "data", 8)
    (row,) = build(
        settings(
            tmp_path, model=str(write_detector(tmp_path / "detector.onnx")), samples=4,
            recipe=str(tmp_path / "data" / "shapes.toml"), embed=("preprocessing",), precisions=("int8",),
        ),
        Store(tmp_path / "store"),
    ).rows  # fmt: skip
    assert row.status == "ok", row.reason
    assert row.embedded.largest == 0  # bytes as integers: the same numbers, not near ones
    assert "integers" in open_bundle(Path(row.bundle)).manifest.embedded["preprocessing"]
    assert verify(Path(row.bundle)).passed


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embed": ("preprocessing", "preprocessing")}, "given twice"),
        ({"embed": ("resizing",)}, "not a part"),
        ({"embed": ("preprocessing",), "recipe": "yamnet", "task": "tensors"}, "--embed"),
        ({"embed": ("postprocessing",), "recipe": "yamnet"}, "not made in the graph"),
        ({"embed": ("postprocessing",), "recipe": "yolov10"}, "final boxes already"),
        ({"embed": ("postprocessing",), "recipe": "pp-ocr-detection"}, "no operator"),
    ],
)
def test_what_cannot_be_embedded_is_refused_before_any_work(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ConfigError) as found:
        resolve(settings(tmp_path, **changes))
    assert message in found.value.message
    assert found.value.hint


@pytest.mark.slow
def test_a_model_without_a_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="how pictures become inputs"):
        build(
            settings(tmp_path, recipe=None, data=None, precisions=("fp32",), embed=("preprocessing",)),
            Store(tmp_path / "store"),
        )


def test_words_without_a_measurement() -> None:
    check = EmbeddedCheck({"preprocessing": "x"}, samples=4, same=3)
    assert in_words(check) == "preprocessing in the graph: the same answers on 3 of 4 samples"
    assert "medians of" not in in_words(dataclasses.replace(check, outer=None))
    mask = dataclasses.replace(check, enlarged=0.0123)
    assert in_words(mask).endswith(
        "3 of 4 samples, 1.2 % of the pixels others where a picture has twice the input's sides"
    )
