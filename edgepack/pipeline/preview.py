"""``edgepack plan``: what a build would make, and what stands in its way, before any work is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgepack.engines.fallback import build_versions
from edgepack.engines.targets import is_this_host, refusal
from edgepack.errors import CompileError, EdgepackError
from edgepack.pipeline.command_line import build_command
from edgepack.pipeline.plan import BuildPlan, resolve
from edgepack.pipeline.present import look_for_inputs
from edgepack.pipeline.rows import skipped_row
from edgepack.pipeline.settings import BuildSettings
from edgepack.specs.target import Target
from edgepack.specs.types import Precision


@dataclass(frozen=True)
class PlannedRow:
    """One target and precision: "build" where it can be tried, else ``reason`` says why it is skipped or would fail.

    ``measured`` says whether its latency would be measured: this host is the device.
    """

    target: str
    precision: Precision
    engine: str
    status: Literal["build", "skipped", "failed"]
    measured: bool
    bundle: str
    reason: str | None = None
    exit_code: int = 0


@dataclass(frozen=True)
class BuildPreview:
    """What a build would make of ``model``. ``command`` is that build, with the names of targets written out."""

    name: str
    model: str
    out: str
    data: str | None
    recipe: str | None
    observer: str
    rows: tuple[PlannedRow, ...]
    command: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """What the build would end with at best."""
        return max((row.exit_code for row in self.rows), default=0)


def preview(settings: BuildSettings) -> BuildPreview:
    """Return what a build by these settings would make; the model and the samples are looked for, but not read.

    Raises ``ConfigError`` for settings that a build would refuse, and what ``look_for_inputs`` raises.
    """
    plan = resolve(settings)
    look_for_inputs(plan)
    return preview_plan(plan)


def preview_plan(plan: BuildPlan) -> BuildPreview:
    """Return what a build by this plan would make."""
    settings = plan.settings
    return BuildPreview(
        name=plan.name,
        model=settings.model,
        out=str(plan.out),
        data=settings.data,
        recipe=settings.recipe,
        observer=plan.observer,
        rows=tuple(_row(plan, target, precision) for target, precision in plan.rows()),
        command=build_command(plan.settings),
    )


def _row(plan: BuildPlan, target: Target, precision: Precision) -> PlannedRow:
    bundle = str(plan.bundle(target, precision))
    measured = plan.settings.benchmark and is_this_host(target)
    if precision not in target.compute.precisions:
        strict = plan.settings.strict
        return PlannedRow(
            target.id, precision, target.backend, "failed" if strict else "skipped", False, bundle,
            skipped_row(target, precision).reason, 2 if strict else 0,
        )  # fmt: skip
    try:
        build_versions(target)
        if (found := refusal(target)) is not None:
            raise CompileError(found.message, hint=found.hint or "")
    except EdgepackError as error:
        reason = f"{error.message} ({error.hint})"
        return PlannedRow(target.id, precision, target.backend, "failed", False, bundle, reason, error.exit_code)
    return PlannedRow(target.id, precision, target.backend, "build", measured, bundle)
