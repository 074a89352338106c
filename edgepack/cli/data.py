"""``edgepack lint``: whether the samples fit the model, before anything is calibrated with them."""

from __future__ import annotations

COMMANDS = ()
