"""JUnit XML of a report."""

import dataclasses
from xml.etree import ElementTree

import made_up

from edgepack.report.formats.junit import to_junit, violations
from edgepack.report.text.conditions import parse_condition


def test_violations_are_what_a_command_ends_with():
    build = made_up.labelled_build()
    assert violations(*build, [parse_condition("p90 > 1s")]) == ()
    (text,) = violations(*build, [parse_condition("p90 > 5ms")])
    assert text.startswith("host-onnxruntime fp32: p90 > 5ms: p90 is 5.44 ms")


def test_junit_counts_and_names_its_cases(golden):
    text = to_junit(*made_up.labelled_build(), [parse_condition("p90 > 4ms"), parse_condition("drop > 0.5pt")])
    golden("labelled_build.junit.xml", text)
    (suite,) = ElementTree.fromstring(text)
    assert int(suite.get("tests")) == len(suite) == 18
    assert int(suite.get("failures")) == len(suite.findall("testcase/failure"))
    assert int(suite.get("errors")) == len(suite.findall("testcase/error")) == 1
    assert int(suite.get("skipped")) == len(suite.findall("testcase/skipped"))


def test_junit_of_hostile_names_is_well_formed():
    name = '<a b="c">&\x00\x1b[31m\ud800]]>'
    row = dataclasses.replace(made_up.labelled_build()[1][0], target=name, status="failed", reason=name)
    text = to_junit((), (row,))
    case = ElementTree.fromstring(text.encode())[0][0]
    assert '<a b="c">&' in case.get("name")
    assert "\x1b" not in text
