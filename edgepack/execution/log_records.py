"""Hands remarks that edgepack logs in a child process to the parent, where ``-v`` and ``--log-file`` show them.

Warnings stay in the child's log: what the user must know of a stage is in its result.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

_LIBRARY = "edgepack"


class _Forwarded(logging.Handler):
    """Forwards the logger and the words of each remark."""

    def __init__(self, send: Callable[[list[str]], None]) -> None:
        super().__init__(logging.INFO)
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Forward one."""
        if record.levelno == logging.INFO:
            self._send([record.name, record.getMessage()])


def forward(send: Callable[[list[str]], None]) -> None:
    """Call ``send`` with each remark that this process logs from now on; those of the parent are not shown twice."""
    logger = logging.getLogger(_LIBRARY)
    for handler in list(logger.handlers):  # a forked process has its parent's
        logger.removeHandler(handler)
    logger.setLevel(logging.INFO)
    logger.addHandler(_Forwarded(send))
    printed = logging.StreamHandler()  # as Python does where nobody listens
    printed.setLevel(logging.WARNING)
    logger.addHandler(printed)


def repeat(record: Sequence[str]) -> None:
    """Log what a child forwarded."""
    name, words = record
    logging.getLogger(name).info("%s", words)
