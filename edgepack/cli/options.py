"""Options that several commands share, and their value types."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args

import click
from click.shell_completion import CompletionItem

from edgepack.base.documents import suggestion
from edgepack.base.run_options import RUN_OPTIONS, flag_of
from edgepack.cli.duration import SECONDS
from edgepack.specs.types import Part, Precision, Wanted

if TYPE_CHECKING:
    from edgepack.base.extensions import Table

F = TypeVar("F", bound=Callable[..., Any])

_SIZE = re.compile(r"([0-9]{1,5})(?:[x,]([0-9]{1,5}))?")
_BARE_SHAPE = re.compile(r"(?:[*]|[*]?[A-Za-z0-9_]+)(?:[x,][A-Za-z0-9_]+)+")
_SHARE = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)\s*(%)?\s*")
_DROP = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)\s*(%|pp|pt|points?)?\s*")
# What others call a precision.
_ELSEWHERE = {
    "float32": "fp32", "float": "fp32", "single": "fp32", "f32": "fp32", "float16": "fp16", "half": "fp16",
    "f16": "fp16", "bfloat16": "bf16", "i8": "int8", "8bit": "int8", "8": "int8",
}  # fmt: skip
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


class OneOf(click.Choice[str]):
    """A choice that suggests the nearest allowed value."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return ``value`` when it is allowed."""
        if value not in self.choices:
            name = (param.name if param and param.name else "value").replace("_", " ")
            meant = _ELSEWHERE.get(str(value).lower())
            near = suggestion(meant if meant in self.choices else value, self.choices)
            if set(PRECISIONS) <= set(self.choices):
                near = _of_precision(str(value)) or near
            self.fail(f"unknown {name.removesuffix('s')} {value!r}; {near}", param, ctx)
        return str(value)


def _of_precision(value: str) -> str | None:
    """Return what was meant by a value that stands where a precision belongs; None where it may be a misspelt one."""
    from edgepack.engines.targets import known_names

    if any(part.isspace() or part == ";" for part in value.strip()):
        return "several precisions are separated by commas, as fp32,int8"
    return f"that is a target: --target {value}" if value in known_names() else None


class RowOf(OneOf):
    """A row of a table, by its name; names are asked for when they are needed, as installed packages may add some."""

    def __init__(self, table: str) -> None:
        """Take where the table is, ``module:name``: it is imported when a name is needed."""
        self._table = table
        self.case_sensitive = True

    @property
    def choices(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names of the table."""
        from edgepack.base.extensions import load_reference

        return cast("Table[Any]", load_reference(self._table)).names()


class SeveralOf(OneOf):
    """One or several allowed values, separated by commas: ``fp32,int8``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the values as a tuple."""
        if isinstance(value, tuple):
            return value
        return tuple(super(SeveralOf, self).convert(part, param, ctx) for part in _parts(str(value)) or (value,))


class TargetNames(click.ParamType[tuple[str, ...]]):
    """Targets, separated by commas; a path with a comma in it, where there is such a file, is one."""

    name = "target"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the names as they were given."""
        if isinstance(value, tuple):
            return value
        found = (value,) if Path(value).exists() else _parts(value)
        return found or self.fail("no target given", param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Offer ids, the other names of targets and files; behind a comma too."""
        return complete_target(ctx, param, incomplete)


def complete_target(context: click.Context, option: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer targets to a shell; files where none fits."""
    from edgepack.engines.targets import known_names

    before, comma, last = incomplete.rpartition(",")
    found = [CompletionItem(f"{before}{comma}{name}") for name in known_names() if name.startswith(last)]
    return found or complete_file(context, option, incomplete)


def complete_recipe(context: click.Context, option: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer recipes to a shell; files where none fits."""
    from edgepack.data.recipes import list_recipes

    found = [CompletionItem(name) for name in list_recipes() if name.startswith(incomplete)]
    return found or complete_file(context, option, incomplete)


def complete_file(_context: click.Context, _option: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let a shell offer files and folders."""
    return [CompletionItem(incomplete, type="file")]


def flat(_context: click.Context, _option: click.Parameter, values: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """Return the values of an option that was given several times, each perhaps with several."""
    return tuple(value for several in values for value in several)


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


class SizeType(click.ParamType[tuple[int, int]]):
    """Height and width of pictures, ``320x480``; one number is both."""

    name = "HEIGHTxWIDTH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return (height, width)."""
        from edgepack.data.recipes import MOST_PIXELS_A_SIDE

        if isinstance(value, tuple):
            return value
        found = _SIZE.fullmatch(str(value).strip())
        height = int(found[1]) if found else 0
        width = int(found[2] or height) if found else 0
        if not (1 <= height <= MOST_PIXELS_A_SIDE and 1 <= width <= MOST_PIXELS_A_SIDE):
            self.fail(f"{value!r} is not a size: write height and width in pixels, as 320x320", param, ctx)
        return height, width


class DropType(click.ParamType[float]):
    """A drop of a metric: ``1pt``, ``1pp``, ``1%``, or bare what the metric is in, for most a fraction (0.01)."""

    name = "DROP"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the drop in what the metric is in."""
        found = _DROP.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is not a drop; write 1pt for one percentage point, or 0.01", param, ctx)
        if found[2] is None and float(found[1]) == 1.0:
            self.fail("1 is a drop of 100 percentage points; write 1pt for one percentage point", param, ctx)
        return float(found[1]) * (0.01 if found[2] else 1.0)


class ShareType(click.ParamType[float]):
    """A share: ``2%``, or a fraction (0.02)."""

    name = "SHARE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the share as a fraction."""
        found = _SHARE.fullmatch(str(value))
        share = float(found[1]) * (0.01 if found[2] else 1.0) if found else math.inf
        if share > 1.0 or (found and found[2] is None and share == 1.0):
            self.fail(f"{value!r} is not a share; write 2% or 0.02 for two in a hundred", param, ctx)
        return share


class PairType(click.ParamType[tuple[str, str]]):
    """``NAME=WHAT``."""

    def __init__(self, what: str, example: str) -> None:
        """Take what stands behind the name, in words, and an example of the whole."""
        self.name, self._example = f"NAME={what}", example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return the name and what stands behind it."""
        if isinstance(value, tuple):
            return value
        name, _, text = str(value).partition("=")
        if not name or not text:
            self.fail(f"{value!r} is not {self.name}; example: {self._example}", param, ctx)
        return name, text


class ShapeType(PairType):
    """``NAME=SHAPE``, or the shape alone for a model with one input: its name is empty then."""

    def __init__(self) -> None:
        """Take no more than the kind of pair says."""
        super().__init__("SHAPE", "input=Nx3x224x224, or Nx3x224x224 where the model has one input")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return the name and the shape in words."""
        if isinstance(value, str) and _BARE_SHAPE.fullmatch(value):
            return "", value
        return super().convert(value, param, ctx)


def _allow_native(context: click.Context, _option: click.Parameter, value: bool) -> None:
    """Allow it for this command and all processes that it starts."""
    from edgepack.runtime.native import VARIABLE

    before = os.environ.get(VARIABLE)
    if value and not context.resilient_parsing:
        os.environ[VARIABLE] = "1"
        context.call_on_close(lambda: os.environ.pop(VARIABLE) if before is None else None)


_OPTIONS: dict[str, Any] = {
    "allow_native": click.option(
        "--allow-native",
        is_flag=True,
        expose_value=False,
        callback=_allow_native,
        help="Run native code in the bundle, such as TVM's, even if not built here; only for bundles that you trust.",
    ),
    "json": click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout."),
    "store": click.option(
        "--store",
        metavar="FOLDER|s3://BUCKET/FOLDER|gs://...|file:///...",
        help="Cache of stage outputs, or one that machines share  [default: $EDGEPACK_STORE, else "
        "~/.cache/edgepack/store]",
    ),
    "data": click.option(
        "-d",
        "--data",
        shell_complete=complete_file,
        help="Calibration samples: a folder of pictures, a .npz or module:callable.",
    ),
    "eval": click.option(
        "--eval", "eval_data", help="Evaluation samples  [default: a part of --data that calibration does not see]"
    ),
    "recipe": click.option(
        "--recipe",
        shell_complete=complete_recipe,
        help="Preprocessing and calibration recipe: a name from 'edgepack recipes', or a .toml file.",
    ),
    "task": click.option(
        "--task",
        metavar="TASK[:DECODER]",
        help="What the model is for, such as image-classification  [default: the recipe's]",
    ),
    "skip_bad": click.option(
        "--skip-bad",
        type=click.IntRange(min=0),
        help="Skip up to this many samples that are broken or have broken labels  [default: 0]",
    ),
    "samples": click.option(
        "--samples", type=int, help="Number of calibration samples  [default: the recipe's, else all]"
    ),
    "eval_samples": click.option("--eval-samples", type=int, help="Number of evaluation samples  [default: all]"),
    "observer": click.option(
        "--observer",
        type=RowOf("edgepack.calibrate.observers:OBSERVERS"),
        help="How activation ranges are chosen  [default: the recipe's]",
    ),
    "percentile": click.option(
        "--percentile", type=float, help="Percentile of --observer percentile, 50 to 100  [default: the recipe's]"
    ),
    "seed": click.option("--seed", type=int, default=None, help="Seed of all random choices  [default: 0]"),
    "shape": click.option(
        "--shape",
        "shapes",
        type=ShapeType(),
        multiple=True,
        help="Shape of an input, as input=Nx3x224x224, or without the name where there is only one; a letter is a "
        "dynamic axis; * marks a first axis that is a length, not a batch. Repeatable.",
    ),
    "set": click.option(
        "--set",
        "constants",
        type=PairType("VALUE", "sr=16000"),
        multiple=True,
        help="Fix an input to a value, as sr=16000, and fold what depends on it. Repeatable.",
    ),
    "target": click.option(
        "-t",
        "--target",
        "targets",
        type=TargetNames(),
        multiple=True,
        callback=flat,
        help="Device profile: an id from 'edgepack targets', the beginning of several (jetson-orin-nano), or a .toml "
        "file. Repeatable, or separated by commas  [default: host-onnxruntime]",
    ),
    "precision": click.option(
        "-p",
        "--precision",
        "precisions",
        type=SeveralOf(get_args(Wanted)),
        multiple=True,
        callback=flat,
        help="Precision to build; as-is keeps the integers of a quantized model. Repeatable, or separated by commas  "
        "[default: fp32]",
    ),
    "requantize": click.option(
        "--requantize",
        is_flag=True,
        default=None,
        help="Take the float model out of a quantized one, and build that.",
    ),
    "embed": click.option(
        "--embed",
        type=SeveralOf(get_args(Part)),
        multiple=True,
        callback=flat,
        help="Parts of the task to put into the engine's graph: preprocessing, so that it takes uint8 pixels, "
        "postprocessing, so that it gives boxes or classes. Repeatable, or separated by commas.",
    ),
    "gallery": click.option(
        "--gallery",
        is_flag=True,
        default=None,
        help="Show up to twelve samples whose answer changed in the report, where everyone who has it sees them.",
    ),
    "python": click.option(
        "--python",
        shell_complete=complete_file,
        help="Python interpreter that has the model's framework  [default: an environment that edgepack makes]",
    ),
    "trust_code": click.option(
        "--trust-code",
        is_flag=True,
        default=None,
        help="Let code in the model's file, such as a pickle's, run confined.",
    ),
    "download": click.option(
        "--download",
        is_flag=True,
        default=None,
        help="Download what MODEL names on a hub (timm:NAME, keras:NAME, hf:OWNER/NAME).",
    ),
    "module": click.option(
        "--module", shell_complete=complete_file, help="Class that a state dict belongs to, as file.py:Class."
    ),
    "weights": click.option(
        "--weights", shell_complete=complete_file, help="File with the weights of a named architecture."
    ),
    "signature": click.option("--signature", help="Signature of MODEL to use, where it has several."),
    "strict": click.option(
        "--strict",
        is_flag=True,
        default=None,
        help="Treat warnings about calibration samples as errors (exit code 2).",
    ),
    "compile_limit": click.option(
        "--compile-limit", "compile_limit_s", type=SECONDS, help="Time limit of a stage in seconds  [default: 600]"
    ),
    **{
        option.name: click.option(flag_of(option), type=click.IntRange(option.least, option.most), help=option.help)
        for option in RUN_OPTIONS.values()
        if option.flag
    },
}


def on_board(function: F) -> F:
    """Add ``--on`` and ``--python``: the machine that a command runs on, where that is another one."""
    on = click.option("--on", metavar="USER@HOST", help="Machine to run it on, over ssh.")
    python = click.option(
        "--python", default="python3", show_default=True, help="With --on: the Python there that has edgepack."
    )
    return on(python(function))


def options(*names: str) -> Callable[[F], F]:
    """Add the shared options ``names`` to a command, in that order."""

    def add(function: F) -> F:
        for name in reversed(names):
            function = _OPTIONS[name](function)
        return function

    return add


# How a model that is not an ONNX file is read; ``SourceOptions`` has the same names.
SOURCE = ("python", "trust_code", "download", "module", "weights", "signature")


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Return only what the user gave: no None, no empty tuple."""
    return {k: v for k, v in values.items() if v is not None and v != ()}


def echo_json(value: Any) -> None:
    """Print a frozen value as JSON on stdout."""
    from edgepack.base.documents import to_json
    from edgepack.base.text import printable_json

    click.echo(printable_json(to_json(value)), nl=False)


def parse_shapes(pairs: Sequence[tuple[str, str]]) -> dict[str, tuple[int | str, ...]]:
    """Return the shapes of ``--shape`` options by input name."""
    from edgepack.pipeline.settings import parse_shape

    return {name: parse_shape(name, text) for name, text in pairs}
