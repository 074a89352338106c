"""Says how many texts are longer than what the model reads of one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgepack.data.samples import read_frames
from edgepack.data.text.inputs import most_tokens
from edgepack.data.text.tokenizer import load_tokenizer
from edgepack.data.text_file import KINDS, text_settings, tokenizer_beside
from edgepack.lint import Found, Inspected, Surveyed
from edgepack.lint.survey import spread
from edgepack.specs.data import Finding
from edgepack.specs.model import OnnxModel

_MOST = 2000  # texts of one set that are looked at
_WORTH_A_WORD = 0.01  # fewer are a note


def check(inspected: Inspected) -> Found:
    """Return what share of the texts is cut: answers about these are answers about their beginnings."""
    sets = [one for one in (inspected.calibration, inspected.evaluation) if one is not None]
    found = [_of(inspected.model, one) for one in sets]
    return Found(tuple(finding for finding in found if finding is not None))


def _of(model: OnnxModel, judged: Surveyed) -> Finding | None:
    task = judged.samples.task
    if task is None or task.kind not in KINDS:
        return None
    file = tokenizer_beside(task, Path(judged.samples.source))
    if file is None:
        return None
    tokenizer, settings = load_tokenizer(file), text_settings(task)
    most = most_tokens(tokenizer, settings, model.inputs)
    if most is None:
        return None
    positions = spread(len(judged.samples.indices), _MOST)
    looked_at = replace(judged.samples, indices=tuple(judged.samples.indices[i] for i in positions))
    # The recipe cuts texts before their tokens are placed, the model itself those that are left. Arrays have no places.
    cut = sum(frame.read_to > 0 or len(frame.places) > most for frame in read_frames(looked_at))
    if not cut:
        return None
    share = cut / len(positions)
    text = (
        f"{cut} of {len(positions)} {judged.title} ({100 * share:.1f} %) are longer than the {most} tokens that are "
        "read of a text: their answers are those to their beginnings"
    )
    by_recipe = settings.max_length is not None and settings.max_length == most
    hint = (
        "raise max_length in [task.input] of the recipe, if the model takes more"
        if by_recipe
        else "give texts as short as the device will see, or export the model for more tokens"
    )
    return Finding("texts", "warning" if share >= _WORTH_A_WORD else "note", text, hint)
