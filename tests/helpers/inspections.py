"""What lint's checks are given, of samples that nobody surveyed."""

from __future__ import annotations

from pathlib import Path

from edgepack.lint import Check, Inspected, Surveyed
from edgepack.lint.survey import Survey
from edgepack.specs.data import Finding, SampleSet
from edgepack.specs.model import OnnxModel
from edgepack.specs.types import no_progress


def inspected(model: OnnxModel, samples: SampleSet, scratch: Path) -> Inspected:
    surveyed = Surveyed("calibration samples", samples, Survey((), (), None, (), (), ()), None)
    return Inspected(model, surveyed, None, "minmax", 99.99, scratch, no_progress)


def one_finding(check: Check, model: OnnxModel, samples: SampleSet, scratch: Path) -> tuple[Finding, int]:
    """Return the one finding of a check, of "nothing" where there is none, and how often the model ran for it."""
    found = check(inspected(model, samples, scratch))
    if not found.findings:
        return Finding("nothing", "note", ""), found.model_runs
    (finding,) = found.findings
    return finding, found.model_runs
