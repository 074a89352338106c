"""The metrics: what is measured of a compiled model beside the fp32 model on the same samples, one module each.

To add one, add a module with a ``Metric`` and a line to ``METRICS``, which nothing else names; an installed package
adds its own by an entry point in the group ``edgepack.metrics``. Names are known without importing numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgepack.base.documents import suggestion
from edgepack.base.extensions import Table
from edgepack.base.user_functions import is_callable_reference
from edgepack.errors import ConfigError
from edgepack.specs.model import TensorSpec
from edgepack.specs.run import Accuracy
from edgepack.tasks import TASKS

if TYPE_CHECKING:
    from edgepack.specs.data import SampleSet
    from edgepack.specs.task import Task
    from edgepack.verify.closeness import Closeness
    from edgepack.verify.outputs import OutputReader

DEFAULT = "top1"
_USER = "module:function"  # stands for any reference to the user's own


@dataclass(frozen=True)
class Compared:
    """A compiled model beside the fp32 model: what was summed of both, and all outputs, on the same samples.

    ``metric`` is the name that was asked for. ``labels`` [n, ...] are there for metrics that need them, and for those
    that read answers where samples have some. ``seed`` fixes whatever is drawn at random. ``samples`` are those that
    both models were run on; ``verify/answers.py`` gives their answers.
    """

    metric: str
    closeness: Closeness
    expected: OutputReader
    found: OutputReader
    names: tuple[str, ...]
    labels: Any
    seed: int
    samples: SampleSet | None = None


@dataclass(frozen=True)
class Metric:
    """One metric; more is better, unless ``less_is_better``: then the drop is how much larger it is than fp32's.

    ``measure`` returns the figures of both models with the interval of their paired difference, or, as a text, why
    there are none; it raises ``DataError`` when outputs or labels do not fit. ``title`` is the metric in words, empty
    for its own name. ``unit`` "%" says that it is a fraction, which is read as per cent. ``needs_scores`` says that the
    first output must be class scores [batch, classes]. ``has_drop`` says that a drop against fp32 has a meaning, which
    --max-drop can limit. ``of_answers`` says that it reads the answers of the samples' task and labels of any
    kind; without labels fp32's answers stand for them. ``uses_labels`` says that it reads labels where samples have
    some, rows of numbers, and takes fp32's outputs for them where they have none. ``doubt`` returns why the figure of
    fp32 itself is not to be believed, None where it is.
    """

    measure: Callable[[Compared], Accuracy | str]
    title: str = ""
    unit: str = ""
    needs_labels: bool = False
    needs_scores: bool = False
    has_drop: bool = True
    of_answers: bool = False
    uses_labels: bool = False
    less_is_better: bool = False
    doubt: Callable[[Compared, Accuracy], str | None] | None = None


METRICS: Table[Metric] = Table(
    "metric",
    "edgepack.metrics",
    {
        "top1": "edgepack.verify.metrics.top_k:TOP1",
        "top5": "edgepack.verify.metrics.top_k:TOP5",
        "agreement": "edgepack.verify.metrics.agreement:METRIC",
        "sqnr": "edgepack.verify.metrics.sqnr:METRIC",
        "cosine": "edgepack.verify.metrics.cosine:METRIC",
        "map": "edgepack.verify.metrics.boxes:MAP",
        "map50": "edgepack.verify.metrics.boxes:MAP50",
        "mar": "edgepack.verify.metrics.boxes:MAR",
        "oks": "edgepack.verify.metrics.boxes:OKS",
        "miou": "edgepack.verify.metrics.masks:MIOU",
        "pixel-accuracy": "edgepack.verify.metrics.masks:PIXEL_ACCURACY",
        "f1": "edgepack.verify.metrics.f1:F1",
        "f1-micro": "edgepack.verify.metrics.f1:F1_MICRO",
        "precision": "edgepack.verify.metrics.threshold:PRECISION",
        "recall": "edgepack.verify.metrics.threshold:RECALL",
        "auroc": "edgepack.verify.metrics.ranking:AUROC",
        "average-precision": "edgepack.verify.metrics.ranking:AVERAGE_PRECISION",
        "mae": "edgepack.verify.metrics.regression:MAE",
        "rmse": "edgepack.verify.metrics.regression:RMSE",
        "spearman": "edgepack.verify.metrics.regression:SPEARMAN",
        "recall@1": "edgepack.verify.metrics.embedding:RECALL_1",
        "recall@5": "edgepack.verify.metrics.embedding:RECALL_5",
        "recall@10": "edgepack.verify.metrics.embedding:RECALL_10",
        "nearest-centre": "edgepack.verify.metrics.embedding:CENTRE",
        "span-f1": "edgepack.verify.metrics.span_f1:SPAN_F1",
        "cer": "edgepack.verify.metrics.transcript:CER",
        "wer": "edgepack.verify.metrics.transcript:WER",
        _USER: "edgepack.verify.metrics.user_function:METRIC",
    },
    Metric,
)


def metrics_in_words() -> str:
    """Return edgepack's own metrics as a list in words, the user's function last."""
    *names, user = METRICS.own
    return f"{', '.join(names)}, or {user}"


def find_metric(name: str) -> Metric:
    """Return the metric ``name``, a name of the table or a reference to the user's function.

    Raises ``ConfigError`` for any other; ``ToolchainError`` when another package's cannot be imported.
    """
    if name not in METRICS and is_callable_reference(name):
        return METRICS.get(_USER)
    if name not in METRICS:
        names = [known for known in METRICS.names() if known != _USER]
        near = suggestion(name, names)
        raise ConfigError(f"unknown metric {name!r}", hint=f"{near}{' Or' if near.endswith('?') else ', or'} {_USER}")
    return METRICS.get(name)


def has_own_unit(name: str) -> bool:
    """Say whether a metric is in a unit of its own; others, a user's among them, are taken for fractions."""
    return name in METRICS.own and name != _USER and METRICS.get(name).unit != "%"


_OF_NUMBERS = "--metric rmse or mae where the model predicts a number, "


def default_metric(outputs: Sequence[TensorSpec], *, labelled: bool, task: Task | None = None) -> str:
    """Return the metric of a build that names none; without labels it is said later that it was not measured.

    Raises ``ConfigError`` for labelled samples when the model's first output does not suit it.
    """
    if task is not None and (metrics := TASKS.get(task.kind).metrics) and metrics[0] != DEFAULT:
        return metrics[0]
    shape = outputs[0].shape
    if labelled and METRICS.get(DEFAULT).needs_scores and (len(shape) != 2 or shape[1] == 1):
        raise ConfigError(
            "the samples have labels, but the model's first output is not class scores [batch, classes]",
            hint=f"add {_OF_NUMBERS if shape[1:] in ((), (1,)) else ''}--metric module:function(outputs, labels) -> "
            "float, or --metric sqnr",
        )
    return DEFAULT
