"""Converts timm models: ``timm:NAME`` with local or published weights, and folders as the hub has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.pt")


def convert(job: Any) -> None:
    """Convert ``job.source``; timm's own data configuration becomes the preprocessing."""
    shared = job.sibling("torch_graph")
    shared.without_torchvision()
    import timm
    import torch

    torch.manual_seed(0)
    model, name = _make(job, timm, torch)
    config = timm.data.resolve_model_data_config(model)
    job.describe("timm", name, "timm", "torch", "onnxscript")
    job.meta["preprocessing"] = _preprocessing(config)
    _show(job, timm, config)
    labels = getattr(model, "pretrained_cfg", {}).get("label_names")
    if labels:
        job.meta["classes"] = [str(label) for label in labels]
    channels, height, width = config["input_size"]
    given = job.shapes.get("x") or next(iter(job.shapes.values()), None)
    if given:
        _, channels, height, width = [16 if isinstance(dim, str) else dim for dim in given]
    shared.export(job, model, {"x": torch.randn(2, channels, height, width)}, {"x": {0: "N"}})


def _make(job: Any, timm: Any, torch: Any) -> tuple[Any, str]:
    folder = Path(job.source)
    if folder.is_dir():
        config = json.loads((folder / "config.json").read_text())
        weights = next((folder / n for n in _WEIGHTS if (folder / n).is_file()), None)
        name, classes = config["architecture"], config.get("num_classes")
        return _loaded(job, timm, torch, name, classes, weights, config.get("pretrained_cfg")), name
    name = job.source.partition(":")[2]
    if name.partition(".")[0] not in timm.list_models():
        import difflib

        near = ", ".join(difflib.get_close_matches(name, timm.list_models(), 3)) or "see timm.list_models()"
        raise job.refuse(f"timm {timm.__version__} has no model {name}", f"one of: {near}", "ConfigError")
    weights = job.options.get("weights")
    if weights:
        return _loaded(job, timm, torch, name, None, Path(weights), None), name
    if not job.options.get("download"):
        hint = "give them: --weights FILE.safetensors; or let timm fetch the published ones: --download"
        raise job.refuse(f"{job.source} names an architecture without weights", hint, "ConfigError")
    return timm.create_model(name, pretrained=True), name


def _loaded(job: Any, timm: Any, torch: Any, name: str, classes: Any, weights: Any, config: Any) -> Any:
    if weights is None or not weights.is_file():
        raise job.refuse(
            f"there is no file of weights {weights or 'in the folder'}", f"one of: {', '.join(_WEIGHTS)}", "ConfigError"
        )
    if weights.suffix == ".safetensors":
        state = job.sibling("torch_state").read_safetensors(job, str(weights))
    else:
        found = torch.load(weights, map_location="cpu", weights_only=True)
        state = found.get("state_dict", found) if isinstance(found, dict) else found
    made = timm.create_model(name, pretrained=False)
    if classes is None:
        head = made.pretrained_cfg.get("classifier")
        heads = (head,) if isinstance(head, str) else tuple(head or ())
        classes = next((state[f"{h}.weight"].shape[0] for h in heads if f"{h}.weight" in state), None)
    extra = {"pretrained_cfg_overlay": {k: v for k, v in config.items() if k != "classifier"}} if config else {}
    made = timm.create_model(name, pretrained=False, **({} if classes is None else {"num_classes": classes}), **extra)
    try:
        made.load_state_dict(state)
    except RuntimeError as error:
        words = " ".join(str(error).split())[:400]
        raise job.refuse(
            f"the weights are not those of {name}: {words}", "name the architecture that they are of"
        ) from error
    return made


def _show(job: Any, timm: Any, config: dict[str, Any]) -> None:
    """Keep what timm's own transform makes of pictures."""
    from PIL import Image

    if config["input_size"][0] != 3:
        return
    transform = timm.data.create_transform(**config, is_training=False)
    job.sibling("probe_pictures").compare(job, lambda picture: transform(Image.fromarray(picture)).numpy())


def _preprocessing(config: dict[str, Any]) -> dict[str, Any]:
    """Return timm's evaluation transform: scale the shorter side by the crop's share, then crop the centre."""
    _, height, width = config["input_size"]
    share = config.get("crop_pct") or 1.0
    interpolation = config.get("interpolation", "bilinear")
    known = interpolation if interpolation in ("nearest", "bilinear", "bicubic", "lanczos") else "bicubic"
    made = {
        "interpolation": known, "color": "RGB", "layout": "NCHW", "scale": 1 / 255,
        "mean": list(config["mean"]), "std": list(config["std"]),
    }  # fmt: skip
    if config.get("crop_mode", "center") == "squash":
        return {**made, "resize": [height, width]}
    return {**made, "resize_short": int(min(height, width) / share), "crop": [height, width]}
