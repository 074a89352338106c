"""What a gallery shows: small pictures of both answers, levels of sounds; and nothing of samples without one."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from graph_models import small_conv, write
from PIL import Image
from shape_data import draw
from sounds import encode_wav

from edgepack.data.recipes import load_recipe
from edgepack.data.samples import find_samples
from edgepack.graph.load import load_model
from edgepack.pipeline.stages.gallery import draw_examples, with_layers, without_samples
from edgepack.specs.answer import Box
from edgepack.specs.bundle import LayerRecord, LayerRecords
from edgepack.specs.changes import Changed, Changes
from edgepack.specs.data import Preprocessing
from edgepack.specs.model import OnnxModel, TensorSpec


def opened(picture: str) -> np.ndarray:
    image = Image.open(io.BytesIO(base64.b64decode(picture)))
    assert not image.getexif()
    assert "comment" not in image.info
    return np.asarray(image).astype(int)


@pytest.fixture
def pictures(tmp_path: Path):
    for seed in range(3):
        image = Image.fromarray(draw(seed, 300, 600)[0])
        image.save(tmp_path / f"{seed}.jpg", comment=b"private", exif=_exif())
    made = Preprocessing(resize=(8, 8))
    model = load_model(write(small_conv(), tmp_path / "model"))
    (tmp_path / "model").rename(tmp_path.parent / f"{tmp_path.name}-model")
    return model, find_samples(str(tmp_path), model.inputs, made)


def _exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x9286] = "private"
    return exif


def test_boxes_are_drawn_into_both(pictures, tmp_path: Path) -> None:
    model, samples = pictures
    box = Box(0, "thing", 0.9, 100, 50, 500, 250)
    changes = Changes(3, 1, examples=(Changed(2, ("thing",), ("nothing",), fp32_boxes=(box,)),))
    (shown,) = draw_examples(changes, samples, model, tmp_path).examples
    first, second = map(opened, shown.pictures)
    assert first.shape == second.shape == (110, 220, 3)
    edge = 50, round(100 * 220 / 600)  # on the left side of the box
    assert np.abs(first[edge] - second[edge]).max() > 60
    assert np.abs(first[-3:] - second[-3:]).mean() < 3
    assert max(map(len, shown.pictures)) < 40_000


def test_classes_are_shown_once(pictures, tmp_path: Path) -> None:
    model, samples = pictures
    changes = Changes(3, 2, examples=(Changed(1, ("a",), ("b",)), Changed(0, ("a",), ("b",))))
    shown = draw_examples(changes, samples, model, tmp_path).examples
    assert [len(one.pictures) for one in shown] == [1, 1]
    assert [one.name for one in shown] == ["1.jpg", "0.jpg"]
    assert shown[0].pictures != shown[1].pictures


def test_sounds_have_levels(tmp_path: Path) -> None:
    for name in ("quiet", "loud"):
        (tmp_path / name).mkdir()
        wave = np.sin(np.arange(16000) / 5) * np.repeat([0.0, 0.9], 8000)
        (tmp_path / name / "0.wav").write_bytes(encode_wav(wave, 16000))
    recipe = load_recipe("speech-commands-log-mel")
    spec = TensorSpec("x", "float32", ("N", "C", "frames", "bins"))
    samples = find_samples(str(tmp_path), (spec,), None, task=recipe.task)
    model = OnnxModel(tmp_path, "", 0, 17, (spec,), ())
    changes = Changes(2, 1, examples=(Changed(1, ("a",), ("b",)),))
    (shown,) = draw_examples(changes, samples, model, tmp_path).examples
    assert shown.pictures == ()
    assert len(shown.levels) > 10
    assert max(shown.levels) == 1
    assert np.mean(shown.levels[:5]) < np.mean(shown.levels[-5:])


def test_without_a_gallery_no_sample_is_in_the_row() -> None:
    changes = Changes(3, 1, examples=(Changed(2, ("a",), ("b",), text="private"),))
    assert "private" not in repr(without_samples(changes))
    assert without_samples(changes).changed == 1


def test_the_worst_layers_stand_beside() -> None:
    layers = tuple(LayerRecord(f"l{i}", "Conv", True, "int8", sqnr_db=db) for i, db in enumerate([30, None, 9, 20]))
    found = with_layers(Changes(1, 0), LayerRecords(1, "", layers))
    assert found.worst_layers == (("l2", 9), ("l3", 20), ("l0", 30))
    assert with_layers(Changes(1, 0), None).worst_layers == ()
