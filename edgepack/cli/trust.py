"""``edgepack keygen | sign | policy | root``: who made a bundle, and whether this device takes it."""

from __future__ import annotations

import os
import re
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgepack.cli.names import NamesGroup
from edgepack.cli.options import echo_json, options
from edgepack.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

PASSPHRASE = "EDGEPACK_KEY_PASSPHRASE"
_UTC = timezone.utc  # noqa: UP017 (Python 3.10)


class Expiry(click.ParamType[datetime]):
    """``2027-06-30`` (the end of that day is the next day's beginning, UTC) or ``365d`` from now."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the moment, in UTC."""
        if isinstance(value, datetime):
            return value
        if days := re.fullmatch(r"([1-9][0-9]{0,4})d", str(value)):
            return datetime.now(_UTC).replace(microsecond=0) + timedelta(days=int(days[1]))
        try:
            return datetime.strptime(str(value), "%Y-%m-%d").replace(tzinfo=_UTC)
        except ValueError:
            self.fail(f"{value!r} is not a date; examples: 2027-06-30, 365d", param, ctx)


EXPIRY = Expiry()
_path = click.Path(path_type=Path)
_keys = click.option("-k", "--key", "keys", type=_path, multiple=True, required=True, help="Private key. Repeatable.")
_out = click.option("-o", "--out", type=_path, required=True, help="File to write.")


@click.command()
@click.argument("name")
@click.option("-o", "--out", type=_path, default=Path(), help="Folder for the files  [default: this one]")
@click.option(
    "--encrypt",
    is_flag=True,
    help=f"Encrypt the private key with ${PASSPHRASE}, else with a passphrase that is asked for.",
)
@options("json")
def keygen(name: str, out: Path, encrypt: bool, as_json: bool) -> None:
    """Generate a key pair for signing bundles: NAME.key.pem and NAME.pub.pem.

    ECDSA on P-256. The private key stays where bundles are signed; devices get the public one.
    """
    from edgepack.bundle.manifest import check_name
    from edgepack.trust.keys import make_key

    check_name(name, of=" of a key")
    made = make_key(name, out, passphrase(ask=True) if encrypt else None)
    lines = (f"wrote {out / name}.key.pem: keep it secret", f"wrote {out / name}.pub.pem: key {made.public.id[:16]}")
    _answer({"name": name, "id": made.public.id, "public": made.public.pem}, lines, as_json)


@click.command()
@click.argument("bundle", type=_path)
@click.option("-k", "--key", "keys", type=_path, multiple=True, help="Private key. Repeatable.")
@click.option(
    "--attach", "attached", type=_path, multiple=True,
    help="Keyless signature of the unpacked bundle, from 'model_signing sign sigstore'. Repeatable.",
)  # fmt: skip
@click.option(
    "--sigstore",
    is_flag=True,
    help="Sign without a key through Sigstore, as the identity in $SIGSTORE_ID_TOKEN or of this workflow.",
)
@click.option(
    "--trust-config", type=_path, help="Trust configuration of a Sigstore instance  [default: the public one]"
)
@click.option("-o", "--out", type=_path, help="Bundle to write  [default: BUNDLE itself]")
@click.option("--expires", type=EXPIRY, help="When devices stop accepting it: 2027-06-30, or 365d.")
@click.option("--verification", type=_path, help="Output of 'edgepack verify --json', to be signed with the bundle.")
@click.option("--build", type=_path, help="The build's build.json, for the command in the provenance.")
@click.option(
    "--certificate", "chains", type=_path, multiple=True,
    help="Certificates of the keys and of intermediate authorities, PEM. Repeatable.",
)  # fmt: skip
@click.option("--replace", is_flag=True, help="Replace existing signatures instead of adding to them.")
@options("json")
def sign(
    bundle: Path,
    keys: tuple[Path, ...],
    attached: tuple[Path, ...],
    sigstore: bool,
    trust_config: Path | None,
    out: Path | None,
    expires: datetime | None,
    verification: Path | None,
    build: Path | None,
    chains: tuple[Path, ...],
    replace: bool,
    as_json: bool,
) -> None:
    """Sign a bundle.

    The signature is that of OpenSSF's model signing, over every file of the bundle, with provenance (SLSA) and golden
    vectors. A bundle that is already signed gets one more signature.
    """
    from edgepack.runtime.native import note_copy
    from edgepack.trust.chain import read_chain
    from edgepack.trust.keyless.make import sign_statement
    from edgepack.trust.keys import read_private
    from edgepack.trust.sign import sign as run

    if trust_config is not None and not sigstore:
        raise ConfigError("--trust-config needs --sigstore")
    secret = passphrase(ask=False)
    loaded = tuple(read_private(key, secret) for key in keys)
    with note_copy(bundle, out or bundle):
        made = run(
            bundle, loaded, out, expires=expires, verification=verification, build=build, replace=replace,
            certificates=tuple(dict.fromkeys(each for chain in chains for each in read_chain(chain))),
            attached=attached, sigstore=partial(sign_statement, trust_config=trust_config) if sigstore else None,
        )  # fmt: skip
    by = [keyid[:16] for keyid in made.keyids] + [f"{made.keyless} without a key"] * bool(made.keyless)
    at = f" at {made.signed.signed_at}" if made.signed.signed_at else ""
    lines = [f"wrote {made.path}: signed by {', '.join(by)}{at}"]
    lines += [f"  until {made.signed.expires}"] if made.signed.expires else []
    _answer(made, lines, as_json)


@click.command()
@click.argument("bundle", type=_path, required=False)
@options("json")
def policy(bundle: Path | None, as_json: bool) -> None:
    """Show which bundles this device accepts, or whether it would accept one.

    Exit code 5 when it does not accept BUNDLE.
    """
    from edgepack.bundle.archive import open_bundle
    from edgepack.runtime.load import is_installed
    from edgepack.trust.policy import admit, describe_admission, describe_policies, policies

    if bundle is None:
        found = policies()
        _answer(found, describe_policies(found), as_json)
        return
    checked = open_bundle(bundle)
    admission = admit(checked, new=not is_installed(checked))
    _answer(admission, describe_admission(checked, admission), as_json)


@click.group(cls=NamesGroup)
def root() -> None:
    """Manage the root of trust (TUF): whose signatures count, and which keys are revoked."""


@root.command("make")
@click.option(
    "--root-key",
    "root_keys",
    type=_path,
    multiple=True,
    required=True,
    help="Public key that signs the next root. Repeatable.",
)
@click.option(
    "--bundle-key",
    "bundle_keys",
    type=_path,
    multiple=True,
    required=True,
    help="Public key that signs bundles. Repeatable.",
)
@click.option(
    "--root-threshold",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="How many root keys must sign a root.",
)
@click.option(
    "--threshold",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="How many bundle keys must sign a bundle.",
)
@click.option(
    "--expires", type=EXPIRY, required=True, help="When devices stop accepting bundles under it: 2027-06-30, or 365d."
)
@click.option("--previous", type=_path, help="Root that this one replaces; omit it for the first.")
@_keys
@_out
def make_(
    root_keys: tuple[Path, ...],
    bundle_keys: tuple[Path, ...],
    root_threshold: int,
    threshold: int,
    expires: datetime,
    previous: Path | None,
    keys: tuple[Path, ...],
    out: Path,
) -> None:
    """Make and sign a root of trust.

    --key takes private root keys: those of the previous root, and of the new one. A key that is no longer named is
    revoked.
    """
    from edgepack.trust.keys import read_private, read_public
    from edgepack.trust.root import make_root, read_root, sign_root, write_root

    secret = passphrase(ask=False)
    made = make_root(
        tuple(map(read_public, root_keys)),
        tuple(map(read_public, bundle_keys)),
        expires,
        read_root(previous) if previous is not None else None,
        root_threshold,
        threshold,
    )
    write_root(sign_root(made, [read_private(key, secret) for key in keys]), out)
    _answer(made, (f"wrote {out}: version {made.version}, until {made.signed.expires}",), as_json=False)


@root.command("sign")
@click.argument("path", metavar="ROOT", type=_path)
@_keys
def sign_(path: Path, keys: tuple[Path, ...]) -> None:
    """Add signatures to a root of trust whose keys several people hold."""
    from edgepack.trust.keys import read_private
    from edgepack.trust.root import read_unsigned, sign_root, write_root

    secret = passphrase(ask=False)
    made = sign_root(read_unsigned(path), [read_private(key, secret) for key in keys])
    write_root(made, path)
    _answer(made, (f"wrote {path}: {len(made.signatures)} signatures",), as_json=False)


@root.command("take")
@click.argument("paths", metavar="ROOT...", nargs=-1, required=True, type=_path)
@click.option("--into", type=_path, help="The device's root of trust  [default: the one that its policy names]")
@options("json")
def take_(paths: tuple[Path, ...], into: Path | None, as_json: bool) -> None:
    """Replace this device's root of trust with newer ones, each signed by the previous one."""
    from edgepack.trust.policy import take

    found = take(paths, into)
    lines = [
        f"the root of trust is version {found.version}, until {found.signed.expires}",
        f"  {found.threshold} of these keys must sign a bundle: "
        + ", ".join(key.id[:16] for key in found.bundle_keys()),
    ]
    _answer(found, lines, as_json)


def passphrase(*, ask: bool = False) -> bytes | None:
    """Return the passphrase of private keys, of the environment or, with ``ask``, typed; None for keys without one."""
    words = os.environ.get(PASSPHRASE)
    if words is None and ask:
        words = click.prompt("passphrase", hide_input=True, confirmation_prompt=True, err=True)
    return words.encode() if words else None


def _answer(value: object, lines: Iterable[str], as_json: bool) -> None:
    """Print what was asked for on stdout: as JSON, and then in words on stderr, or in words."""
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.layout import safe

    if as_json:
        echo_json(value)
    console = make_console(as_json)
    for line in lines:
        console.print(safe(line))


COMMANDS = (keygen, sign, policy, root)
