"""Converts files of torch: TorchScript, whole modules, and state dicts that ``--module file.py:Class`` completes."""

from __future__ import annotations

import zipfile
from typing import Any

_SHOWN = 4


def convert(job: Any) -> None:
    """Convert ``job.source``."""
    shared = job.sibling("torch_graph")
    shared.without_torchvision()
    import torch

    torch.manual_seed(0)
    module, title = _load(job, torch)
    job.describe("torch", title, "torch", "onnxscript")
    module = module.eval().cpu()
    if any(t.is_floating_point() and t.dtype != torch.float32 for t in (*module.parameters(), *module.buffers())):
        module = module.float()
    feeds, free = shared.picture_feeds(job, module, shared.argument_names(module))
    shared.export(job, module, feeds, free)


def _load(job: Any, torch: Any) -> tuple[Any, str]:
    if job.source.endswith(".safetensors"):
        return _completed(job, torch, job.sibling("torch_state").read_safetensors(job, job.source))
    if _is_script(job.source):
        return torch.jit.load(job.source, map_location="cpu"), "TorchScript"
    trusted = bool(job.options.get("trust_code"))
    if trusted and job.options.get("module"):
        _define(job)
    try:
        found = torch.load(job.source, map_location="cpu", weights_only=not trusted)
    except Exception as error:
        words = str(error).splitlines()[0][:300]
        hint = "give the code that its classes are in: --module file.py:Class; or save its state_dict"
        raise job.refuse(f"torch {torch.__version__} cannot load it: {words}", hint) from error
    module = job.sibling("torch_state").find_module(job, found)
    if module is not None:
        return module, type(module).__name__
    return _completed(job, torch, found)


def _is_script(source: str) -> bool:
    if not zipfile.is_zipfile(source):
        return False
    with zipfile.ZipFile(source) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _define(job: Any) -> None:
    """Let the pickle find the user's classes: in their module, and where a script that saved them had them."""
    import sys

    loaded = job.sibling("user_module").load(job, job.options["module"])
    for name, value in vars(loaded).items():
        if not name.startswith("__"):
            setattr(sys.modules["__main__"], name, value)


def _completed(job: Any, torch: Any, found: Any) -> tuple[Any, str]:
    """Return the class that the user names with the weights in it."""
    states = job.sibling("torch_state")
    choices = states.find_states(job, found)
    reference = job.options.get("module")
    if not reference:
        state = choices[0].tensors
        names = [f"{name} {list(tensor.shape)}" for name, tensor in list(state.items())[:_SHOWN]]
        more = f" and {len(state) - _SHOWN} more" if len(state) > _SHOWN else ""
        raise job.refuse(
            f"it is a state dict, weights without the network: {', '.join(names)}{more}",
            "name the class that they belong to: --module file.py:Class; of a timm model: timm:NAME --weights FILE",
            "ConfigError",
        )
    made = job.sibling("user_module").find(job, reference)
    module = made if isinstance(made, torch.nn.Module) else _called(job, made, reference)
    if not isinstance(module, torch.nn.Module):
        raise job.refuse(
            f"{reference} gave a value of type {type(module).__name__}, not a torch.nn.Module",
            "name a class of torch.nn.Module, or a function without arguments that returns one: --module file.py:make",
            "ConfigError",
        )
    states.fill(job, module, choices, reference)
    return module, type(module).__name__


def _called(job: Any, made: Any, reference: str) -> Any:
    try:
        return made()
    except TypeError as error:
        hint = "name a function without arguments that makes it: --module file.py:make"
        raise job.refuse(f"{reference} cannot be called without arguments: {error}", hint) from error
