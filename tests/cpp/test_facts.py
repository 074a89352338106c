"""What the C++ loader is built with comes from edgepack's own modules, and is the same each time."""

from __future__ import annotations

import re

import pytest

from edgepack import errors
from edgepack.bundle.manifest import _DTYPES
from edgepack.cpp import facts
from edgepack.cpp.facts import DTYPES, STATUSES, facts_header
from edgepack.engines import ENGINES
from edgepack.tasks import TASKS


def test_the_same_text_each_time() -> None:
    text = facts_header()
    assert text == facts_header()
    assert text.isascii()


def test_every_engine_task_and_limit_is_in_it() -> None:
    text = facts_header()
    for name in (*ENGINES.own, *TASKS.own):
        assert f'"{name}"' in text
    assert "inline constexpr uint64_t kManifestLimitBytes = 4194304;" in text
    assert "kType" in text


def test_the_types_are_those_of_manifests() -> None:
    assert {name for name, _, _ in DTYPES} == _DTYPES


def test_a_changed_fact_is_another_text(monkeypatch: pytest.MonkeyPatch) -> None:
    before = facts_header()
    monkeypatch.setattr(facts.layout, "MEMBER_LIMIT", 5)
    assert facts_header() != before


def test_the_statuses_of_the_header_are_the_error_classes() -> None:
    from edgepack.base.resources import package_folder

    header = (package_folder() / "cpp" / "include" / "edgepack.h").read_text()
    named = re.findall(r"EDGEPACK_(\w*ERROR) = (\d+)", header)
    assert [int(number) for _, number in named] == list(range(1, len(STATUSES) + 1))
    for (name, _), kind in zip(named[1:], STATUSES[1:], strict=True):
        assert name.replace("_", "").lower() == kind.__name__.lower()
    assert STATUSES[0] is errors.EdgepackError
    dtypes = re.findall(r"EDGEPACK_(BOOL|U?INT\d+|FLOAT\d+)\b", header)
    assert [name.lower() for name in dict.fromkeys(dtypes)] == [name for name, _, _ in DTYPES]
