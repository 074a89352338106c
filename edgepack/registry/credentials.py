"""Who this machine is to a registry, as Docker keeps it: ``config.json`` and credential helpers."""

from __future__ import annotations

import base64
import binascii
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from edgepack.base.documents import read_json
from edgepack.errors import ConfigError

_HUB = ("docker.io", "registry-1.docker.io", "index.docker.io")
_HUB_KEY = "https://index.docker.io/v1/"
IDENTITY = "<token>"  # the user in whose place a helper gives an identity token (docker/docker-credential-helpers)
_HELPER = re.compile(r"[A-Za-z0-9._-]+")
_LIMIT_S = 30.0
_MOST_BYTES = 4 << 20


def find(host: str) -> tuple[str, str] | None:
    """Return user and password for a registry, or ``IDENTITY`` and an identity token; None where there are none.

    Raises ``ConfigError`` for a configuration or a helper that cannot be used.
    """
    config = _config()
    key = _HUB_KEY if host in _HUB else host
    helpers = config.get("credHelpers")
    helper = helpers.get(host) if isinstance(helpers, dict) else None
    found = _of_helper(helper or config.get("credsStore"), key)
    return found if found is not None else _of_file(config, host, key)


def _config() -> dict[str, Any]:
    folder = os.environ.get("DOCKER_CONFIG")
    path = (Path(folder) if folder else Path.home() / ".docker") / "config.json"
    try:
        with path.open("rb") as file:
            data = read_json(file.read(_MOST_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint="log in again, as with 'docker login'") from None
    return data if isinstance(data, dict) else {}


def _of_file(config: dict[str, Any], host: str, key: str) -> tuple[str, str] | None:
    auths = config.get("auths")
    for name in (key, host, f"https://{host}", f"https://{host}/v1/"):
        entry = auths.get(name) if isinstance(auths, dict) else None
        if isinstance(entry, dict) and isinstance(entry.get("identitytoken"), str) and entry["identitytoken"]:
            return IDENTITY, entry["identitytoken"]
        if isinstance(entry, dict) and isinstance(entry.get("auth"), str) and entry["auth"]:
            try:
                user, _, password = base64.b64decode(entry["auth"], validate=True).decode("utf-8").partition(":")
            except (binascii.Error, UnicodeDecodeError):
                raise ConfigError(f"the credentials of {host} are damaged", hint="log in again") from None
            return user, password
    return None


def _of_helper(helper: Any, key: str) -> tuple[str, str] | None:
    if not isinstance(helper, str) or not helper:
        return None
    if not _HELPER.fullmatch(helper):
        raise ConfigError(f"{helper[:40]!r} is not a credential helper", hint="correct Docker's config.json")
    try:
        done = subprocess.run(
            [f"docker-credential-{helper}", "get"], input=key.encode(), capture_output=True, check=False,
            timeout=_LIMIT_S,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"docker-credential-{helper} cannot be used: {error}", hint="install it, or log in") from None
    if done.returncode:
        return None  # it knows nothing of this registry
    try:
        said = read_json(done.stdout)
        return str(said["Username"]), str(said["Secret"])
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"docker-credential-{helper} gave no readable credentials", hint="log in again") from None
