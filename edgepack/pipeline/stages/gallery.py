"""Makes what can be looked at of samples whose answer changed: small pictures with both answers, levels of sounds."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgepack.base.stage import stage
from edgepack.data.preprocess import decode_pixels
from edgepack.data.samples import has_pictures, read_picture_files, read_samples, sample_names
from edgepack.specs.answer import Box, Boxes
from edgepack.specs.bundle import LayerRecords
from edgepack.specs.changes import Changed, Changes
from edgepack.specs.data import SampleSet
from edgepack.specs.model import OnnxModel
from edgepack.specs.types import Array
from edgepack.tasks import TASKS
from edgepack.tasks.draw import outline
from edgepack.verify.changes import SAME_THING
from edgepack.verify.same_answers import unmatched

_SIDE, _QUALITY = 220, 70
_LEVELS = 120
_BOTH, _ONLY = (255, 255, 255), (240, 120, 0)
_LAYERS = 5


@stage("gallery")
def draw_examples(changes: Changes, samples: SampleSet, model: OnnxModel, out: Path) -> Changes:  # noqa: ARG001
    """Return the changes with names of their examples, and pictures of them or the levels of their sounds."""
    changes = _with_names(changes, samples)
    if has_pictures(samples):
        files = read_picture_files(samples, [one.position for one in changes.examples])
        examples = tuple(
            dataclasses.replace(one, pictures=_pictures(one, data, name))
            for one, (data, name) in zip(changes.examples, files, strict=True)
        )
        return dataclasses.replace(changes, examples=examples)
    if samples.task is not None and "sound" in TASKS.get(samples.task.kind).things:
        return dataclasses.replace(changes, examples=tuple(_with_levels(changes, samples, model)))
    return changes


def _with_names(changes: Changes, samples: SampleSet) -> Changes:
    names = sample_names(samples)
    examples = (dataclasses.replace(one, name=names[one.position]) for one in changes.examples)
    return dataclasses.replace(changes, examples=tuple(examples))


def without_samples(changes: Changes) -> Changes:
    """Return the changes without what shows a sample: that is for those who asked for a gallery."""
    return dataclasses.replace(changes, examples=())


def with_layers(changes: Changes, records: LayerRecords | None) -> Changes:
    """Return the changes with the layers whose output is furthest from fp32's."""
    known = [(layer.name, layer.sqnr_db) for layer in records.layers if layer.sqnr_db is not None] if records else []
    worst = sorted(((name, db) for name, db in known if db is not None), key=lambda one: one[1])
    return dataclasses.replace(changes, worst_layers=tuple(worst[:_LAYERS]))


def _pictures(one: Changed, data: bytes, name: str) -> tuple[str, ...]:
    """Return a small JPEG of each answer in base64, of one where nothing is drawn."""
    pixels = decode_pixels(data, name)
    factor = min(_SIDE / max(pixels.shape[:2]), 1.0)
    small = _resized(pixels, factor)
    if not one.fp32_boxes and not one.value_boxes:
        return (_jpeg(small),)
    before, after = _as_boxes(one.fp32_boxes, small), _as_boxes(one.value_boxes, small)
    lost, gained = unmatched(before, after, SAME_THING, 0.0)
    shown = (before, lost), (after, gained)
    return tuple(_jpeg(_drawn(small, boxes.corners * factor, only)) for boxes, only in shown)


def _as_boxes(boxes: tuple[Box, ...], pixels: Array) -> Boxes:
    corners = np.array([(b.left, b.top, b.right, b.bottom) for b in boxes], float).reshape(-1, 4)
    numbers, scores = np.array([b.number for b in boxes], int), np.array([b.score for b in boxes], float)
    return Boxes(corners, scores, numbers, pixels.shape[0], pixels.shape[1])


def _drawn(pixels: Array, corners: Array, only: Array) -> Array:
    """Return the picture with its boxes; those that the other answer does not have stand out."""
    result = pixels.copy()
    outline(result, np.delete(corners, only, axis=0), _BOTH)
    outline(result, corners[only], _ONLY, wide=2)
    return result


def _resized(pixels: Array, factor: float) -> Array:
    from PIL import Image

    height, width = (max(round(side * factor), 1) for side in pixels.shape[:2])
    return np.asarray(Image.fromarray(pixels).resize((width, height)))


def _jpeg(pixels: Array) -> str:
    """Return a picture as base64, without any of the file's own notes."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=_QUALITY, subsampling=0)  # lines are thin
    return base64.b64encode(buffer.getvalue()).decode()


def _with_levels(changes: Changes, samples: SampleSet, model: OnnxModel) -> Iterator[Changed]:
    for one in changes.examples:
        asked = dataclasses.replace(samples, indices=(samples.indices[one.position],))
        feeds = next(iter(read_samples(asked, model.inputs)))
        yield dataclasses.replace(one, levels=_levels(feeds[model.inputs[0].name]))


def _levels(array: Array) -> tuple[float, ...]:
    """Return the level over time, 0 to 1: of a waveform its largest values, of features their mean."""
    values = np.squeeze(np.asarray(array, np.float64))
    level = np.abs(values) if values.ndim <= 1 else values.reshape(len(values), -1).mean(axis=1)
    parts = np.array_split(level.ravel(), min(_LEVELS, level.size))
    peaks = np.array([part.max() for part in parts])
    low, high = (0.0 if values.ndim <= 1 else float(peaks.min())), float(peaks.max())
    return tuple(round(float(value), 3) for value in (peaks - low) / (high - low or 1.0))
