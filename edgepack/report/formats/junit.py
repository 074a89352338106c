"""The report as JUnit XML, for a build server: one test case a row and condition."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as Xml  # written only, never parsed

from edgepack.base.text import xml
from edgepack.report.entries import make_groups
from edgepack.report.text.conditions import Condition, Finding, judge
from edgepack.specs.build import BuildRow
from edgepack.specs.result import Result


def check_conditions(
    results: tuple[Result, ...], rows: tuple[BuildRow, ...], conditions: Sequence[Condition]
) -> tuple[tuple[str, tuple[Finding, ...]], ...]:
    """Return the findings of each model, with its title."""
    return tuple((group.title, judge(group.entries, conditions)) for group in make_groups(results, rows))


def violations(
    results: tuple[Result, ...], rows: tuple[BuildRow, ...], conditions: Sequence[Condition]
) -> tuple[str, ...]:
    """Return in words what did not pass, for a command that must end with exit code 5; nothing when all passed."""
    if not conditions:
        return ()
    return tuple(
        f"{finding.row}: {finding.condition}: {finding.message}"
        for _, findings in check_conditions(results, rows, conditions)
        for finding in findings
        if finding.outcome in ("failed", "error") and finding.condition != "build"
    )


def to_junit(results: tuple[Result, ...], rows: tuple[BuildRow, ...], conditions: Sequence[Condition] = ()) -> str:
    """Return JUnit XML as Jenkins, GitLab and GitHub's actions read it: testsuites, testsuite, testcase."""
    root = Xml.Element("testsuites", name="edgepack")
    for title, findings in check_conditions(results, rows, conditions):
        counts = {
            "tests": len(findings),
            "failures": sum(f.outcome == "failed" for f in findings),
            "errors": sum(f.outcome == "error" for f in findings),
            "skipped": sum(f.outcome == "skipped" for f in findings),
        }
        attributes = {"name": xml(title), **{key: str(value) for key, value in counts.items()}}
        suite = Xml.SubElement(root, "testsuite", attributes)
        for finding in findings:
            _add_case(suite, finding, title)
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"


def _add_case(suite: Xml.Element, finding: Finding, title: str) -> None:
    name = f"{finding.row}: {finding.condition}"
    case = Xml.SubElement(suite, "testcase", name=xml(name), classname=xml(title))
    kind = {"failed": "failure", "error": "error", "skipped": "skipped"}.get(finding.outcome)
    if kind is not None:
        Xml.SubElement(case, kind, message=xml(finding.message))
    elif finding.message:
        Xml.SubElement(case, "system-out").text = xml(finding.message)
