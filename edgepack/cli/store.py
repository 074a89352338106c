"""``edgepack store``: what is kept of stages' outputs, in a folder or in a store that machines share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgepack.base.text import printable
from edgepack.cli.duration import AGE, SIZE
from edgepack.cli.names import NamesGroup
from edgepack.cli.options import echo_json, options
from edgepack.cli.show import terminal

if TYPE_CHECKING:
    from edgepack.execution.prune import Entry
    from edgepack.execution.shared.shared import SharedStore
    from edgepack.execution.shared.upkeep import SharedEntry
    from edgepack.execution.store import Store


@click.group(cls=NamesGroup, invoke_without_command=True)
@click.option("--clear", is_flag=True, help="Remove all cached stage outputs.")
@options("store", "json")
@click.pass_context
def store(context: click.Context, clear: bool, store: str | None, as_json: bool) -> None:
    """Show the size of the cache of stage outputs; list, verify or prune it.

    For a shared store, this shows and clears the local folder in front of it.
    """
    context.obj = store
    if context.invoked_subcommand is not None:
        if clear:
            raise click.UsageError(f"--clear cannot be used with '{context.invoked_subcommand}'")
        return
    opened = _open(store)
    size = opened.size_bytes()
    if clear:
        opened.clear()
    if as_json:
        echo_json({"folder": str(opened.folder), "size_bytes": 0 if clear else size})
    else:
        done = ", cleared" if clear else ""
        terminal.say(printable(f"{opened.folder}: {size / 1e6:.1f} MB{done}"))


@store.command("list")
@options("store", "json")
@click.pass_obj
def list_store(outer: str | None, store: str | None, as_json: bool) -> None:
    """List what is stored, by stage."""
    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.tables import show_store
    from edgepack.execution.prune import by_stage, entries_of
    from edgepack.execution.shared.upkeep import entries_of_shared

    opened = _open(store or outer)
    shared = _shared(opened)
    found = by_stage(entries_of(opened) if shared is None else map(_as_entry, entries_of_shared(shared)))
    if as_json:
        echo_json(found)
    else:
        show_store(make_console(), found)


@store.command()
@click.option("--older-than", type=AGE, help="Remove what has not been used for this long, such as 12h or 30d.")
@click.option(
    "--max-size",
    type=SIZE,
    help="Remove the least recently used until at most this much is left, such as 500MB or 5GB.",
)
@options("store", "json")
@click.pass_obj
def prune(outer: str | None, older_than: int | None, max_size: int | None, store: str | None, as_json: bool) -> None:
    """Remove what has not been used for a long time; a later build makes it again if needed.

    A shared store does not record when something was used; there, the time of writing counts.
    """
    import time

    from edgepack.cli.show.console import make_console
    from edgepack.cli.show.format import size as shown
    from edgepack.cli.show.format import stored
    from edgepack.execution.prune import prune as prune_folder
    from edgepack.execution.shared.upkeep import prune_shared

    if older_than is None and max_size is None:
        raise click.UsageError("give --older-than or --max-size")
    opened = _open(store or outer)
    since = None if older_than is None else time.time() - older_than / 1e9
    shared = _shared(opened)
    removed: tuple[Entry | SharedEntry, ...] = (
        prune_folder(opened, since, max_size) if shared is None else prune_shared(shared, since, max_size)
    )
    freed = sum(entry.size_bytes for entry in removed)
    if as_json:
        echo_json({"folder": _place(opened), "removed": len(removed), "freed_bytes": freed})
    make_console(as_json).print(f"removed {stored(len(removed))}, {shown(freed)}")


@store.command()
@click.option("--remove", is_flag=True, help="Remove what is damaged; a later build makes it again.")
@options("store", "json")
@click.pass_obj
def verify(outer: str | None, remove: bool, store: str | None, as_json: bool) -> None:
    """Read everything in the store and compare each file with its recorded size and sha256."""
    from edgepack.cli.show.console import make_console
    from edgepack.errors import VerificationError
    from edgepack.execution.shared import upkeep

    opened = _open(store or outer)
    shared = _shared(opened)
    if shared is None:
        entries = opened.damaged()
        found = [f"{entry}: its files are not as they were stored" for entry in entries]
        for entry in entries if remove else ():
            opened.remove(entry, damaged=True)
    else:
        if remove:
            upkeep.check_writable(shared)
        damages = upkeep.verify_shared(shared)
        found = [f"{damage.name}: {damage.why}" for damage in damages]
        if remove:
            upkeep.remove_damaged(shared, damages)
    if as_json:
        echo_json({"folder": _place(opened), "damaged": found, "removed": remove})
    console = make_console(as_json)
    for line in found:
        console.print(printable(line))
    console.print("every file is as it was stored" if not found else f"{len(found)} damaged" + ", removed" * remove)
    if found and not remove:
        raise VerificationError(
            f"{len(found)} stored outputs are damaged", hint="remove them with --remove; a build makes them again"
        )


def _open(where: str | None) -> Store:
    from edgepack.execution.open_store import open_store

    return open_store(where)


def _shared(store: Store) -> SharedStore | None:
    """Return the store that machines share behind a folder, if there is one."""
    from edgepack.execution.shared.shared import SharedStore

    return store.behind if isinstance(store.behind, SharedStore) else None


def _place(store: Store) -> str:
    shared = _shared(store)
    return str(store.folder) if shared is None else shared.url


def _as_entry(entry: SharedEntry) -> Entry:
    from edgepack.execution.prune import Entry

    return Entry(entry.stage or "not of edgepack", Path(entry.name), entry.size_bytes, entry.written_s)


COMMANDS = (store,)
