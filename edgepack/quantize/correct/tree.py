"""Tries steps one after another, on one or on several branches, and keeps what helps in the end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from edgepack.graph.check import first_line

_LOG = logging.getLogger(__name__)
# A step is kept when it raises the SQNR by at least this; less is within what other samples would change.
LEAST_GAIN_DB = 0.05

State = TypeVar("State")
Step: TypeAlias = Callable[[State], State | None]


@dataclass(frozen=True)
class Tried:
    """A step by its name: the level in dB with it, None where it had nothing to do or failed: then ``reason`` says why.

    Of a step that was tried on several branches it is that of the branch which was kept, else the best.
    """

    name: str
    level: float | None
    kept: bool
    reason: str | None = None


@dataclass(frozen=True)
class _Branch(Generic[State]):
    state: State
    steps: tuple[str, ...]
    level: float

    def leads_to(self, steps: tuple[str, ...]) -> bool:
        """Return whether ``steps`` are those of this branch, with or without one more."""
        return self.steps in (steps, steps[:-1])


class Tree(Generic[State]):
    """The states that steps lead to from a first one.

    ``judge`` returns a state with its level known, which ``level`` reads from it. At most ``branches`` states go on
    from one row of steps to the next.
    """

    def __init__(
        self, first: State, level: Callable[[State], float], judge: Callable[[State], State], *, branches: int
    ) -> None:
        self._level, self._judge, self._branches = level, judge, branches
        self._beam: list[_Branch[State]] = [_Branch(first, (), level(first))]
        # What was made of the branches that are left, and the levels of all that was ever made.
        self._made: dict[tuple[str, ...], _Branch[State] | None] = {(): self._beam[0]}
        self._levels: dict[tuple[str, ...], float] = {(): self._beam[0].level}
        self._failed: dict[str, str] = {}
        self._names: dict[str, None] = {}

    def grow(self, row: Mapping[str, Step[State]], outlook: Mapping[str, Step[State]]) -> None:
        """Try every step of ``row`` on every branch; of a branch and what its steps lead to the best go on.

        A branch is as good as the best of itself and what the steps of ``outlook`` make of it: some steps bring nothing
        until others follow.
        """
        self._names |= dict.fromkeys(row)
        prospects: list[tuple[float, _Branch[State]]] = []
        for branch in self._beam:
            prospects.append((self._prospect(branch, outlook), branch))
            for name, step in row.items():
                made = self._try(branch, name, step)
                if made is not None:
                    prospects.append((self._prospect(made, outlook), made))
        self._beam = self._choose(prospects)
        self._made = {
            steps: made for steps, made in self._made.items() if any(branch.leads_to(steps) for branch in self._beam)
        }

    def best(self) -> State:
        """Return the best state of the branches that are left; of nearly equal ones the one with fewest steps."""
        return self._best().state

    def tried(self) -> Iterator[Tried]:
        """Yield what each step brought, in the order of the rows."""
        kept = self._best().steps
        for name in self._names:
            if name in kept:
                yield Tried(name, self._levels[kept[: kept.index(name) + 1]], kept=True)
                continue
            found = [steps for steps in self._levels if steps[-1:] == (name,)]
            near = [steps for steps in found if steps[:-1] == kept[: len(steps) - 1]] or found
            level = max((self._levels[steps] for steps in near), default=None)
            yield Tried(name, level, kept=False, reason=None if found else self._failed.get(name))

    def _try(self, branch: _Branch[State], name: str, step: Step[State]) -> _Branch[State] | None:
        """Return the branch that a step leads to, None where it does nothing or fails; each is made once.

        A step may meet a graph that it breaks, or numbers that do not converge: the model is good without it.
        """
        steps = (*branch.steps, name)
        if steps not in self._made:
            self._made[steps] = None
            try:
                made = step(branch.state)
                if made is not None:
                    made = self._judge(made)
                    self._made[steps] = _Branch(made, steps, self._level(made))
                    self._levels[steps] = self._level(made)
            except Exception as error:  # of numpy, scipy, onnx or ONNX Runtime
                self._failed[name] = first_line(error)
                _LOG.warning("left out %s: %s", name, self._failed[name])
        return self._made[steps]

    def _prospect(self, branch: _Branch[State], outlook: Mapping[str, Step[State]]) -> float:
        ahead = [self._try(branch, name, step) for name, step in outlook.items()]
        return max([branch.level, *(found.level for found in ahead if found is not None)])

    def _choose(self, prospects: Sequence[tuple[float, _Branch[State]]]) -> list[_Branch[State]]:
        """Return the branches with the best prospects; a longer one must be better by enough."""
        ranked = sorted(prospects, key=lambda item: -(item[0] - LEAST_GAIN_DB * len(item[1].steps)))
        return [branch for _, branch in ranked[: self._branches]]

    def _best(self) -> _Branch[State]:
        return self._choose([(branch.level, branch) for branch in self._beam])[0]
