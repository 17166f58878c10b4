"""`fiduciary joint`: jobs over columns that stay with their owners, between organisations."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import msgspec

from fiduciary.cli._home import Home, acting, time_text, with_home
from fiduciary.cli._output import Output, pass_output
from fiduciary.errors import ConflictError, FiduciaryError, NotFoundError, UsageError

FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.group()
def joint() -> None:
    """Train models, and align customers, on data that nobody reveals."""


@joint.command()
@pass_output
def programs(output: Output) -> None:
    """Every program this installation carries, with the digest an allow-list names."""
    from fiduciary.joint import shipped_programs

    found = shipped_programs().values()
    if output.as_json:
        output.json([msgspec.to_builtins(p) for p in found])
    else:
        for program in found:
            output.say(
                f"{program.id}  {', '.join(program.protocols)}\n  {program.summary}\n  {program.digest}"
            )
            for leak in program.leaks:
                output.say(f"  leaks: {leak}")


@joint.command()
@click.argument("job", type=FILE)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where to write the invitation.")
@acting
@with_home
def invite(output: Output, home: Home, job: Path, out: Path, party: str) -> None:
    """Sign an invitation from the job file JOB. Its coordinator needs no data and sees no share."""
    from fiduciary.joint._contract import write_document
    from fiduciary.joint._job_file import invite as sign
    from fiduciary.joint._job_file import read_job

    signed = sign(read_job(job), coordinator=party, key=home.key(party), now=time.time())
    _write_new(out, write_document(signed))
    names = ", ".join(p["name"] for p in signed.payload["parties"])
    output.result({"invitation": str(out), "parties": names}, f"{out} is signed; send it to {names}")


@joint.command()
@click.argument("invitation", type=FILE)
@click.option(
    "--data", type=FILE, help="This party's own table, CSV or Parquet; none: it only helps to compute."
)
@click.option("--address", required=True, help="host:port at which the others reach this party.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Where to write the acceptance.")
@acting
@with_home
def join(
    output: Output, home: Home, invitation: Path, data: Path | None, address: str, out: Path, party: str
) -> None:
    """Accept INVITATION: checked against joint/allow.toml, signed with this party's key and a new certificate."""
    from fiduciary.joint import Signed
    from fiduciary.joint._certificates import save_certificate
    from fiduciary.joint._contract import Invitation, open_signed, read_document, write_document

    signed = read_document(invitation.read_bytes(), Signed, str(invitation))
    proposal = open_signed(signed, Invitation)
    with _member(home, party) as member:
        acceptance, link = member.accept(signed, _columns(proposal, party, data), address)
    folder = _job_folder(home, proposal.nonce)
    if folder.exists():
        raise ConflictError(f"{proposal.job} was joined here before; invite again for another run")
    folder.mkdir(mode=0o700, parents=True)
    save_certificate(folder, link.certificate, link.private_key)
    _note(folder, job=proposal.job, party=party, state="joined", detail="")
    _write_new(out, write_document(acceptance))
    told = f"{out} is signed; send it to the other parties of {proposal.job}"
    output.result({"acceptance": str(out), "job": proposal.job, "nonce": proposal.nonce}, told)


@joint.command()
@click.argument("invitation", type=FILE)
@click.argument("acceptances", type=FILE, nargs=-1, required=True)
@click.option("--data", type=FILE, help="The table that was accepted; none: it only helps to compute.")
@click.option("--bind", help="host:port to listen at, where it differs from the accepted address.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for outputs and provenance (a receiver's)."
)
@acting
@with_home
def run(
    output: Output,
    home: Home,
    invitation: Path,
    acceptances: tuple[Path, ...],
    data: Path | None,
    bind: str | None,
    out: Path | None,
    party: str,
) -> None:
    """Take part in the job of INVITATION and all its ACCEPTANCES (one file of each party)."""
    from fiduciary.joint import LinkKey, Progress, Signed, make_contract
    from fiduciary.joint._contract import Invitation, open_signed, read_document

    signed = read_document(invitation.read_bytes(), Signed, str(invitation))
    proposal = open_signed(signed, Invitation)
    contract = make_contract(signed, [read_document(p.read_bytes(), Signed, str(p)) for p in acceptances])
    folder = _job_folder(home, proposal.nonce)
    if not (folder / "link.key").exists():
        raise NotFoundError(
            f"{proposal.job} was not joined from this home, or has run: there is no key of its links"
        )
    link = LinkKey(
        certificate=(folder / "link.crt").read_text("ascii"), private_key=(folder / "link.key").read_bytes()
    )
    if out is not None and out.exists():
        raise ConflictError(f"{out} exists already")

    def progress(now: Progress) -> None:
        left = f", about {now.left_s:.0f} s left" if now.left_s is not None else ""
        share = f" {now.done}/{now.total}" if now.total else ""
        output.say(f"{now.seconds:7.1f} s  {now.phase}{share}, {now.sent_bytes / 1e6:.1f} MB sent{left}")
        _note(folder, job=proposal.job, party=party, state="running", detail=now.phase)

    with _member(home, party) as member:
        try:
            outcome = member.run(
                contract, lambda: _columns(proposal, party, data), link, bind=bind, on_progress=progress
            )
        except FiduciaryError as error:
            _note(folder, job=proposal.job, party=party, state="failed", detail=error.detail)
            (folder / "link.key").unlink(missing_ok=True)
            body = {"job": proposal.job, "invitation": proposal.digest, "reason": error.detail[:500]}
            _emit(home, "joint.failed", body, party)
            raise
    (folder / "link.key").unlink(missing_ok=True)
    document = outcome.transcript.document()
    _write_new(folder / "transcript.json", msgspec.json.format(msgspec.json.encode(document)))
    if out is not None:
        _keep(out, outcome.outputs, document, outcome.salt)
    record = _emit(home, "joint.completed", {"job": proposal.job, **document}, party)
    _note(folder, job=proposal.job, party=party, state="completed", detail=document["digest"])
    received = ", ".join(outcome.outputs) or "nothing"
    output.result(
        {
            "job": proposal.job,
            "transcript": document["digest"],
            "record": record,
            "received": list(outcome.outputs),
        },
        f"{proposal.job} is complete, signed by {', '.join(proposal.names)}; received here: {received}\n"
        f"transcript {document['digest']} (record {record})",
    )


@joint.command()
@with_home
def status(output: Output, home: Home) -> None:
    """Every job this home joined, and how it stands."""
    notes = []
    for path in sorted((home.path / "joint").glob("*/status.json"), key=lambda p: p.stat().st_mtime_ns):
        note = msgspec.json.decode(path.read_bytes())
        notes.append({**note, "since": time_text(path.stat().st_mtime_ns)})
    if output.as_json:
        output.json(notes)
    else:
        names = ["job", "party", "state", "since", "detail"]
        output.table(names, [[n[name] for name in names] for n in notes])


@joint.command()
@click.argument("job")
@with_home
def transcript(output: Output, home: Home, job: str) -> None:
    """Verify and print what JOB (its name, or a transcript file) left behind: who, what, how much, what leaked."""
    from fiduciary.joint import read_transcript
    from fiduciary.registry._canonical import parse

    path = Path(job)
    if not path.is_file():
        found = [
            p.parent / "transcript.json"
            for p in (home.path / "joint").glob("*/status.json")
            if msgspec.json.decode(p.read_bytes())["job"] == job and (p.parent / "transcript.json").exists()
        ]
        if not found:
            raise NotFoundError(f"no completed job {job!r} here; `fiduciary joint status` lists the jobs")
        path = max(found, key=lambda p: p.stat().st_mtime_ns)
    made = read_transcript(parse(path.read_bytes(), str(path), 4 << 20))
    if output.as_json:
        output.json(made.document())
        return
    body = made.body
    output.say(f"{body['job']}: {body['program']['id']} under {body['protocol']}, every signature holds")
    output.say(
        f"transcript {made.digest}\nprogram    {body['program']['digest']}\ncontract   {body['contract']}"
    )
    for p in made.parties:
        sent = sum(p["sent_bytes"].values()) / 1e6
        received = ", ".join(p["outputs"]) or "nothing"
        output.say(
            f"  {p['name']} (key {p['key'][:16]}): {p['rows']} rows, {sent:.1f} MB sent, {p['rounds']} rounds, "
            f"{p['seconds']:.1f} s, received {received}"
        )
    for leak in body["leaks"]:
        output.say(f"  leaks: {leak}")


def _member(home: Home, party: str) -> Any:
    from contextlib import closing

    from fiduciary.joint import Allow, Member, Memory, worker_python

    return closing(
        Member(
            name=party,
            key=home.key(party),
            allow=Allow.load(home.path / "joint" / "allow.toml"),
            memory=Memory(home.path / "joint" / "memory.json"),
            python=worker_python("spu"),
        )
    )


def _columns(proposal: Any, party: str, data: Path | None) -> dict[str, Any]:
    """The invited columns of this party's table, and nothing else of it."""
    import numpy as np

    from fiduciary.models import read_table

    wanted = proposal.parties[proposal.rank(party)].columns
    if not wanted:
        return {}
    if data is None:
        raise UsageError(
            f"{party} is asked for {', '.join(c.name for c in wanted)}: name the table with --data"
        )
    table = read_table(data)
    found: dict[str, Any] = {}
    for column in wanted:
        if column.name not in table:
            raise UsageError(f"{data.name} has no column {column.name!r}, which the job asks for")
        values = np.asarray(table[column.name])
        if column.kind in ("number", "boolean") and values.dtype.kind not in "fiub":
            raise UsageError(f"column {column.name!r} of {data.name} is not made of numbers, as the job asks")
        if column.kind in ("category", "text"):
            values = np.array(["" if v is None else str(v) for v in values.tolist()])
        found[column.name] = values
    if proposal.program.id.startswith("fiduciary.psi@"):
        from fiduciary.joint import prepare_identifiers

        rules = proposal.parameters.get("rules", ["unicode", "trim", "case"])
        keep = proposal.parameters.get("keep", "refuse")
        return {"ids": prepare_identifiers(next(iter(found.values())), rules=rules, keep=keep).ids}
    return found


def _keep(folder: Path, outputs: dict[str, Any], document: dict[str, Any], salt: str) -> None:
    import numpy as np

    folder.mkdir(mode=0o700, parents=True)
    for name, array in outputs.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
    provenance = {"joint": document, "opens_outputs": salt}
    _write_new(folder / "provenance.json", msgspec.json.format(msgspec.json.encode(provenance)))


def _emit(home: Home, event: str, body: dict[str, Any], party: str) -> str:
    from fiduciary.registry import make_statement, sign_statement

    key = home.key(party)
    statement = make_statement(
        event, body, scope=home.registry.scope, by=party, key_id=key.key_id, signed_ns=home.ledger.clock()
    )
    payload = sign_statement(statement, key)
    del payload["event"]
    return home.ledger.emit(event, payload).id


def _job_folder(home: Home, nonce: str) -> Path:
    return home.path / "joint" / nonce


def _note(folder: Path, **note: str) -> None:
    draft = folder / ".status.new"
    draft.write_bytes(msgspec.json.encode(note))
    draft.replace(folder / "status.json")


def _write_new(path: Path, raw: bytes) -> None:
    try:
        with path.open("xb") as file:
            file.write(raw)
    except FileExistsError:
        raise ConflictError(f"{path} exists already") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
