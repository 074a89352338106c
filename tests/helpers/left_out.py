"""Which files of tests a choice of marks leaves out whole, so that they need not be imported."""

from __future__ import annotations

import re

_WHOLE_FILE = re.compile(r"^pytestmark = \[?pytest\.mark\.(\w+)", re.MULTILINE)
_ONLY_WITHOUT = re.compile(r"not \w+(?: and not \w+)*")


def is_left_out(text: str, chosen: str) -> bool:
    """Say whether ``chosen``, as pytest's -m has it, leaves out every test of a file by the mark of the whole file.

    Nothing is said of a choice other than 'not A and not B ...'.
    """
    mark = _WHOLE_FILE.search(text)
    if mark is None or not _ONLY_WITHOUT.fullmatch(chosen):
        return False
    return mark[1] in chosen.replace("not ", "").split(" and ")
