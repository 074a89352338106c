"""What was found about samples."""

from __future__ import annotations

from edgepack.specs.data import Finding, Lint


def test_warnings_are_the_findings_that_call_for_a_change() -> None:
    first, second = Finding("files", "warning", "empty", "remove it"), Finding("labels", "warning", "few", "add some")
    note = Finding("copies", "note", "none")
    found = Lint("model", "data", None, 3, None, "minmax", 0, (first, note, second))
    assert found.warnings == (first, second)
    assert Lint("model", "data", None, 3, None, "minmax", 0, (note,)).warnings == ()
