"""Opens a shared store's file system through fsspec: each answers in bounded time, and tries nothing again by itself.

What fails is tried again in one place, for every kind of store (`remote`).
"""

from __future__ import annotations

import importlib
from types import MappingProxyType, MethodType
from typing import Any

from edgepack.errors import ToolchainError
from edgepack.execution.shared.address import Address

_CONNECT_S, _READ_S = 10, 30
_ALWAYS = {"use_listings_cache": False, "skip_instance_cache": True}


def open_files(address: Address) -> Any:
    """Return fsspec's file system for an address, one that remembers no listing. Asks it nothing.

    Raises ``ToolchainError`` where a package is missing.
    """
    packages, extra, opened = _KINDS[address.protocol]
    for needed in packages:
        try:
            importlib.import_module(needed)
        except ModuleNotFoundError:
            raise ToolchainError(
                f"--store {address.url} needs the package {needed}", hint=f"pip install 'edgepack[{extra}]'"
            ) from None
    return opened()


def _open_folder() -> Any:
    import fsspec

    return fsspec.filesystem("file", **_ALWAYS)


def _open_s3() -> Any:
    import fsspec

    times = {"connect_timeout": _CONNECT_S, "read_timeout": _READ_S, "retries": {"total_max_attempts": 1}}
    files = fsspec.filesystem("s3", **_ALWAYS, config_kwargs=times)
    files.retries = 1
    return files


def _open_gs() -> Any:
    """Return gcsfs's file system without its additions, which ask over gRPC before every call what kind a bucket is."""
    from aiohttp import ClientTimeout

    opener = importlib.import_module("gcsfs.core").GCSFileSystem
    files = opener(**_ALWAYS, requests_timeout=ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_READ_S))
    once = getattr(opener._request, "__wrapped__", opener._request)  # it is wrapped in tries, up to a minute long
    files._request = MethodType(once, files)
    return files


# What each needs, the extra that installs it, and what opens it.
_KINDS = MappingProxyType({
    "file": (("fsspec",), "shared-store", _open_folder),
    "s3": (("fsspec", "s3fs"), "s3-store", _open_s3),
    "gs": (("fsspec", "gcsfs"), "gs-store", _open_gs),
})  # fmt: skip
