"""What a proxy said of a model: another product that stands in for an engine on a machine that cannot run it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edgepack.specs.model import Diagnostic

if TYPE_CHECKING:
    from edgepack.specs.model import OnnxModel


@dataclass(frozen=True)
class ProxyBuild:
    """One build: for which SM, how large the engine is and how many seconds it took."""

    sm: str
    engine_bytes: int
    seconds: float


@dataclass(frozen=True)
class ProxyReport:
    """What the proxy said. ``summary`` is one line; a refusal or a crash is an error among ``diagnostics``."""

    version: str
    builds: tuple[ProxyBuild, ...]
    diagnostics: tuple[Diagnostic, ...]
    package: str

    @property
    def summary(self) -> str:
        """Return what may be said of the model: never that it was verified on the device."""
        if any(d.severity == "error" for d in self.diagnostics):
            return f"refused by {self.package} {self.version} (proxy)"
        sms = " and ".join(build.sm for build in self.builds)
        return f"checked with {self.package} {self.version} for SM {sms} (proxy)"


class Proxy(Protocol):
    """What a module offers that checks for an engine in its stead (``Engine.proxy``)."""

    def proxy_version(self) -> str:
        """Return the proxy's version. Raises ``ToolchainError`` with what to install."""
        ...

    def check_by_proxy(self, model: OnnxModel, /) -> ProxyReport:
        """Have the proxy take ``model``; a crash of it is a diagnostic."""
        ...
