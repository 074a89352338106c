"""README.md and the pages of docs/ as the tests of them see them: code blocks, commands, links, headings."""

from __future__ import annotations

import importlib.util
import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
README = "README.md"
_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_AFTER = re.compile(r"<!-- after: (\S+) -->\n")


@dataclass(frozen=True)
class Command:
    """One command of a console block and the lines of its output that the page shows."""

    line: str
    output: tuple[str, ...]


@dataclass(frozen=True)
class Page:
    """A page by its path from the root. ``after`` is the page that makes what its commands need."""

    name: str
    text: str
    after: str | None
    blocks: tuple[tuple[str, str], ...]

    @property
    def files(self) -> dict[str, str]:
        """The files that the page shows, by the name in their first line."""
        return {
            match[1]: text
            for kind, text in self.blocks
            if kind in ("python", "toml") and (match := re.match(r"# (\S+)\n", text))
        }

    @property
    def commands(self) -> tuple[Command, ...]:
        return tuple(c for kind, text in self.blocks if kind == "console" for c in _commands(text))

    @property
    def links(self) -> tuple[str, ...]:
        """The targets of all links and pictures, but not of what is code."""
        text = re.sub(r"`[^`\n]*`", "", _BLOCK.sub("", self.text))
        return tuple(re.findall(r"\]\(([^)\s]+)\)", text))

    @property
    def headings(self) -> tuple[str, ...]:
        """The headings, those of the generated part included."""
        made = _BLOCK.sub("", generated().generate(self.text))
        return tuple(re.findall(r"^#{1,6} (.+)$", made, re.MULTILINE))


def _commands(text: str) -> list[Command]:
    found: list[tuple[str, list[str]]] = []
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        else:
            found[-1][1].append(line)
    return [Command(line, tuple(output)) for line, output in found]


@cache
def read_page(name: str) -> Page:
    text = (ROOT / name).read_text(encoding="utf-8")
    match = _AFTER.match(text)
    blocks = tuple((kind, block) for _, kind, block in _BLOCK.findall(text))
    after = (ROOT / name).parent.joinpath(match[1]).resolve().relative_to(ROOT).as_posix() if match else None
    return Page(name, text, after, blocks)


def page_names() -> list[str]:
    return [README, *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]


def of_kind(name: str, programs: tuple[str, ...]) -> list[Command]:
    """The commands of a page that call one of these programs."""
    return [command for command in read_page(name).commands if command.line.split()[0] in programs]


@cache
def generated() -> ModuleType:
    """docs/generated.py, MkDocs' hook."""
    spec = importlib.util.spec_from_file_location("generated", ROOT / "docs" / "generated.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mkdocs_anchor(heading: str) -> str:
    """Python-Markdown's slug (markdown.extensions.toc.slugify) of a heading without inline markup."""
    plain = unicodedata.normalize("NFKD", heading.replace("`", "")).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


def git_host_anchor(heading: str) -> str:
    """GitHub's and GitLab's slug: every space becomes a dash of its own."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")
