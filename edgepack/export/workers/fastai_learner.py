"""Converts fastai Learners: the model, the vocabulary, and the transforms that a picture goes through."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any


def convert(job: Any) -> None:
    """Convert ``job.source``, which the user trusts: a Learner is a pickle of all its classes."""
    shared = job.sibling("torch_graph")
    shared.without_torchvision()
    import torch
    from fastai.learner import load_learner

    if job.options.get("module"):
        job.sibling("torch_file")._define(job)
    learner = load_learner(job.source, cpu=True)
    job.describe("fastai", type(learner.model).__name__, "fastai", "torch", "onnxscript")
    vocabulary = getattr(learner.dls, "vocab", None)
    if vocabulary is not None:
        job.meta["classes"] = [str(name) for name in vocabulary]
    shape = _tell(job, learner)
    model = learner.model.eval().cpu()
    names = shared.argument_names(model)[:1] or ["input"]
    if shape and not job.shapes:
        feeds = {names[0]: torch.randn(2, *shape)}
        shared.export(job, model, feeds, {names[0]: {0: "N"}})
        return
    feeds, free = shared.picture_feeds(job, model, names)
    shared.export(job, model, feeds, free)


def _tell(job: Any, learner: Any) -> tuple[int, ...] | None:
    """Keep how the Learner prepares a picture to predict its class; return the shape of what comes out."""
    prepare, probe = _preparation(learner), job.sibling("probe_pictures")
    try:
        shape = tuple(int(size) for size in prepare(next(probe.pictures())).shape)
    except Exception:  # no Learner of pictures
        return None
    geometry = _geometry([*_steps(learner.dls, "after_item"), *_steps(learner.dls, "after_batch")])
    if geometry is None or shape[0] != 3:
        job.note("its way to resize pictures is none that a recipe can say: give one that comes near, --recipe")
        return shape
    job.meta["preprocessing"] = {"layout": "NCHW", **probe.arithmetic(prepare), **geometry}
    probe.compare(job, prepare)
    return shape


def _preparation(learner: Any) -> Callable[[Any], Any]:
    """Return what makes an input of a picture, as ``Learner.predict`` does."""

    def prepare(picture: Any) -> Any:
        batch = learner.dls.test_dl([picture], num_workers=0).one_batch()
        return batch[0][0].detach().cpu().numpy()

    return prepare


def _geometry(steps: list[Any]) -> dict[str, Any] | None:
    """Return how transforms resize a picture that is not trained on (fastai/vision/augment.py); None for others."""
    made: dict[str, Any] | None = {}
    for step in steps:
        name, size = type(step).__name__, _height_width(getattr(step, "size", None))
        if name == "Resize" and size:
            made = _resized(size, str(getattr(step, "method", "crop")))
        elif name == "RandomResizedCrop" and size:
            more = math.ceil(max(size) * step.val_xtra / 8) * 8
            made = {"resize": [side + more for side in size], "crop": size}
        elif name in ("CropPad", "RandomCrop", "RatioResize", "RandomResizedCropGPU"):
            made = None
        elif (last := getattr(step, "cp_size", None)) is not None:
            made = _scaled(made, [int(side) for side in last])
    return made


def _resized(size: list[int], method: str) -> dict[str, Any] | None:
    if method == "squish":
        return {"resize": size}
    return {"resize_short": size[0], "crop": size} if method == "crop" and size[0] == size[1] else None


def _scaled(made: dict[str, Any] | None, last: list[int]) -> dict[str, Any] | None:
    """Return a way to resize whose result is resized again, as a batch on a GPU is: all in one step."""
    before = (made or {}).get("crop") or (made or {}).get("resize")
    if made is None or before is None or before[0] * last[1] != before[1] * last[0]:
        return None
    share = last[0] / before[0]
    found: dict[str, Any] = {}
    if "resize_short" in made:
        found["resize_short"] = round(made["resize_short"] * share)
    if "resize" in made:
        found["resize"] = [round(side * share) for side in made["resize"]]
    return {**found, **({"crop": last} if "crop" in made else {})}


def _height_width(size: Any) -> list[int] | None:
    """Return fastai's width and height the other way."""
    return [int(side) for side in reversed(size)] if size is not None and not isinstance(size, int) else None


def _steps(loaders: Any, name: str) -> list[Any]:
    pipeline = getattr(loaders, name, None)
    return list(getattr(pipeline, "fs", []))
