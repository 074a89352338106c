"""How the inputs of a torch module are known: from --shape, from the samples, or from the user's example_inputs."""

from __future__ import annotations

import inspect
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.base.documents import suggestion
from edgepack.errors import ConfigError, DataError, ModelError
from edgepack.specs.model import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgepack.specs.data import SampleSet

BATCH = "N"
_LABELS = "labels"
_HINT = (
    "give --shape NAME=Nx3x224x224 (N is the batch), or --data with a recipe or a .npz, "
    "or set example_inputs = {'NAME': tensor} in the model's file"
)


@dataclass(frozen=True)
class Arguments:
    """The tensor arguments of a forward method: which must be given, which may, and whether others are accepted."""

    required: tuple[str, ...]
    optional: tuple[str, ...]
    anything: bool


@dataclass(frozen=True)
class KnownInput:
    """What is known of one input: its shape with the batch, and its dtype or None."""

    shape: tuple[int | str, ...]
    dtype: str | None


def forward_arguments(forward: Callable[..., Any]) -> Arguments:
    """Return the arguments that ``forward`` takes by name."""
    required, optional, anything = [], [], False
    for parameter in inspect.signature(forward).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            anything = True
        elif parameter.default is parameter.empty:
            required.append(parameter.name)
        else:
            optional.append(parameter.name)
    return Arguments(tuple(required), tuple(optional), anything)


def find_known(
    arguments: Arguments,
    samples: SampleSet | None,
    shapes: Mapping[str, tuple[int | str, ...]],
    examples: Any,
) -> dict[str, KnownInput]:
    """Return what is known of every input, in the order of the arguments.

    ``shapes`` come first, then the samples, then ``examples`` (a tensor, a sequence, or a dict by name). Raises
    ``ConfigError`` when an argument has no shape, or a name is not an argument.
    """
    known = _from_examples(arguments, examples)
    known.update(_from_samples(arguments, samples) if samples else {})
    known.update(_from_shapes(arguments, shapes))
    missing = [name for name in arguments.required if name not in known]
    if missing or not known:
        what = f"the input {missing[0]!r}" if missing else "the model's inputs"
        raise ConfigError(f"the shape of {what} is not known", hint=_HINT)
    order = [*arguments.required, *arguments.optional]
    return {name: known[name] for name in sorted(known, key=lambda n: order.index(n) if n in order else len(order))}


def as_specs(known: Mapping[str, KnownInput], dtypes: Mapping[str, str]) -> tuple[TensorSpec, ...]:
    """Return the inputs with their dtypes settled."""
    return tuple(TensorSpec(name, dtypes[name], item.shape) for name, item in known.items())


def _from_shapes(arguments: Arguments, shapes: Mapping[str, tuple[int | str, ...]]) -> dict[str, KnownInput]:
    result = {}
    for name, shape in shapes.items():
        if any(isinstance(dim, int) and dim < 1 for dim in shape) or not shape:
            raise ConfigError(f"--shape {name}: {shape} is not a shape", hint="write --shape NAME=Nx3x224x224")
        result[_argument(arguments, name, "--shape")] = KnownInput(tuple(shape), None)
    return result


def _from_examples(arguments: Arguments, examples: Any) -> dict[str, KnownInput]:
    if examples is None:
        return {}
    if isinstance(examples, Mapping):
        named = {_argument(arguments, str(name), "example_inputs"): value for name, value in examples.items()}
    else:
        values = list(examples) if isinstance(examples, tuple | list) else [examples]
        names = [*arguments.required, *arguments.optional]
        names += [f"input_{i}" for i in range(len(names), len(values))] if arguments.anything else []
        if len(values) > len(names):
            raise ConfigError(f"example_inputs has {len(values)} values, but forward takes {len(names)}")
        named = dict(zip(names, values, strict=False))
    return {name: _from_array(name, value) for name, value in named.items()}


def _from_array(name: str, value: Any) -> KnownInput:
    """Return the shape and dtype of an example, a torch tensor or an array, its first axis being the batch."""
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise ConfigError(
            f"example_inputs: {name!r} is a {type(value).__name__}, not a tensor",
            hint="give tensors with a batch axis, such as torch.zeros(1, 3, 224, 224)",
        )
    shape: tuple[int | str, ...] = tuple(int(dim) for dim in value.shape)
    return KnownInput((BATCH, *shape[1:]) if shape else (), str(value.dtype).removeprefix("torch."))


def _from_samples(arguments: Arguments, samples: SampleSet) -> dict[str, KnownInput]:
    if samples.preprocessing is not None or samples.kind == "pictures":
        return _from_pictures(arguments, samples)
    if samples.kind == "npz":
        found = {name: item for name, item in _npz_arrays(Path(samples.source)).items() if name != _LABELS}
        known = {*arguments.required, *arguments.optional}
        return {name: item for name, item in found.items() if name in known or arguments.anything}
    if samples.kind in ("table", "sounds") and len(arguments.required) == 1:
        shape = _row_shape(samples) if samples.kind == "table" else _sound_shape(samples)
        return {arguments.required[0]: KnownInput((BATCH, *shape), "float32")} if shape else {}
    return {}  # whether a callable's samples have a batch axis is not known before the inputs are


def _row_shape(samples: SampleSet) -> tuple[int, ...]:
    """Return how many columns of a table feed the model's only input."""
    from edgepack.data.number_table import count_columns

    return (count_columns(samples.source, samples.task),)


def _sound_shape(samples: SampleSet) -> tuple[int, ...]:
    """Return the shape of what a recipe makes of a sound; nothing where that depends on the sound."""
    from edgepack.data.audio.features import feature_shape
    from edgepack.data.sound_folder import sound_settings

    shape = feature_shape(sound_settings(samples.task, samples.source))
    return (
        tuple(size for size in shape if isinstance(size, int))
        if "frames" not in shape and "samples" not in shape
        else ()
    )


def _from_pictures(arguments: Arguments, samples: SampleSet) -> dict[str, KnownInput]:
    from edgepack.data.preprocess import picture_shape

    preprocessing = samples.preprocessing
    if preprocessing is None or len(arguments.required) != 1:
        return {}
    shape = picture_shape(preprocessing)
    if not all(isinstance(dim, int) for dim in shape):
        return {}
    return {arguments.required[0]: KnownInput((BATCH, *shape), preprocessing.dtype)}


def _npz_arrays(path: Path) -> dict[str, KnownInput]:
    """Return the arrays of a .npz by name, from their headers alone; the first axis is that of the samples."""
    from numpy.lib import format as npy

    result = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                with archive.open(member) as file:
                    version = npy.read_magic(file)
                    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                    shape, _, dtype = read(file)
                if shape:
                    result[member.removesuffix(".npy")] = KnownInput((BATCH, *shape[1:]), dtype.name)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"cannot read {path}: {error}", hint="write it again with np.savez") from None
    return result


def _argument(arguments: Arguments, name: str, where: str) -> str:
    """Return the argument that ``name`` stands for; the empty name stands for the only one."""
    known = (*arguments.required, *arguments.optional)
    if not name and len(arguments.required) == 1:
        return arguments.required[0]
    if name in known or (arguments.anything and name):
        return name
    if not known:
        raise ModelError("the module's forward takes no inputs", hint="give a module that computes from tensors")
    raise ConfigError(f"{where}: the model has no input {name!r}", hint=suggestion(name, known))
