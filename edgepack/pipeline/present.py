"""Looks whether what a build is given is there: the model, the samples, the functions in files. Nothing is run."""

from __future__ import annotations

from edgepack.base.user_functions import is_callable_reference, look_for
from edgepack.data.samples import kind_of
from edgepack.export import require_source
from edgepack.pipeline.plan import BuildPlan


def look_for_inputs(plan: BuildPlan) -> None:
    """Raise ``ModelError``, ``DataError`` or ``ConfigError`` for a model, samples or a metric that is not there.

    Only beginnings of files are read; a ``file.py:name`` is looked for in the file's text and not run.
    """
    settings = plan.settings
    require_source(settings.model)
    for data in filter(None, (settings.data, settings.eval)):
        kind_of(data, plan.task)
        if is_callable_reference(data):
            look_for(data)
    if settings.metric is not None and is_callable_reference(settings.metric):
        look_for(settings.metric)
