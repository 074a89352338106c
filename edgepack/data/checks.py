"""Checks one sample against the model's inputs; nothing wrong is ever corrected silently."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.base.documents import suggestion
from edgepack.base.shapes import show_shape
from edgepack.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgepack.specs.model import TensorSpec
    from edgepack.specs.types import Array


def check_names(found: Mapping[str, object], inputs: tuple[TensorSpec, ...], where: str) -> None:
    """Raise ``DataError`` when an input of the model has no array, naming the nearest one that is there."""
    for spec in inputs:
        if spec.name not in found:
            others = [name for name in found if name not in {i.name for i in inputs}]
            raise DataError(
                f"{where} has no array named {spec.name!r}, which is an input of the model",
                hint=_rename_hint(spec.name, others),
            )


def check_dtype(dtype: np.dtype[Any], spec: TensorSpec, where: str) -> None:
    """Raise ``DataError`` unless arrays of ``dtype`` may feed the input ``spec``.

    The same dtype may, and one of the same kind (signed, unsigned, floating) that widens to it without loss, because
    then the number the model sees is exactly the one in the sample: int32 token ids for an int64 input, float16
    features for a float32 one. A change of kind is refused even where it loses nothing: uint8 pixels for a float32
    input nearly always want a scaling that was forgotten. float64 is refused because it loses digits.
    """
    wanted = _input_dtype(spec)
    if dtype.hasobject or dtype.kind not in "biuf":
        raise DataError(
            f"{where}: {spec.name!r} has dtype {dtype}, which is not numeric",
            hint=f"save it as {wanted} (lists of different lengths become objects in numpy)",
        )
    widens = dtype.kind == wanted.kind and dtype.itemsize < wanted.itemsize
    if dtype.newbyteorder("=") != wanted and not widens:
        raise DataError(
            f"{where}: {spec.name!r} is {dtype.name}, the model's input is {wanted.name}",
            hint=_dtype_hint(dtype, wanted),
        )


def check_shape(shape: tuple[int, ...], spec: TensorSpec, where: str) -> None:
    """Raise ``DataError`` unless ``shape``, batch axis included, fits ``spec``."""
    if not fits(shape, spec):
        if (batch := _fixed_batch(shape, spec)) is not None:
            together = "x".join(map(str, (batch, *shape[1:])))
            raise DataError(
                f"{where}: {spec.name!r} has shape {show_shape(shape)}, and the model takes {batch} samples at once",
                hint=f"give each sample as {together} (in a .npz: an array of n x {together}), or export the model "
                f"with a free batch: in torch, dynamic_shapes={{{spec.name!r}: {{0: torch.export.Dim('N')}}}}",
            )
        raise DataError(
            f"{where}: {spec.name!r} has shape {show_shape(shape)}, the model's input is {show_shape(spec.shape)}",
            hint="give samples of the model's shape, or a recipe that resizes pictures to it",
        )


def _fixed_batch(shape: tuple[int, ...], spec: TensorSpec) -> int | None:
    """Return the batch that a model is fixed to, where that alone makes ``shape``, of one sample, not fit."""
    if not spec.shape or not shape or not isinstance(spec.shape[0], int) or spec.shape[0] < 2 or shape[0] != 1:
        return None
    return spec.shape[0] if fits((spec.shape[0], *shape[1:]), spec) else None


def fits(shape: tuple[int | str, ...], spec: TensorSpec) -> bool:
    """Return whether ``shape``, batch axis included, may feed ``spec``; a symbolic dimension fits any size."""
    return len(shape) == len(spec.shape) and all(
        isinstance(want, str) or want == have for have, want in zip(shape, spec.shape, strict=True)
    )


def check_values(array: Array, name: str, where: str) -> None:
    """Raise ``DataError`` when an array holds NaN or an infinite number."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        what = "NaN" if np.isnan(array).any() else "an infinite number"
        raise DataError(f"{where}: {name!r} holds {what}", hint="remove the sample or fix its source")


def to_input(array: Array, spec: TensorSpec) -> Array:
    """Return a checked array in the input's dtype and the machine's byte order, contiguous."""
    return np.ascontiguousarray(array, dtype=_input_dtype(spec)).reshape(array.shape)


def _input_dtype(spec: TensorSpec) -> np.dtype[Any]:
    try:
        dtype = np.dtype(spec.dtype)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "biuf":
        raise DataError(
            f"the model's input {spec.name!r} is of type {spec.dtype}, which samples cannot feed",
            hint="export the model with numeric inputs",
        )
    return dtype


def _rename_hint(name: str, others: list[str]) -> str:
    if not others:
        return f"add an array named {name!r}"
    near = suggestion(name, others)
    if len(others) == 1:
        return f"it has {others[0]!r}: name that {name!r}"
    return f"{near}; name the arrays like the model's inputs"


def _dtype_hint(dtype: np.dtype[Any], wanted: np.dtype[Any]) -> str:
    if wanted.kind == "f" and dtype.kind == "f":
        return f"write x.astype(np.{wanted.name}) when the samples are saved"
    if wanted.kind == "f":
        return (
            f"scale it as in training and save it as {wanted.name}, such as (x / 255).astype(np.{wanted.name}); "
            "raw integers are not scaled for you"
        )
    return f"save the samples as {wanted.name}"
