"""The run options as they describe themselves in ``specs.RunOptions``: for the command line, documents and checks.

To add an option, add a field with its description there, and the settings of the engines that have it to
``engines/native_options.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgepack.specs.run import RunOptions


@dataclass(frozen=True)
class RunOption:
    """One run option. ``flag`` says that the command line has it; ``words`` says some values in words of their own."""

    name: str
    help: str
    least: int | None = None
    most: int | None = None
    flag: bool = False
    words: Mapping[Any, str] = field(default_factory=dict)

    def describe(self, value: Any) -> str:
        """Return a value in words, as ``spinning off``."""
        switch = {True: "on", False: "off"}
        shown = switch[value] if isinstance(value, bool) else value
        return self.words.get(value) or f"{self.name} {shown}"


RUN_OPTIONS: Mapping[str, RunOption] = {f.name: RunOption(f.name, **f.metadata) for f in dataclasses.fields(RunOptions)}


def out_of_bounds(options: RunOptions) -> Iterator[str]:
    """Yield what makes no sense in ``options``, by the bounds of each."""
    for option in RUN_OPTIONS.values():
        value = getattr(options, option.name)
        if value is None or option.least is None or option.most is None:
            continue
        if not option.least <= value <= option.most:
            yield f"{value} {option.name} are out of range"


def command_words(options: RunOptions) -> tuple[str, ...]:
    """Return the words that ask for ``options`` on the command line, as far as it has them."""
    made = [(option, getattr(options, option.name)) for option in RUN_OPTIONS.values() if option.flag]
    return tuple(word for option, value in made if value is not None for word in (flag_of(option), str(value)))


def flag_of(option: RunOption) -> str:
    """Return how the command line names an option."""
    return "--" + option.name.replace("_", "-")
