"""Runs a stage: from the store when nothing that it depends on has changed, else in a child process."""

from __future__ import annotations

import logging
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from edgepack.base.files import sha256_json
from edgepack.base.stage import Stage, stage_of
from edgepack.execution import child, reads
from edgepack.execution.events import Events, Outcome
from edgepack.execution.key import key_of
from edgepack.execution.store import Store
from edgepack.specs.target import Host

T = TypeVar("T")
_LOG = logging.getLogger(__name__)


class Elsewhere(Protocol):
    """What runs stages in other places. It is not imported here: the keys of stages would depend on it."""

    def call(
        self,
        known: Stage,
        function: Callable[..., T],
        *arguments: Any,
        limit_s: float,
        log: Path,
        track: Path | None,
        said: Callable[[str], None],
        forked: bool,
    ) -> T:
        """Return ``function(*arguments)`` as ``child.call`` does."""


@dataclass(frozen=True)
class StageRunner:
    """Where stages run: the store, the folder of logs, whom to tell, the limit of one stage in seconds, this host.

    With ``elsewhere`` its workers run them, each in a child of its own.
    """

    store: Store
    logs: Path
    events: Events
    limit_s: float
    host: Host
    elsewhere: Elsewhere | None = None

    def run(self, function: Callable[..., T], *arguments: Any, title: str = "") -> T:
        """Return ``function(*arguments, out)`` of a stage, from the store if nothing that it depends on has changed.

        ``title`` says to people on what the stage works. Raises what the function raises.
        """
        known = stage_of(function)
        log = self.logs / f"{known.name}-{sha256_json({'stage': known.name, 'title': title})[:8]}.log"
        self.events.begin(known.name, title)
        try:
            ran_before = len(self.store.ran)
            value: T = self.store.run(
                known.name,
                known.version,
                key_of(function, arguments, self.store, self.host),
                returned_type(function),
                lambda out: self._child(known, function, arguments, out, log),
                fresh=self._unchanged,
                shared=known.host != "speed",
            )
        except BaseException as error:
            # Whoever catches the error says it; here it is for the log alone.
            _LOG.info("%s %s failed: %s", known.name, title, error)
            self.events.end("failed", title)
            raise
        outcome: Outcome = "reused" if len(self.store.ran) == ran_before else "done"
        _LOG.info("%s %s %s", known.name, title, outcome)
        self.events.end(outcome, title)
        return value

    def _child(self, known: Stage, function: Callable[..., T], arguments: tuple[Any, ...], out: Path, log: Path) -> T:
        log.unlink(missing_ok=True)
        track = out if known.tracks is not None and known.tracks(*arguments) else None
        forked = known.host != "speed" and track is None
        limit_s, said = self.limit_s, self.events.said
        if self.elsewhere is not None:
            return self.elsewhere.call(
                known, function, *arguments, out, limit_s=limit_s, log=log, track=track, said=said, forked=forked
            )
        return child.call(
            function,
            *arguments,
            out,
            limit_s=limit_s,
            log=log,
            progress=self.events.progress,
            said=said,
            track=track,
            forked=forked,
        )

    def _unchanged(self, folder: Path) -> bool:
        """Say whether every file that the stage read when it ran is as it was."""
        for name, digest in reads.read_files(folder).items():
            path = Path(name)
            if not path.is_file() or self.store.sha256(path) != digest:
                return False
        return True


def returned_type(function: Callable[..., T]) -> type[T]:
    """Return the type of what a stage returns."""
    found: type[T] = typing.get_type_hints(function)["return"]
    return found
