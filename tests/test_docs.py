"""README.md and docs/: every command is one, every link leads somewhere, and what they list is all there is."""

from __future__ import annotations

import ast
import dataclasses
import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator

import click
import pytest
from packaging.requirements import Requirement
from pages import README, ROOT, generated, git_host_anchor, mkdocs_anchor, of_kind, page_names, read_page

import edgepack
from edgepack.calibrate.observers import OBSERVERS
from edgepack.cli.main import cli
from edgepack.errors import EdgepackError
from edgepack.pipeline.settings import BuildSettings
from edgepack.verify.metrics import METRICS

PAGES = page_names()
PROGRAMS = ("edgepack", "python")
# What is run on other machines: there pip is asked for packages that are none of the project's.
SH = re.compile(r"^```sh\n.*?^```$", re.MULTILINE | re.DOTALL)
# These tests may run under make themselves, whose flags another make would take over.
OUTSIDE = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}


# --- commands ---------------------------------------------------------------------------------------------------------


def refuse(words: list[str]) -> None:
    """Raise what Click would say of a command's name, its options, their choices and how many arguments it has."""
    command: click.Command = cli
    context = click.Context(cli, info_name="edgepack")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None:
            raise click.UsageError(f"there is no command {words[0]}")
        command, context, words = found, click.Context(found, context), words[1:]
    values, stray, _ = command.make_parser(context).parse_args(list(words))
    if stray:
        raise click.UsageError(f"unexpected arguments {stray}")
    for parameter in command.params:
        given = values.get(parameter.name)
        if isinstance(parameter.type, click.Choice) and given is not None:
            parameter.type_cast_value(context, given)
        if parameter.required and not given:
            raise click.MissingParameter(param=parameter)


@pytest.mark.parametrize("name", [name for name in PAGES if of_kind(name, ("edgepack",))])
def test_every_command_of_a_page_is_one(name: str) -> None:
    """They are run by test_docs_commands.py."""
    for command in of_kind(name, ("edgepack",)):
        refuse(shlex.split(command.line)[1:])


@pytest.mark.parametrize(
    "line",
    [
        "bild m.onnx",
        "targets shaw x",
        "verify a.edgepack b",
        "lint m.onnx --dat x",
        "lint m.onnx n.onnx",
        "export-updater a --kind x -o y",
    ],
)
def test_a_command_that_is_none_would_be_found(line: str) -> None:
    with pytest.raises(click.UsageError):
        refuse(shlex.split(line))


@pytest.mark.parametrize("name", [name for name in PAGES if of_kind(name, ("make",))])
def test_what_make_is_asked_for_is_there(name: str) -> None:
    for command in of_kind(name, ("make",)):
        words = ["make", "--no-print-directory", "-n", *command.line.split()[1:]]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, env=OUTSIDE)
        assert done.returncode == 0, done.stderr


def test_what_pip_is_asked_for_is_there() -> None:
    """Nothing is installed: an extra must be the project's, another package one that an extra names."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    known = {Requirement(text).name for texts in extras.values() for text in texts}
    asked = 0
    for name in PAGES:
        for words in re.findall(r"\bpip install ([^`\n]+)", SH.sub("", read_page(name).text)):
            for wanted in map(Requirement, shlex.split(words)):
                asked += 1
                assert wanted.name in known | {"edgepack"}, f"{name}: {words}"
                assert wanted.extras <= set(extras), f"{name}: {words}"
    assert asked > 5


@pytest.mark.parametrize("name", PAGES)
def test_every_block_is_of_a_kind_that_is_tested_or_meant_for_reading(name: str) -> None:
    page = read_page(name)
    named = [kind for kind, _ in page.blocks if kind in ("python", "toml")]
    assert len(page.files) == len(named), "a python or toml block begins with the name of its file"
    # C++ is compiled and run by tests/cpp/test_library.py.
    assert {kind for kind, _ in page.blocks} <= {"console", "python", "toml", "json", "text", "sh", "cpp"}
    assert {command.line.split()[0] for command in page.commands} <= {*PROGRAMS, "make", "pip"}
    assert page.text.count("```") == 2 * len(page.blocks)


# --- links ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name: str) -> None:
    for link in read_page(name).links:
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        place = (ROOT / name).parent.joinpath(path).resolve() if path else ROOT / name
        assert place.exists(), f"{name}: {link}"
        if name != README:  # MkDocs knows nothing outside docs/
            assert place.is_relative_to(ROOT / "docs"), f"{name}: {link}"
        if anchor:
            headings = read_page(place.relative_to(ROOT).as_posix()).headings
            # Both, so that a link leads to the same place on the site and on a git host.
            for slug in (mkdocs_anchor, git_host_anchor):
                assert anchor in {slug(heading) for heading in headings}, f"{name}: {link}"


@pytest.mark.parametrize(
    ("heading", "on_the_site", "on_a_git_host"),
    [
        ("What is measured where", "what-is-measured-where", "what-is-measured-where"),
        ("A .npz", "a-npz", "a-npz"),
        ("TVM, by rule and tuned", "tvm-by-rule-and-tuned", "tvm-by-rule-and-tuned"),
        ("`edgepack build`", "edgepack-build", "edgepack-build"),
        ("One & two", "one-two", "one--two"),
    ],
)
def test_anchors_are_made_as_the_two_make_them(heading: str, on_the_site: str, on_a_git_host: str) -> None:
    assert mkdocs_anchor(heading) == on_the_site
    assert git_host_anchor(heading) == on_a_git_host


# --- lists ------------------------------------------------------------------------------------------------------------


def every_command(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from every_command(command, f"{path} {name}")


def test_the_page_of_the_command_line_has_every_command_and_option() -> None:
    text = generated().generate(read_page("docs/cli.md").text)
    sections = dict(re.findall(r"^#{3,4} (edgepack .+)\n((?:(?!^#{2,4} ).*\n?)*)", text, re.MULTILINE))
    commands = dict(every_command(cli, "edgepack"))
    assert sections.keys() == commands.keys()
    for path, command in commands.items():
        assert f"```text\n{path} " in sections[path]
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert any(f"`{names}" in sections[path] for names in (", ".join(parameter.opts), parameter.opts[0])), (
                    path,
                    parameter.opts,
                )


def test_every_environment_variable_is_listed() -> None:
    read = {
        name
        for path in (ROOT / "edgepack").rglob("*.py")
        for name in re.findall(r"\bEDGEPACK_[A-Z_]+\b", path.read_text(encoding="utf-8"))
    }
    read = {name for name in read if not name.endswith("_H_")}  # the guard of a C header
    listed = re.findall(r"^\| `(EDGEPACK_[A-Z_]+)` \|", read_page("docs/environment.md").text, re.MULTILINE)
    assert sorted(listed) == sorted(read)


def every_error(base: type[EdgepackError]) -> Iterator[type[EdgepackError]]:
    yield base
    for error in base.__subclasses__():
        yield from every_error(error)


def test_every_exit_code_is_listed() -> None:
    text = read_page("docs/exit-codes.md").text
    errors = {
        error.__name__: error.exit_code for error in every_error(EdgepackError) if error.__module__ == "edgepack.errors"
    }
    listed = {name: int(code) for name, code in re.findall(r"^\| `(\w+)` \| (\d+) \|", text, re.MULTILINE)}
    assert listed == errors
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    interrupted, unread, terminated = 128 + 2, 128 + 13, 128 + 15  # SIGINT, SIGPIPE and SIGTERM, as shells count
    assert codes == {0, interrupted, unread, terminated, *errors.values()}


def test_every_lint_check_has_its_section() -> None:
    sources = "".join(path.read_text() for path in sorted((ROOT / "edgepack" / "lint").glob("*.py")))
    checks = set(re.findall(r"Finding\(\s*\"(\w+)\"", sources))
    assert len(checks) >= 8
    assert checks <= set(read_page("docs/lint.md").headings)


def test_every_observer_is_explained() -> None:
    text = read_page("docs/quantization.md").text.split("## Observers")[1]
    listed = re.findall(r"^\| `(\w+)` \| ", text, re.MULTILINE)
    assert listed == list(OBSERVERS.names())


def test_every_metric_is_explained() -> None:
    text = " ".join(read_page(name).text for name in PAGES if name != "docs/cli.md")
    assert all(f"`{name}`" in text for name in METRICS.names() if ":" not in name)


def expanded(text: str) -> list[str]:
    """``a-{b,c}`` as a shell would write it out."""
    before, brace, rest = text.partition("{")
    if not brace:
        return [text]
    choices, _, after = rest.partition("}")
    return [name for choice in choices.split(",") for name in expanded(before + choice + after)]


def test_the_table_of_targets_has_every_profile() -> None:
    text = read_page(README).text.split("## Targets")[1].split("\n## ")[0]
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    listed = [name for row in rows for word in re.findall(r"`([^`]+)`", row) for name in expanded(word)]
    profiles = {path.stem for path in (ROOT / "targets").glob("*.toml")}
    assert sorted(listed) == sorted(profiles | {"host-onnxruntime", "host-openvino", "host-tvm"})
    assert all(f"| `{name}` |" in generated().targets() for name in profiles)


def test_the_page_of_the_settings_has_every_key_as_it_is() -> None:
    made = generated().settings()
    assert made in read_page("docs/settings.md").text, "run: python docs/generated.py"
    assert made.count("\n") == len(dataclasses.fields(BuildSettings)) + 1


def test_the_page_of_quantization_has_the_rules_as_they_are() -> None:
    text = read_page("docs/quantization.md").text
    assert generated().int8() in text, "run: python docs/generated.py"
    assert generated().causes() in text, "run: python docs/generated.py"


def test_the_python_page_shows_all_that_is_promised() -> None:
    assert sorted(generated().PROMISED) == sorted(edgepack._PUBLIC)
    text = generated().generate(read_page("docs/python-api.md").text)
    for name in generated().PROMISED:
        value = getattr(edgepack, name)
        assert value.__doc__
        assert f"::: {value.__module__}.{value.__qualname__}\n    options:\n      heading: {name}\n" in text


# --- the package ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["docs/architecture.md", "docs/contributing.md"])
def test_every_file_that_is_named_is_there(name: str) -> None:
    text = re.sub(r"<engine>", "onnxruntime", read_page(name).text)
    named = re.findall(r"`((?:edgepack|tests|docs|targets|benchmarks)/[\w./-]*)`", text)
    assert len(named) > 3
    for path in named:
        assert (ROOT / path).exists(), f"{name}: {path}"


def test_the_package_is_drawn_as_it_stands() -> None:
    drawn = read_page("docs/architecture.md").text.split("## The package")[1].split("```")[1]
    rooms = set(re.findall(r"^  (\w+)/ ", drawn, re.MULTILINE))
    package = {path.parent.name for path in (ROOT / "edgepack").glob("*/__init__.py")}
    assert rooms == package
    engines = set(re.findall(r"^    (\w+)/ ", drawn, re.MULTILINE))
    assert engines == {path.parent.name for path in (ROOT / "edgepack" / "engines").glob("*/__init__.py")}


def test_the_layers_are_those_that_a_test_keeps() -> None:
    shown = read_page("docs/architecture.md").text.split("## Layers")[1].split("```text\n")[1].split("```")[0]
    kept = re.search(r"^LAYERS = (\(.*?^\))", (ROOT / "tests" / "test_layers.py").read_text(), re.MULTILINE | re.DOTALL)
    assert kept is not None
    lines = [" ".join(w for w in line.split() if not w.startswith("__")) for line in ast.literal_eval(kept[1])]
    assert shown.splitlines() == [line for line in lines if line]
