"""Converts Hugging Face models by transformers' own classes, with the outputs that its documentation names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}  # PIL.Image.Resampling
_LENGTH = 16


def convert(job: Any) -> None:
    """Convert ``job.source``, a folder, or ``hf:OWNER/NAME``."""
    shared = job.sibling("torch_graph")
    shared.without_torchvision()
    import torch
    import transformers

    place = job.source
    if place.startswith("hf:"):
        place = place[len("hf:") :]
        if not job.options.get("download"):
            raise job.refuse(
                f"{job.source} is a name on a hub", "let it be fetched: --download; or give a folder", "ConfigError"
            )
    options = {"trust_remote_code": bool(job.options.get("trust_code"))}
    config = transformers.AutoConfig.from_pretrained(place, **options)
    kind = _class(job, transformers, config)
    model = _load(job, kind, place, options, torch)
    config.return_dict = True
    if hasattr(config, "use_cache"):
        config.use_cache = False
    job.describe("transformers", type(model).__name__, "transformers", "torch", "onnxscript")
    _tell(job, transformers, config, place, options)
    feeds, free = _feeds(job, model, config, torch)
    shared.export(job, model, feeds, free, _outputs)


def _class(job: Any, transformers: Any, config: Any) -> Any:
    """Return the class that the configuration names; without one, the bare model."""
    names = [name for name in (config.architectures or []) if hasattr(transformers, name)]
    if names:
        return getattr(transformers, names[0])
    if config.architectures and not job.options.get("trust_code"):
        hint = "install the version of transformers that has it, and name its Python: --python PATH"
        raise job.refuse(f"transformers {transformers.__version__} has no {config.architectures[0]}", hint)
    return transformers.AutoModel


def _load(job: Any, kind: Any, place: str, options: dict[str, Any], torch: Any) -> Any:
    try:
        model, told = kind.from_pretrained(
            place, **options, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
        )
    except ValueError as error:
        if "attn_implementation" not in str(error) and "attention" not in str(error):
            raise
        model, told = kind.from_pretrained(place, **options, dtype=torch.float32, output_loading_info=True)
    missing = sorted(told.get("missing_keys", ()))
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        hint = "train that part, or name another class in config.json's architectures"
        raise job.refuse(f"weights of {type(model).__name__} are missing: {', '.join(missing[:3])}{more}", hint)
    return model


def _tell(job: Any, transformers: Any, config: Any, place: str, options: dict[str, Any]) -> None:
    """Keep what the folder knows besides the network: class names, the picture's preparation, tokenizer, rate."""
    labels = getattr(config, "id2label", None) or {}
    names = [str(labels[key]) for key in sorted(labels, key=int)]
    heads = ("ForImageClassification", "ForSequenceClassification", "ForTokenClassification", "ForAudioClassification")
    if names and any(head in type_name for head in heads for type_name in (config.architectures or [])):
        job.meta["classes"] = names
    job.meta["task"] = next(iter(config.architectures or ()), None)
    folder = Path(place)
    processor = folder / "preprocessor_config.json"
    if processor.is_file():
        found = json.loads(processor.read_text())
        rate = found.get("sampling_rate")
        job.meta["sampling_rate"] = int(rate) if rate else None
        if rate is None:
            _tell_pictures(job, transformers, place, options)
    if (folder / "tokenizer.json").is_file():
        job.meta["tokenizer"] = (folder / "tokenizer.json").read_text()


def _tell_pictures(job: Any, transformers: Any, place: str, options: dict[str, Any]) -> None:
    """Keep how the folder's own image processor prepares a picture: its sizes, and what it does with colours."""
    probe = job.sibling("probe_pictures")
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(place, backend="pil", **options)

        def prepare(picture: Any) -> Any:
            return processor(images=[picture], input_data_format="channels_last", return_tensors="np")["pixel_values"][
                0
            ]

        made = {**probe.arithmetic(prepare), **_geometry(processor.to_dict())}
        probe.compare(job, prepare)
    except Exception as error:  # a processor of no pictures, or one whose answer is none
        words = " ".join(str(error).split())[:200]
        job.note(f"how its pictures are prepared is not known: {type(error).__name__}: {words}")
        return
    job.meta["preprocessing"] = {"layout": "NCHW", **made}


def _geometry(found: dict[str, Any]) -> dict[str, Any]:
    """Return how an image processor resizes and crops (transformers' image_processing_backends)."""
    size, crop = found.get("size") or {}, found.get("crop_size") or {}
    resample = found.get("resample")
    made: dict[str, Any] = {"interpolation": "bilinear" if resample is None else _RESAMPLE.get(resample, "bilinear")}
    short, share = size.get("shortest_edge"), found.get("crop_pct")
    if found.get("do_resize") and short and share:  # ConvNeXt's: cropped below 384, squeezed from there on
        whole = {"resize": [int(short), int(short)]}
        return {**made, **(whole if short >= 384 else {"resize_short": int(short / share), "crop": [int(short)] * 2})}
    if found.get("do_resize") and short:
        made["resize_short"] = int(short)
    elif found.get("do_resize") and size.get("height"):
        made["resize"] = [int(size["height"]), int(size["width"])]
    if found.get("do_center_crop") and crop.get("height"):
        made["crop"] = [int(crop["height"]), int(crop["width"])]
    return made


def _feeds(job: Any, model: Any, config: Any, torch: Any) -> tuple[dict[str, Any], dict[str, dict[int, str]]]:
    """Return the inputs that the model's main argument calls for, and their free axes."""
    name = model.main_input_name
    vision = getattr(config, "vision_config", config)
    given = job.shapes_of([name]).get(name)
    if given:
        shape = [2 if axis == 0 else _LENGTH if isinstance(dim, str) else dim for axis, dim in enumerate(given)]
        free = {name: {a: (d if a else "N") for a, d in enumerate(given) if isinstance(d, str)}}
        return {name: torch.randint(0, 4, shape) if name == "input_ids" else torch.randn(shape)}, free
    if name == "pixel_values":
        size = (job.meta.get("preprocessing") or {}).get("crop") or (job.meta.get("preprocessing") or {}).get("resize")
        height, width = (
            size or [getattr(vision, "image_size", 224)] * 2
            if not isinstance(getattr(vision, "image_size", 224), (list, tuple))
            else vision.image_size
        )
        return {name: torch.randn(2, getattr(vision, "num_channels", 3), height, width)}, {name: {0: "N"}}
    if name in ("input_values", "input_features"):
        bins = getattr(config, "num_mel_bins", None)
        shape = (
            [2, bins, getattr(config, "max_source_positions", 1500) * 2]
            if name == "input_features" and bins
            else [2, 16000]
        )
        return {name: torch.randn(shape)}, {name: {0: "N"}}
    if name == "input_ids" and not getattr(config, "is_encoder_decoder", False):
        ids = torch.randint(0, int(getattr(config, "vocab_size", 100)), (2, _LENGTH))
        axes = {0: "N", 1: "sequence"}
        feeds = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if getattr(config, "type_vocab_size", 0) > 1 and "token_type_ids" in _arguments(model):
            feeds["token_type_ids"] = torch.zeros_like(ids)
        return feeds, {key: dict(axes) for key in feeds}
    raise job.refuse(
        f"{type(model).__name__} takes {name}, whose shape is not known here",
        f"give it: --shape {name}=Nx...",
        "ConfigError",
    )


def _arguments(model: Any) -> set[str]:
    import inspect

    return set(inspect.signature(model.forward).parameters)


def _outputs(answer: Any) -> dict[str, Any]:
    """Return the tensors that the task's output class documents, in its order; caches and losses are none."""
    import torch

    return {name: value for name, value in answer.items() if isinstance(value, torch.Tensor) and name != "loss"}
