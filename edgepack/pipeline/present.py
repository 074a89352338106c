"""Looks whether what a build is given is there: the model, the samples, the functions in files. Nothing is run."""

from __future__ import annotations

from pathlib import Path

from edgepack.base.user_functions import is_callable_reference, look_for
from edgepack.data.samples import kind_of
from edgepack.export import find_framework, require_source
from edgepack.export.archive import archive_suffix
from edgepack.export.worker import refuse_code
from edgepack.pipeline.plan import BuildPlan
from edgepack.pipeline.settings import BuildSettings


def look_for_inputs(plan: BuildPlan) -> None:
    """Raise ``ModelError``, ``DataError`` or ``ConfigError`` for a model, samples or a metric that is not there.

    So is a model whose reading would run code that the settings do not allow. Of samples only beginnings are read; a
    ``file.py:name`` is looked for in the file's text and not run.
    """
    settings = plan.settings
    require_source(settings.model)
    refuse_code_of(settings)
    for data in filter(None, (settings.data, settings.eval)):
        kind_of(data, plan.task)
        if is_callable_reference(data):
            look_for(data)
    if settings.metric is not None and is_callable_reference(settings.metric):
        look_for(settings.metric)


def look_for_samples(plan: BuildPlan) -> None:
    """Raise ``DataError`` for samples that are not there; what is there is judged when the model is known."""
    for data in filter(None, (plan.settings.data, plan.settings.eval)):
        if not Path(data).exists():
            kind_of(data, plan.task)


def refuse_code_of(settings: BuildSettings) -> None:
    """Raise ``ConfigError`` when reading the model would run code and the settings do not allow it.

    What is in an archive is not looked at.
    """
    framework = None if archive_suffix(settings.model) is not None else find_framework(settings.model)
    if framework is not None and framework.worker is not None:
        refuse_code(framework.worker, settings.model, settings.source)
