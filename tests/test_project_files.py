"""The files around the code: they fit their schemas, their links lead somewhere, and what make installs is pinned."""

from __future__ import annotations

import json
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("action.yml", "github-actions"),
        ("examples/github-workflow.yml", "github-workflows"),
        ("CITATION.cff", "citation-file-format"),
    ],
)
def test_a_file_fits_its_schema(name: str, schema: str) -> None:
    """The schemas are those of check-jsonschema; its own program takes two seconds a file."""
    package = pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed")
    import jsonschema
    from ruamel.yaml import YAML

    folder = Path(package.__file__).parent / "builtin_schemas" / "vendor"
    jsonschema.validate(YAML(typ="safe").load(ROOT / name), json.loads((folder / f"{schema}.json").read_text()))


def test_the_citation_names_this_version() -> None:
    from edgepack import __version__

    assert f'\nversion: "{__version__}"\n' in (ROOT / "CITATION.cff").read_text()


@pytest.mark.parametrize("name", ["README.md", "SECURITY.md", "examples/README.md"])
def test_every_link_to_a_file_leads_to_one(name: str) -> None:
    page = ROOT / name
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


@pytest.mark.parametrize("lock", sorted((ROOT / "locks").glob("dev-*.txt")), ids=lambda path: path.name)
def test_a_lock_has_the_versions_of_the_constraints_and_all_that_is_asked_for(lock: Path) -> None:
    """When this fails: make lock."""
    packaging = pytest.importorskip("packaging.utils")
    pinned = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)", re.MULTILINE)

    def pins(text: str) -> dict[str, str]:
        return {packaging.canonicalize_name(name): version for name, version in pinned.findall(text)}

    text = lock.read_text()
    locked, constraints = pins(text), pins((ROOT / "constraints.txt").read_text())
    assert {name: version for name, version in locked.items() if constraints.get(name) != version} == {}
    assert text.count(" \\\n    --hash=sha256:") >= len(locked)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = {packaging.canonicalize_name(re.split(r"[\[<>=!; ]", line)[0]) for line in extras["dev"]} - {"edgepack"}
    assert asked - set(locked) == set()
    assert "://" not in text, "a lock names no index"


def test_everything_that_make_installs_is_pinned() -> None:
    """Walks from the dev extra through what is installed here; constraints.txt must know all of it."""
    pytest.importorskip("packaging")
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pinned = {
        canonicalize_name(line.partition("==")[0])
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    waiting = [(Requirement(text), "") for extra in extras.values() for text in extra]
    seen: set[tuple[str, frozenset[str]]] = set()
    missing = set()
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        key = (name, frozenset(requirement.extras))
        if name == "edgepack" or key in seen:
            continue
        seen.add(key)
        if name not in pinned:
            missing.add(name)
        try:
            needed = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # an extra that is not installed here, such as tensorrt-rtx
        for text in needed:
            waiting += [(Requirement(text), wanted) for wanted in ("", *requirement.extras)]
    assert missing == set()
