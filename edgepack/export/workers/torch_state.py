"""Weights of torch by name: reads them, finds them in what trainers wrap around them, puts them into a module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_SHOWN = 4
# What trainers call the network or its weights, the one to be taken first. Another name does where it is the only one.
_USUAL = ("state_dict", "model_state_dict", "model", "module", "net")
# Averaged weights are what trainers evaluate, and what such a checkpoint is saved for: Ultralytics, timm and RT-DETR
# take them where they are. A part of a key between underscores: ema, state_dict_ema, ema_model.
_AVERAGED = "ema"
_DEEPEST = 3
_AVERAGES_COUNTER = "n_averaged"  # beside the weights in torch.optim.swa_utils.AveragedModel
_COUNTERS = "num_batches_tracked"  # of a batch norm, for training alone; files of before torch 0.4.1 have none


@dataclass(frozen=True)
class State:
    """Weights by name, and where in the file they were: the keys that lead there, with dots."""

    place: str
    tensors: dict[str, Any]


def read_safetensors(job: Any, path: str) -> dict[str, Any]:
    """Return the tensors of a safetensors file: a length, a JSON header, and bytes (its README, "Format").

    Tensors that a module has under several names stand there once, and the other names in the metadata
    (safetensors.torch.save_model). Raises what ``job.refuse`` makes for a file that is not whole.
    """
    import json
    from math import prod

    import torch

    kinds = {
        "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
        "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    }  # fmt: skip
    with open(path, "rb") as file:  # noqa: PTH123
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError) as error:
            raise job.refuse(f"its header cannot be read: {error}", "copy or save it again") from error
        data = bytearray(file.read())
    found = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in kinds:
            raise job.refuse(
                f"the tensor {name} is of the type {entry['dtype']}, which is not read",
                "turn the weights into float32 in torch, and save them again",
            )
        kind, (begin, end) = kinds[entry["dtype"]], entry["data_offsets"]
        size = prod(entry["shape"]) * torch.empty((), dtype=kind).element_size()
        if not 0 <= begin <= end <= len(data) or end - begin != size:
            raise job.refuse(
                f"the tensor {name} needs {size} bytes, and {max(0, min(end, len(data)) - begin)} are there",
                "the file is cut short or damaged: copy or save it again",
            )
        piece = data[begin:end]
        found[name] = (
            torch.frombuffer(piece, dtype=kind).reshape(entry["shape"])
            if piece
            else torch.empty(entry["shape"], dtype=kind)
        )
    shared = {name: found[kept] for name, kept in header.get("__metadata__", {}).items() if kept in found}
    return {**{name: tensor for name, tensor in shared.items() if name not in found}, **found}


def find_module(job: Any, found: Any) -> Any:
    """Return the module that a file holds, itself or in what a trainer wrapped around it; None where there is none."""
    import torch

    places = {place: value for place, value in _walk(found) if isinstance(value, torch.nn.Module)}
    if not places:
        return None
    chosen = _first(list(places))
    module, averaged = places[chosen], None if _is_averaged(chosen) else _averages_of(places[chosen], found)
    if averaged is None:
        _tell(job, chosen, places)
    else:
        _tell(job, averaged.place, {averaged.place: None, **places})
        _load(module, averaged)
    return module


def find_states(job: Any, found: Any) -> list[State]:
    """Return the weights that a file holds, those first that are usually meant. Refuses one that holds none."""
    places = _weights(found)
    if not places:
        what = type(found).__name__
        held = f" with {', '.join(list(map(str, found))[:_SHOWN])}" if isinstance(found, dict) and found else ""
        raise job.refuse(f"it holds a {what}{held}, and no module or weights", "save model.state_dict()")
    return [State(place, _unwrapped(places[place])) for place in sorted(places, key=_rank)]


def fill(job: Any, module: Any, choices: list[State], reference: str) -> None:
    """Load the first of ``choices`` that are the weights of ``module``. Refuses where none are."""
    wrong = [_mismatch(module, choice.tensors) for choice in choices]
    # some keep averages of what is trained alone, without the statistics of batch norms
    while len(choices) > 1 and wrong[0] and _is_averaged(choices[0].place):
        if not module.state_dict().keys().isdisjoint(choices[0].tensors):  # else they are none: an ema_scheduler
            job.note(f"the averaged weights in {choices[0].place!r} were left out, as they do not fit: {wrong[0]}")
        choices, wrong = choices[1:], wrong[1:]
    usual = _is_usual(choices[0].place)
    fitting = [choice for choice, why in zip(choices, wrong) if not why]
    # weights that are usually meant must fit themselves: others that do may be those of a discriminator
    if (usual and wrong[0]) or not fitting:
        where = f"the weights in {choices[0].place!r}" if choices[0].place else "the weights"
        raise job.refuse(
            f"{where} are not those of {reference}: {wrong[0]}", "name the class that they were trained in"
        )
    if not usual and fitting[0].place and len(fitting) > 1:
        names = ", ".join(repr(choice.place) for choice in fitting)
        raise job.refuse(f"it holds weights for {reference} several times: {names}", "save those alone that are meant")
    chosen = fitting[0]
    _tell(job, chosen.place, {choice.place: None for choice in choices})
    _load(module, chosen)


def _load(module: Any, state: State) -> None:
    given = {name: tensor for name, tensor in state.tensors.items() if not name.endswith(_COUNTERS)}
    module.load_state_dict(given, strict=False)


def _weights(found: Any) -> dict[str, dict[str, Any]]:
    """Return the dicts of tensors in what a file holds, by their places."""
    import torch

    places = {}
    for place, value in _walk(found):
        if isinstance(value, dict):
            tensors = {str(name): item for name, item in value.items() if isinstance(item, torch.Tensor)}
            if any(tensor.dim() for tensor in tensors.values()):  # a checkpoint's own counters are not weights
                places[place] = tensors
    return places


def _averages_of(module: Any, found: Any) -> State | None:
    """Return the averaged weights of a module that lie beside it; None where none fit."""
    averages = (State(place, _unwrapped(each)) for place, each in _weights(found).items() if _is_averaged(place))
    return next((state for state in averages if not _mismatch(module, state.tensors)), None)


def _walk(value: Any, place: str = "", depth: int = 0) -> Any:
    """Yield what is in nested dicts with where it is; those whose keys are numbers are optimizers' own."""
    yield place, value
    if isinstance(value, dict) and depth < _DEEPEST and all(isinstance(key, str) for key in value):
        for key, item in value.items():
            yield from _walk(item, f"{place}.{key}" if place else key, depth + 1)


def _is_averaged(place: str) -> bool:
    return any(_AVERAGED in part.lower().split("_") for part in place.split("."))


def _is_usual(place: str) -> bool:
    return place.rpartition(".")[2] in _USUAL or _is_averaged(place)


def _rank(place: str) -> tuple[bool, int, int]:
    last = place.rpartition(".")[2]
    known = _USUAL.index(last) if last in _USUAL else len(_USUAL) + bool(place)
    return not _is_averaged(place), known, place.count(".")


def _first(places: list[str]) -> str:
    return min(places, key=_rank)


def _tell(job: Any, chosen: str, places: dict[str, Any]) -> None:
    others = [place for place in places if place != chosen]
    if chosen and others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        why = "the averaged weights, which trainers evaluate, " if _is_averaged(chosen) else ""
        job.note(
            f"it holds several networks: {why}{chosen!r} was taken, not {', '.join(map(repr, others[:_SHOWN]))}{more}; "
            "for another, save that one alone"
        )


def _unwrapped(tensors: dict[str, Any]) -> dict[str, Any]:
    """Return tensors by their names without what wrappers of modules put in front of them."""
    if _AVERAGES_COUNTER in tensors and all(n == _AVERAGES_COUNTER or n.startswith("module.") for n in tensors):
        tensors = {name: tensor for name, tensor in tensors.items() if name != _AVERAGES_COUNTER}
    for prefix in ("module.", "_orig_mod.", "model."):
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name[len(prefix) :]: value for name, value in tensors.items()}
    return tensors


def _mismatch(module: Any, given: dict[str, Any]) -> str:
    """Return what keeps weights from being those of a module, in words; an empty text where nothing does."""
    from torch.nn.parameter import is_lazy

    wanted = {n: t for n, t in module.state_dict(keep_vars=True).items() if not n.endswith(_COUNTERS)}
    # what the module has under several names may be given once
    told = {id(tensor) for name, tensor in wanted.items() if name in given}
    missing = [name for name, tensor in wanted.items() if name not in given and id(tensor) not in told]
    extra = [name for name in given if name not in wanted and not name.endswith(_COUNTERS)]
    shapes = [n for n, t in wanted.items() if n in given and not is_lazy(t) and t.shape != given[n].shape]
    parts = []
    for what, names in (("missing", missing), ("not in the class", extra), ("of another shape", shapes)):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            parts.append(f"{what}: {', '.join(names[:_SHOWN])}{more}")
    return "; ".join(parts)
