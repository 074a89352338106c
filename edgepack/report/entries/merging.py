"""What a reader must know of results that came together from several builds and machines: what was kept apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgepack.report.entries import Group

_SHORT = 12


def kept_apart(groups: Sequence[Group]) -> tuple[str, ...]:
    """Return in sentences which models of one name differ, and which of several names are the same."""
    return (*_same_name(groups), *_same_model(groups))


def bundles_apart(group: Group) -> tuple[str, ...]:
    """Return in sentences which targets and precisions of a model were measured with different bundles."""
    bundles: dict[tuple[str, str], dict[str, None]] = {}
    for entry in group.entries:
        if entry.sha256 and entry.status == "ok":
            bundles.setdefault((entry.target, entry.precision), {})[entry.sha256] = None
    return tuple(
        f"{target} {precision}: the rows are of {len(digests)} different bundles "
        f"({', '.join(digest[:_SHORT] for digest in digests)}), so that they differ by more than the device"
        for (target, precision), digests in bundles.items()
        if len(digests) > 1
    )


def _same_name(groups: Sequence[Group]) -> Iterator[str]:
    digests: dict[str, list[str]] = {}
    for group in groups:
        digests.setdefault(_name(group), []).append(group.source_sha256)
    for name, found in digests.items():
        if len(found) > 1:
            shown = ", ".join(digest[:_SHORT] or "one that is not reported" for digest in found)
            yield (
                f"{len(found)} different models are called {name}, by the digest of the model that each was built "
                f"from ({shown}). They are kept apart: a difference between them is not one between devices."
            )


def _same_model(groups: Sequence[Group]) -> Iterator[str]:
    names: dict[str, list[str]] = {}
    for group in groups:
        if group.source_sha256:
            names.setdefault(group.source_sha256, []).append(_name(group))
    for digest, found in names.items():
        if len(found) > 1:
            yield f"{' and '.join(found)} were built from one and the same model (sha256 {digest[:_SHORT]})."


def _name(group: Group) -> str:
    return next((entry.model for entry in group.entries if entry.model), "model")
