"""Signs a statement without a key, by the package ``sigstore``: where bundles are signed, with the network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from edgepack.base.files import read_regular
from edgepack.errors import ConfigError, RemoteError, ToolchainError

TOKEN = "SIGSTORE_ID_TOKEN"
_LIMIT_BYTES = 1 << 20


def sign_statement(statement: bytes, trust_config: Path | None = None) -> bytes:
    """Return the Sigstore bundle over an in-toto statement, which the public log has from then on.

    Who signs is said by the identity token in ``$SIGSTORE_ID_TOKEN``, or else by that of the workflow that runs this.
    ``trust_config`` describes an instance of one's own; None is the public one. Raises ``ConfigError`` without a token,
    ``ToolchainError`` where the package is not installed, ``RemoteError`` when the instance does not sign.
    """
    dsse, models, oidc, sign = _tools()
    try:
        config = models.ClientTrustConfig.production() if trust_config is None else _read(models, trust_config)
        token = os.environ.get(TOKEN) or oidc.detect_credential()
        if not token:
            raise ConfigError("nothing says who signs", hint=f"set {TOKEN}, as 'sigstore get-identity-token' prints it")
        with sign.SigningContext.from_trust_config(config).signer(oidc.IdentityToken(token)) as signer:
            made: str = signer.sign_dsse(dsse.Statement(statement)).to_json()
    except ConfigError:
        raise
    except Exception as error:  # of many kinds: of the package, of what it asks, of the network
        words = str(error) or type(error).__name__
        raise RemoteError(f"Sigstore did not sign: {words[:300]}", hint="check the token and the network") from error
    return made.encode()


def _read(models: Any, path: Path) -> Any:
    try:
        return models.ClientTrustConfig.from_json(read_regular(path, _LIMIT_BYTES).decode())
    except Exception as error:  # of several kinds, by what is wrong with it
        raise ConfigError(f"{path} is not a trust configuration of Sigstore: {str(error)[:200]}") from None


def _tools() -> Any:
    try:
        from sigstore import dsse, models, oidc, sign
    except ImportError as error:
        raise ToolchainError(f"nothing signs without a key here: {error}", hint="pip install 'sigstore>=4'") from None
    return dsse, models, oidc, sign
