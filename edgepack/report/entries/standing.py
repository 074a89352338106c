"""Which measurements stand for their target: those of the machine that the bundle is for, and of no other."""

from __future__ import annotations

from collections.abc import Sequence

from edgepack.engines.targets import is_device
from edgepack.specs.result import Result
from edgepack.specs.target import Host

UNKNOWN = "unknown"  # the architecture of a host that the user named


def parted(results: Sequence[Result]) -> tuple[list[Result], list[Result]]:
    """Return the results that stand for their target, and those that were measured on another machine.

    A document that says it stands for its target is believed where its own host may be that device; one that does not
    say it is judged by its host alone. Accelerators are not known; where nothing tells, what the user says counts.
    """
    known: dict[tuple[str, Host], bool] = {}
    standing: list[Result] = []
    elsewhere: list[Result] = []
    for result in results:
        place = (result.target, result.host)
        if place not in known:
            known[place] = _is_likely(*place)
        stands = known[place] and result.stands_for_target is not False
        (standing if stands else elsewhere).append(result)
    return standing, elsewhere


def stands(result: Result) -> bool:
    """Say whether a result stands for its target."""
    return bool(parted((result,))[0])


def _is_likely(target: str, host: Host) -> bool:
    return host.arch == UNKNOWN or is_device(target, host, {}, root=None) is not False
