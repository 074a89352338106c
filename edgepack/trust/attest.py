"""Signs the results that a device measures, and says whose signature is on one.

What is signed is the document itself without the member ``attestation``, in one form (sorted keys, no spaces), so that
it may be formatted anew, but no figure of it can be another one. The message is DSSE's, with a type of its own: no
signature of a bundle can stand for one of a result.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgepack.base import documents
from edgepack.errors import ConfigError
from edgepack.specs.result import Attestation, Result
from edgepack.trust.envelope import pre_authentication
from edgepack.trust.keys import PrivateKey, PublicKey, is_signed_by, read_private, refuse_writable

KEY = "device.key.pem"
MEMBER = "attestation"
_TYPE = "application/vnd.edgepack.result+json"
_SYSTEM = Path("/etc/edgepack")


def device_key() -> PrivateKey | None:
    """Return this device's key, ``device.key.pem`` in the user's or the system's settings; None where there is none.

    Raises ``ConfigError`` or ``StorageError`` for one that cannot be read, or that others may write or read.
    """
    home = os.environ.get("XDG_CONFIG_HOME")
    user = (Path(home) if home else Path.home() / ".config") / "edgepack"
    path = next((folder / KEY for folder in (user, _SYSTEM) if (folder / KEY).is_file()), None)
    if path is None:
        return None
    refuse_writable(path)
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"{path} can be read by other users, so that it proves nothing", hint=f"chmod 600 {path}")
    return read_private(path)


def attest(result: Result, key: PrivateKey) -> Result:
    """Return the result with the key's signature over all else in it."""
    # As it is when it was read: a whole number in the place of a fraction becomes one.
    bare: Result = documents.decode(
        Result, documents.encode(dataclasses.replace(result, attestation=None)), "the result"
    )
    signature = key.sign(_message(documents.encode(bare)))
    return dataclasses.replace(
        bare, attestation=Attestation(key.public.id, base64.b64encode(signature).decode("ascii"))
    )


def signer(document: Mapping[str, Any], attestation: Attestation, keys: Iterable[PublicKey]) -> PublicKey | None:
    """Return which of ``keys`` the attestation of a result's JSON names; None where it is none of them.

    Raises ``ConfigError`` when that key did not sign this document.
    """
    key = next((key for key in keys if key.id == attestation.keyid), None)
    if key is None:
        return None
    try:
        signature = base64.b64decode(attestation.signature, validate=True)
    except (binascii.Error, ValueError):
        signature = b""
    if not is_signed_by(key, signature, _message(document)):
        raise ConfigError(f"it is not what {key.name} signed", hint="copy the file again from the device")
    return key


def _message(document: Any) -> bytes:
    bare = {name: value for name, value in document.items() if name != MEMBER}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return pre_authentication(_TYPE, text.encode("ascii"))
