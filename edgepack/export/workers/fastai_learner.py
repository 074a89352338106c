"""Converts fastai Learners: the model, the vocabulary, and the transforms that a picture goes through."""

from __future__ import annotations

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
    size = _tell(job, learner)
    model = learner.model.eval().cpu()
    names = shared.argument_names(model)[:1] or ["input"]
    if size and not job.shapes:
        feeds = {names[0]: torch.randn(2, 3, *size)}
        shared.export(job, model, feeds, {names[0]: {0: "N"}})
        return
    feeds, free = shared.picture_feeds(job, model, names)
    shared.export(job, model, feeds, free)


def _tell(job: Any, learner: Any) -> tuple[int, int] | None:
    """Keep how a picture is prepared: fastai's Resize, IntToFloatTensor and Normalize; return its size."""
    made: dict[str, Any] = {"color": "RGB", "layout": "NCHW", "scale": 1 / 255, "mean": [0.0] * 3, "std": [1.0] * 3}
    size = None
    steps = [*_steps(learner.dls, "after_item"), *_steps(learner.dls, "after_batch")]
    for step in steps:
        name = type(step).__name__
        if name in ("Resize", "RandomResizedCrop") and getattr(step, "size", None):
            size = tuple(int(v) for v in reversed(step.size))  # fastai has width, height
            method = str(getattr(step, "method", "crop"))
            made["resize" if method == "squish" else "crop"] = list(size)
            if method != "squish":
                made["resize_short"] = min(size)
        elif name == "Normalize":
            made["mean"] = [float(v) for v in step.mean.flatten()]
            made["std"] = [float(v) for v in step.std.flatten()]
    if size and any(type(step).__name__ == "IntToFloatTensor" for step in steps):
        job.meta["preprocessing"] = made
    return size  # type: ignore[return-value]


def _steps(loaders: Any, name: str) -> list[Any]:
    pipeline = getattr(loaders, name, None)
    return list(getattr(pipeline, "fs", []))
