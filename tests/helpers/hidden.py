"""Hides packages that are installed."""

from __future__ import annotations

import importlib.util

import pytest


def hide(patch: pytest.MonkeyPatch, *names: str) -> None:
    """Let packages seem not to be installed to whoever asks ``find_spec``."""
    find = importlib.util.find_spec
    patch.setattr(importlib.util, "find_spec", lambda name, *more: None if name in names else find(name, *more))
