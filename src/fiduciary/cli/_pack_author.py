"""`fiduciary pack show | lint | test | resolve | diff | sign`: for whoever writes, reads or reviews packs."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from fiduciary.cli._adopt import find_pack
from fiduciary.cli._home import Home, acting, open_home, short, with_home
from fiduciary.cli._output import Output
from fiduciary.cli._usecase import read_document
from fiduciary.errors import ConflictError, UsageError


@click.command()
@click.argument("pack")
@click.pass_obj
def show(output: Output, pack: str) -> None:
    """The rules of PACK (a file, or a shipped pack): duty, status, stage, severity, check."""
    found = find_pack(pack)
    if output.as_json:
        output.json(found.document)
        return
    output.say(f"{found.title} ({found.pack} {found.version}, {short(found.digest)})")
    if found.banner:
        output.say(found.banner)
    output.table(
        ["rule", "from", "status", "stage", "severity", "check", "duty"],
        [
            (r.id, str(r.effective.since or "-"), r.status, r.stage, r.severity, r.check, r.duty)
            for r in found.rules
        ],
    )


@click.command()
@click.argument("packs", nargs=-1, required=True)
@click.pass_obj
def lint(output: Output, packs: tuple[str, ...]) -> None:
    """Does every one of PACKS load? Says line or place of the first thing that is wrong in each; exit 2."""
    rows: list[dict[str, Any]] = []
    for name in packs:
        try:
            found = find_pack(name)
        except UsageError as error:
            where = f" at {error.where}" if error.where else ""
            rows.append({"pack": name, "ok": False, "detail": error.detail + where})
            continue
        untested = [r.id for r in found.rules if len({t.expect for t in r.tests}) < 2]
        detail = f"{len(found.rules)} rules, {sum(len(r.tests) for r in found.rules)} tests"
        if untested:
            detail += f"; without a passing and a failing test: {', '.join(untested[:5])}"
        rows.append(
            {"pack": found.pack, "ok": True, "detail": detail, "digest": found.digest, "untested": untested}
        )
    output.result(rows, "\n".join(f"{'ok ' if r['ok'] else 'BAD'}  {r['pack']}: {r['detail']}" for r in rows))
    if not all(r["ok"] for r in rows):
        raise click.exceptions.Exit(2)


@click.command("test")
@click.argument("packs", nargs=-1, required=True)
@click.pass_obj
def run(output: Output, packs: tuple[str, ...]) -> None:
    """Run the tests that the rules of PACKS carry; exit 6 when one does not come out as it says."""
    from fiduciary import rules

    outcomes = [(pack, found) for pack in packs for found in rules.run_tests(find_pack(pack))]
    rows = [{"pack": pack, **msgspec.to_builtins(found), "ok": found.ok} for pack, found in outcomes]
    wrong = [r for r in rows if not r["ok"]]
    if output.as_json:
        output.json(rows)
    else:
        if wrong:
            output.table(
                ["pack", "rule", "test", "expected", "found", "detail"],
                [(r["pack"], r["rule"], r["test"], r["expected"], r["found"], r["detail"]) for r in wrong],
            )
        output.say(f"{len(rows)} tests, {len(wrong)} did not come out as they say")
    if wrong:
        raise click.exceptions.Exit(ConflictError.exit_code)


@click.command()
@click.argument("packs", nargs=-1, required=True)
@click.option("--at", "day", default="", help="The day (2026-07-21); today by default.")
@click.option(
    "--use-case", "case", type=click.Path(path_type=Path, dir_okay=False), help="TOML or JSON of a use case."
)
@click.option("--stage", default="", help="Only rules of this stage.")
@click.pass_obj
def resolve(output: Output, packs: tuple[str, ...], day: str, case: Path | None, stage: str) -> None:
    """Which rules of PACKS bind on a day, strictest first, what clashes, and until when it holds."""
    from fiduciary import rules

    book = rules.resolve(
        [find_pack(p) for p in packs], at=read_day(day), use_case=read_document(case).document if case else {}
    )
    shown = [r for r in book.rules if not stage or r.stage == stage]
    document = {**msgspec.to_builtins(book), "digest": book.digest}
    if output.as_json:
        output.json(document)
        return
    until = f"until {book.valid_until}" if book.valid_until else "with no change known"
    output.say(f"rulebook {short(book.digest)} of {book.at}, valid from {book.valid_from} {until}")
    for banner in book.banners:
        output.say(f"note: {banner}")
    output.table(
        ["rule", "pack", "stage", "severity", "status", "check", "duty"],
        [(r.id, r.pack, r.stage, r.severity, r.status, r.check, r.duty) for r in shown],
    )
    for clash in book.conflicts:
        output.say(f"{clash.kind}: {clash.detail} -> {clash.resolved or 'A PERSON MUST DECIDE'}")


@click.command()
@click.argument("before")
@click.argument("after")
@click.option(
    "--at", "days", multiple=True, help="Day of BEFORE, then day of AFTER; give one for both, or none: today."
)
@click.option("--use-case", "case", default="", help="A use case of this home, or its TOML or JSON file.")
@click.option("--releases", is_flag=True, help="Name the releases of this home whose verdict changes.")
@click.pass_obj
def diff(output: Output, before: str, after: str, days: tuple[str, ...], case: str, releases: bool) -> None:
    """What is different between two packs, two versions of one, or one pack on two days."""
    from fiduciary import rules

    if len(days) > 2:
        raise UsageError("--at is given at most twice: the day of BEFORE, then that of AFTER")
    first, second = read_day(days[0] if days else ""), read_day(days[-1] if days else "")
    use_case: dict[str, Any] = read_document(Path(case)).document if case and Path(case).is_file() else {}
    known: list[dict[str, Any]] = []
    if releases or (case and not use_case):
        with open_home(output) as home:
            use_case = use_case or (home.registry.states().use(case).use_case.document if case else {})
            known = _judged(home, str(use_case.get("name", ""))) if releases else []
    a = rules.resolve([find_pack(before)], at=first, use_case=use_case)
    b = rules.resolve([find_pack(after)], at=second, use_case=use_case)
    found = rules.diff(a, b, known)
    if output.as_json:
        output.json(found)
        return
    output.table(
        ["rule", "change", "what", "duty"],
        [(c["rule"], c["change"], _fields(c.get("fields", {})), c["duty"]) for c in found["changes"]],
    )
    output.say(f"{len(found['changes'])} rules differ between {before} on {first} and {after} on {second}")
    if releases:
        output.table(
            ["release", "before", "after", "rules"],
            [
                (short(r["release"]), r["before"], r["after"], ", ".join(r["rules"]))
                for r in found["releases"]
            ],
        )
        output.say(f"{len(found['releases'])} of {len(known)} checked releases change verdict")


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("--counsel", default="", help="Name of the counsel who reviewed it; removes the banner.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="The signed pack (default: FILE)."
)
@acting
@with_home
def sign(output: Output, home: Home, file: Path, counsel: str, out: Path | None, party: str) -> None:
    """Sign the pack FILE; with --counsel as reviewed. Writes FILE.dsse.json beside it."""
    from fiduciary import rules
    from fiduciary.registry import REVIEW_TYPE, review_statement, sign_envelope

    raw = file.read_bytes()
    pack = rules.load_pack(raw)
    target = out or file
    key = home.key(party)
    if counsel:
        today = datetime.now(UTC).date()
        pack = msgspec.structs.replace(pack, reviewed_by_counsel=rules.Review(name=counsel, date=today))
        raw = _with_review(raw, counsel, today.isoformat())
        if rules.load_pack(raw).digest != pack.digest:
            raise UsageError(f"{file.name} needs a line of its own: reviewed_by_counsel: null")
    place = target.with_name(target.name + ".dsse.json")
    place.write_bytes(sign_envelope(REVIEW_TYPE, review_statement(pack.document), key))
    if raw != file.read_bytes() or out:
        target.write_bytes(raw)
    document = {"pack": pack.pack, "version": pack.version, "digest": pack.digest, "signature": str(place)}
    output.result(document, f"{pack.pack} {pack.version} is signed by {party}, {short(pack.digest)}: {place}")


def _with_review(raw: bytes, counsel: str, day: str) -> bytes:
    import json

    text = raw.decode("utf-8")
    line = f"reviewed_by_counsel: {{name: {json.dumps(counsel, ensure_ascii=False)}, date: {day}}}"
    lines = [line if w.strip() == "reviewed_by_counsel: null" else w for w in text.split("\n")]
    return "\n".join(lines).encode()


def read_day(text: str) -> date:
    """A UTC day; today when empty. Raises `UsageError`."""
    if not text:
        return datetime.now(UTC).date()
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--at takes a date such as 2026-07-21, not {text[:40]!r}") from None


def _judged(home: Home, use_case: str) -> list[dict[str, Any]]:
    found = home.registry.states().releases.values()
    return [
        {"release": r.digest, "results": r.checks.results}
        for r in found
        if r.checks is not None and (not use_case or r.use_case == use_case)
    ]


def _fields(fields: dict[str, list[Any]]) -> str:
    return "; ".join(f"{name}: {old} -> {new}" for name, (old, new) in fields.items())
