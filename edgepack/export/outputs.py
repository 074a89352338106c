"""Names the outputs of a torch module: ``output``, ``output_0``..., or the keys and fields that it returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgepack.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "output"


def name_outputs(value: Any, taken: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what a module returned, flat and by name: tensors, or whatever stands in their places.

    A single value is ``output``; the items of a tuple or list are ``output_0`` and so on; those of a dict, named tuple
    or dataclass have its keys; inner names are joined by an underscore. None is left out. A name in ``taken`` (the
    inputs) gets the suffix ``_out``. Raises ``ModelError`` when two outputs have one name, or there are none.
    """
    result: dict[str, Any] = {}
    for path, item in _leaves(value, ()):
        name = "_".join(path) or NAME
        name = f"{name}_out" if name in taken else name
        if name in result:
            raise ModelError(f"the module returns two outputs named {name!r}", hint="give them different keys")
        result[name] = item
    if not result:
        raise ModelError("the module returns no tensor", hint="let forward return a tensor, a tuple or a dict of them")
    return result


def check_tensors(outputs: Mapping[str, Any]) -> None:
    """Raise ``ModelError`` unless every output is a torch tensor."""
    import torch

    for name, value in outputs.items():
        if not isinstance(value, torch.Tensor):
            raise ModelError(
                f"the output {name!r} of the module is of type {type(value).__name__}, not a tensor",
                hint="let forward return tensors only, in a tuple, a dict, a named tuple or a dataclass",
            )


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if value is None:
        return
    children = _children(value, path)
    if children is None:
        yield path, value
        return
    for key, child in children:
        yield from _leaves(child, (*path, key))


def _children(value: Any, path: tuple[str, ...]) -> list[tuple[str, Any]] | None:
    """Return the named parts of a container; None for anything else."""
    if isinstance(value, Mapping):
        return [(str(key), child) for key, child in value.items()]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return [(name, getattr(value, name)) for name in value._fields]
    if isinstance(value, tuple | list):
        prefix = () if path else (NAME,)
        return [("_".join((*prefix, str(index))), child) for index, child in enumerate(value)]
    return None
