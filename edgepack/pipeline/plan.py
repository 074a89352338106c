"""What the settings of a build come to: everything that they name was found, and nothing is left open."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgepack.calibrate.observers import choose_observer
from edgepack.data.recipes import load_recipe
from edgepack.data.split import DEFAULT_SAMPLES, SampleRequest
from edgepack.embed.embed import check_parts
from edgepack.engines.targets import load_target
from edgepack.errors import ConfigError
from edgepack.pipeline.settings import AS_IS, BuildSettings, check_settings, executed, parse_shape
from edgepack.specs.data import Preprocessing, Recipe
from edgepack.specs.target import Target
from edgepack.specs.task import Task
from edgepack.specs.types import Observer, Precision
from edgepack.tasks import check_task
from edgepack.verify.answers import check_metric_fits
from edgepack.verify.metrics import find_metric


@dataclass(frozen=True)
class BuildPlan:
    """Settings as a build works by them; ``settings`` are those that were given, with their name filled in.

    ``only`` names the rows where they are not all targets in all precisions, with the plan of each: settings of one
    row may differ in what the rows do not have in common. ``recipe`` makes pictures of the size that ``shapes`` state.
    """

    settings: BuildSettings
    name: str
    out: Path
    targets: tuple[Target, ...]
    recipe: Recipe | None
    shapes: Mapping[str, tuple[int | str, ...]]
    observer: Observer
    percentile: float
    only: Mapping[tuple[str, Precision], BuildPlan] | None = None

    @property
    def as_is(self) -> bool:
        """Say whether the model's own integers are kept."""
        return AS_IS in self.settings.precisions

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How pictures become the model's input."""
        return self.recipe.preprocessing if self.recipe else None

    @property
    def task(self) -> Task | None:
        """What the model is for: the recipe's task, changed by what was asked for; None where nobody said."""
        return chosen_task(self.settings.task, self.recipe)

    @property
    def request(self) -> SampleRequest:
        """Which samples the build asks for."""
        return SampleRequest(
            data=self.settings.data,
            eval_data=self.settings.eval,
            preprocessing=self.preprocessing,
            samples=self.settings.samples,
            default=self.recipe.samples if self.recipe else DEFAULT_SAMPLES,
            eval_samples=self.settings.eval_samples,
            seed=self.settings.seed,
            shapes=self.shapes,
            task=self.task,
            skip_bad=self.settings.skip_bad,
        )

    def rows(self) -> Iterator[tuple[Target, Precision]]:
        """Yield the rows in their order."""
        for target, precision in itertools.product(self.targets, map(executed, self.settings.precisions)):
            if self.only is None or (target.id, precision) in self.only:
                yield target, precision

    def of_row(self, target: Target, precision: Precision) -> BuildPlan:
        """Return the plan that a row is built by."""
        return self if self.only is None else self.only[target.id, precision]

    def bundle(self, target: Target, precision: Precision) -> Path:
        """Return where the bundle of a row goes."""
        return self.out / f"{self.name}-{target.id}-{precision}.edgepack"


def chosen_task(asked: str | None, recipe: Recipe | None) -> Task | None:
    """Return the task of a recipe, or the one asked for as ``kind`` or ``kind:decoder``, which wins.

    Raises ``ConfigError`` for one that is not known.
    """
    own = recipe.task if recipe is not None else None
    if own is not None and recipe is not None:
        check_task(own, f"the recipe {recipe.name}: task")
    if asked is None:
        return own
    kind, _, decoder = asked.partition(":")
    same = own is not None and own.kind == kind and decoder in ("", own.decoder)
    task = own if same else Task(kind, decoder, classes=own.classes if own is not None else ())
    assert task is not None
    check_task(task, "--task")
    return task


def resolve(settings: BuildSettings) -> BuildPlan:
    """Return the plan of a build. What cannot be meant is refused before any work starts.

    Raises ``ConfigError`` with what to write instead.
    """
    settings = check_settings(settings)
    shapes = {key: parse_shape(key, text) for key, text in settings.shapes.items()}
    name = str(settings.name)
    targets = tuple(load_target(target) for target in settings.targets)
    ids = [target.id for target in targets]
    for target in ids:
        if ids.count(target) > 1:
            raise ConfigError(f"two targets have the id {target!r}", hint="give each profile its own id")
    recipe = load_recipe(settings.recipe, shapes) if settings.recipe else None
    task = chosen_task(settings.task, recipe)
    if settings.embed:
        check_parts(settings.embed, recipe, task)
    if settings.metric is not None and find_metric(settings.metric).of_answers:
        check_metric_fits(settings.metric, task)
    observer, percentile = choose_observer(recipe, settings.observer, settings.percentile)
    out = Path(settings.out or f"artifacts/{name}")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"the output folder {out} is a file", hint="give a folder, as in --out artifacts/NAME")
    return BuildPlan(
        settings=settings,
        name=name,
        out=out,
        targets=targets,
        recipe=recipe,
        shapes=shapes,
        observer=observer,
        percentile=percentile,
    )
