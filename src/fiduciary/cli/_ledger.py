"""`fiduciary ledger`: verify, audit, show, prove, search, erase, hold, export."""

from __future__ import annotations

import json
from pathlib import Path

import click
import msgspec

from fiduciary.cli._home import Home, acting, moment, nanoseconds, time_text, with_home
from fiduciary.cli._output import Output
from fiduciary.cli._witness import key_texts
from fiduciary.errors import IntegrityError, UsageError
from fiduciary.ledger import Kind, audit_folder


@click.group()
def ledger() -> None:
    """Verify, audit, search, prove, erase, hold, export."""


@ledger.command()
@with_home
def verify(output: Output, home: Home) -> None:
    """Read and check every byte of every log."""
    report = home.ledger.verify()
    problems = report.every_problem()
    if output.as_json:
        output.json({"ok": report.ok, "problems": problems, "logs": msgspec.to_builtins(report.logs)})
    else:
        rows = [
            (r.log, r.records, r.published, r.readable, r.erased, r.pruned, r.root[:16]) for r in report.logs
        ]
        output.table(["log", "records", "under checkpoint", "readable", "erased", "pruned", "root"], rows)
    if problems:
        for problem in problems:
            output.say(f"BAD  {problem}")
        raise IntegrityError(f"the ledger does not hold: {len(problems)} problem(s)")
    output.say("everything holds")


@ledger.command()
@click.argument("record")
@acting
@with_home
def show(output: Output, home: Home, record: str, party: str) -> None:
    """Open one RECORD, such as gate-0.17."""
    home.require(party, "read_record", "Record")
    found = home.ledger.get(record)
    header = found.header
    document = {
        "record": found.id,
        "time": time_text(header.time_ns),
        "kind": header.kind.name.lower(),
        "state": found.state,
        "use_case": header.use_case,
        "release": f"sha256:{header.release.hex()}" if header.release else "",
        "retention": header.retention,
        "content": json.loads(found.payload) if found.payload is not None else None,
    }
    output.result(document, json.dumps(document, indent=2, ensure_ascii=False))


@ledger.command()
@click.argument("record")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="File to write (default: print).")
@with_home
def prove(output: Output, home: Home, record: str, out: Path | None) -> None:
    """Proof that RECORD is in its log, with the signed checkpoint (C2SP tlog-proof)."""
    text = home.ledger.prove(record).encode()
    if out is not None:
        out.write_bytes(text)
        output.result({"record": record, "file": str(out)}, f"written to {out}")
    else:
        output.result({"record": record, "proof": text.decode()}, text.decode())


@ledger.command()
@click.option("--subject", default=None, help="About this person (their id as the gate was given it).")
@click.option("--use-case", default=None, help="Of this use case.")
@click.option("--release", default=None, help="By this release (name@version or digest).")
@click.option("--outcome", default=None, help="With this outcome, or events of this name.")
@click.option("--since", default=None, help="From this time on.")
@click.option("--until", default=None, help="Before this time.")
@click.option("--limit", default=50, show_default=True, help="At most so many, newest first.")
@acting
@with_home
def search(
    output: Output,
    home: Home,
    subject: str | None,
    use_case: str | None,
    release: str | None,
    outcome: str | None,
    since: str | None,
    until: str | None,
    limit: int,
    party: str,
) -> None:
    """Find records by person, use case, release, outcome and time."""
    home.require(party, "read_record", "Record")
    hits = home.ledger.search(
        subject=subject,
        use_case=use_case,
        release=bytes.fromhex(home.digest(release)[7:]) if release else None,
        outcome=outcome,
        since=nanoseconds(moment(since)) if since else None,
        until=nanoseconds(moment(until)) if until else None,
        limit=limit,
    )
    rows = [(h.id, time_text(h.time_ns), Kind(h.kind).name.lower(), h.use_case, h.outcome) for h in hits]
    if output.as_json:
        names = ("record", "time", "kind", "use_case", "outcome")
        output.json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        output.table(["record", "time", "kind", "use case", "outcome"], rows)


@ledger.command()
@click.option("--subject", required=True, help="The person's id as the gate was given it.")
@click.option("--reason", required=True, help="Why, such as a reference to the request.")
@acting
@with_home
def erase(output: Output, home: Home, subject: str, reason: str, party: str) -> None:
    """Erase a person by destroying their key; every proof stays valid. A hold or minimum retention refuses."""
    home.require(party, "erase_subject", "Subject")
    home.know_retention()
    erasure = home.ledger.erase(subject, by=party, reason=reason)
    count = sum(erasure.records.values())
    output.result(
        {"record": erasure.receipt.id, "records": erasure.records},
        f"the content of {count} record(s) is gone for good ({erasure.receipt.id})",
    )


@ledger.command()
@click.option("--subject", default=None, help="Hold what is about this person.")
@click.option("--use-case", default=None, help="Hold what is of this use case.")
@click.option("--log", default=None, help="Hold a whole log.")
@click.option("--lift", default=None, help="End the hold with this id instead.")
@click.option("--reason", required=True, help="Why, such as the matter's number.")
@acting
@with_home
def hold(
    output: Output,
    home: Home,
    subject: str | None,
    use_case: str | None,
    log: str | None,
    lift: str | None,
    reason: str,
    party: str,
) -> None:
    """Place or lift a legal hold: what it covers is neither erased nor pruned."""
    home.require(party, "hold_records")
    if lift is not None:
        if subject or use_case or log:
            raise UsageError("--lift takes no scope")
        receipt = home.ledger.lift(lift, by=party, reason=reason)
        output.result({"lifted": lift, "record": receipt.id}, f"{lift} is lifted ({receipt.id})")
        return
    placed = home.ledger.hold(by=party, reason=reason, subject_id=subject, use_case=use_case, log=log)
    output.result({"hold": placed}, f"hold {placed} is in force; lift it with --lift {placed}")


@ledger.command()
@with_home
def holds(output: Output, home: Home) -> None:
    """Holds in force."""
    rows = [(h.id, h.scope, h.value, h.by, h.reason) for h in home.ledger.holds()]
    if output.as_json:
        output.json([dict(zip(("hold", "scope", "value", "by", "reason"), row, strict=True)) for row in rows])
    else:
        output.table(["hold", "scope", "value", "by", "reason"], rows)


@ledger.command()
@acting
@with_home
def sweep(output: Output, home: Home, party: str) -> None:
    """Destroy the content of records whose retention has ended."""
    home.require(party, "erase_subject")
    home.know_retention()
    swept = home.ledger.sweep(by=party)
    output.result(
        {"pruned": swept.pruned, "held": swept.held},
        f"{sum(swept.pruned.values())} record(s) pruned, {swept.held} kept by a hold",
    )


@ledger.command()
@with_home
def heads(output: Output, home: Home) -> None:
    """Sign size and root of every log on the control log, so that a dropped log shows."""
    receipt = home.ledger.heads()
    output.result(
        {"record": receipt.id}, f"the heads of {len(home.ledger.logs())} log(s) are on record {receipt.id}"
    )


@ledger.command()
@with_home
def keys(output: Output, home: Home) -> None:
    """Public keys of every log, one a line, to be published and given to auditors and witnesses."""
    found = {home.ledger.origin(name): home.ledger.keys(name).texts for name in home.ledger.logs()}
    output.result(found, "\n".join(text for texts in found.values() for text in texts))


@ledger.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--log-key", "log_keys", multiple=True, required=True, help="A key of the log, or @FILE. May repeat."
)
@click.option("--witness", "witness_keys", multiple=True, help="A key of a witness that must have cosigned.")
@click.pass_obj
def audit(output: Output, folder: Path, log_keys: tuple[str, ...], witness_keys: tuple[str, ...]) -> None:
    """Check a copied log FOLDER (checkpoint, cosigned, tile/) with public keys only. Takes no home."""
    head, cosigned = audit_folder(folder, key_texts(log_keys), key_texts(witness_keys))
    document = {"origin": head.origin, "size": head.size, "root": head.root.hex()}
    text = f"{head.origin}: {head.size} entries, tiles and signed head hold; root {head.root.hex()}"
    if cosigned is not None and witness_keys:
        document["witnessed"] = cosigned.size
        text += f"\nthe first {cosigned.size} are those that the named witnesses cosigned"
    elif cosigned is not None:
        text += "\na cosigned head lies here; name the witnesses with --witness to have it checked"
    output.result(document, text)


@ledger.command("rebuild-index")
@with_home
def rebuild_index(output: Output, home: Home) -> None:
    """Make the search index of every log again from its segments."""
    counts = {name: home.ledger.rebuild_index(name) for name in home.ledger.logs()}
    output.result(counts, "\n".join(f"{name}: {count} records" for name, count in counts.items()))


@ledger.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Parquet file to write.")
@click.option("--since", default=None, help="From this time on.")
@click.option("--until", default=None, help="Before this time.")
@click.option("--headers-only", is_flag=True, help="Leave contents out.")
@acting
@with_home
def export(
    output: Output,
    home: Home,
    out: Path,
    since: str | None,
    until: str | None,
    headers_only: bool,
    party: str,
) -> None:
    """Write records to a Parquet file."""
    home.require(party, "read_record", "Record")
    count = home.ledger.export(
        out,
        since=nanoseconds(moment(since)) if since else None,
        until=nanoseconds(moment(until)) if until else None,
        payloads=not headers_only,
    )
    output.result({"records": count, "file": str(out)}, f"{count} record(s) are in {out}")
