"""What install, status and rollback say of an installation, in lines for people."""

from __future__ import annotations

from edgepack.runtime.root import InstallRecord, RootStatus


def describe_record(record: InstallRecord) -> tuple[str, ...]:
    """Return lines for people: the active version, its engine and why, and how it was verified."""
    proof = record.verification
    lines = [
        f"{record.name} {record.version} for {record.target}, {record.precision}: active since {record.installed_at}",
        f"  engine: {record.engine}" + (f" ({record.chosen})" if record.chosen else ""),
        *(f"  not used: {reason}" for reason in record.passed_over),
        f"  verified with {proof.samples} golden vectors on "
        + ", ".join(f"{name} {version}" for name, version in proof.versions.items()),
        *((f"  signed by {', '.join(record.signers)}",) if record.signers else ()),
    ]
    return tuple(lines)


def describe_status(found: RootStatus) -> tuple[str, ...]:
    """Return lines for people: the version in use, what is wrong with it, and the others."""
    lines: list[str] = list(describe_record(found.current)) if found.current else ["no active version"]
    if found.on_trial:
        lines.append("  on trial: its health command has not passed yet")
    if found.problem:
        lines.append(f"  problem: {found.problem}")
    lines += [f"  damaged: {reason}" for reason in found.damaged]
    for record in found.versions:
        if found.current is None or record.id != found.current.id:
            mark = " (rollback goes here)" if record.id == found.previous else ""
            lines.append(f"kept: {record.name} {record.version}, {record.precision}, {record.installed_at}{mark}")
    return tuple(lines)
