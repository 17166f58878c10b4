"""`fiduciary check`: hold a release against the rules of the day."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fiduciary.cli._home import Home, with_home
from fiduciary.cli._output import Output
from fiduciary.errors import ReleaseError, UsageError

if TYPE_CHECKING:
    from fiduciary.checks import Subject
    from fiduciary.registry import Bundle, LoadedRelease, UseCase
    from fiduciary.rules import Rulebook

ABOUT_PEOPLE = frozenset({"oversight.human_review", "oversight.override_share", "clock.within"})
"""Checks that look at contests, overrides and clocks."""
FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("reference")
@click.option("--data", type=FILE, help="The validation sample (CSV, Parquet).")
@click.option("--target", default="", help="Column that holds the outcome.")
@click.option("--positive", default=None, help="The target's value that is the event (if not 0/1).")
@click.option("--development", type=FILE, help="The development sample, in the same columns.")
@click.option("--group", "groups", multiple=True, help="A column that is a protected attribute. May repeat.")
@click.option("--groups", "beside", type=FILE, help="A table of protected attributes, row for row.")
@click.option("--reference", "references", multiple=True, help="ATTRIBUTE=LABEL to compare with. May repeat.")
@click.option("--column", "columns", multiple=True, help="ROLE=COLUMN, such as grades=rating. May repeat.")
@click.option("--card", type=FILE, help="What the source declares of the data (data card, JSON).")
@click.option("--estimation", type=FILE, help="What you declare of your estimates (JSON).")
@click.option("--pack", "packs", multiple=True, help="Try these packs instead of the use case's. May repeat.")
@click.option("--at", "date", default="", help="Try the rules of another day (YYYY-MM-DD).")
@click.option("--seed", default=0, show_default=True, help="Seed of checks that draw at random.")
@click.option(
    "--as", "party", default="", help="Record the run as this party; without it nothing is recorded."
)
@with_home
def check(
    output: Output,
    home: Home,
    reference: str,
    data: Path | None,
    target: str,
    positive: str | None,
    development: Path | None,
    groups: tuple[str, ...],
    beside: Path | None,
    references: tuple[str, ...],
    columns: tuple[str, ...],
    card: Path | None,
    estimation: Path | None,
    packs: tuple[str, ...],
    date: str,
    seed: int,
    party: str,
) -> None:
    """Run the release rules in force on release REFERENCE: red or green, with numbers, in seconds.

    A dry run unless --as says who records it. Exit 11 when a blocking rule is not met, or cannot be judged, and no
    waiver in force lifts it.
    """
    from fiduciary.checks import DataCard, Estimation
    from fiduciary.decision import read_data, recordable, sample_of, subject_of

    started = time.perf_counter()
    if party and (packs or date):
        raise UsageError("--pack and --at are for trying; what is recorded (--as) goes by the rules in force")
    if data is None and (target or development or groups or beside or columns or card):
        raise UsageError("give the sample itself too: --data FILE")
    digest = home.digest(reference)
    key = home.key(party) if party else None
    bundle, release = _open(home, digest)
    use_case = home.registry.states().use(bundle.manifest.use_case).use_case
    tables = {}
    sample = dev = None
    if data is not None:
        tables["sample"] = read_data(data, release)
        if beside is not None:
            tables["groups"] = read_data(beside)
        common: dict[str, Any] = {
            "target": target,
            "positive": positive,
            "groups": groups,
            "reference": _pairs(references, "--reference"),
            "roles": _pairs(columns, "--column"),
        }
        sample = sample_of(tables["sample"], release, use_case, beside=tables.get("groups"), **common)
        if development is not None:
            tables["development"] = read_data(development, release)
            dev = sample_of(tables["development"], release, use_case, target=target, positive=positive)
    subject = subject_of(
        release,
        use_case,
        sample=sample,
        development=dev,
        table=tables.get("sample"),
        card=DataCard.from_json(card.read_bytes()) if card else None,
        estimation=Estimation.from_json(estimation.read_bytes()) if estimation else None,
        facts=home.registry.facts(use_case.name, digest),
        seed=seed,
    )
    book, results = _judge(home, use_case, packs, date, subject, party)
    found = [recordable(r) for r in results]
    described = {name: table.describe() for name, table in tables.items()}
    base = _base(home, bundle, digest, party, key, found, book, described)
    blocking = _blocking(home, digest, base, found)
    seconds = time.perf_counter() - started
    recorded = f"recorded by {party}" if party else "a dry run: nothing was recorded; --as PARTY records it"
    if output.as_json:
        output.json(
            {
                "release": digest,
                "use_case": use_case.name,
                "rulebook": book,
                "green": not blocking,
                "blocking": blocking,
                "recorded": bool(party),
                "data": described,
                "seconds": round(seconds, 3),
                "checks": base,
                "rules": [{**f, "reviewed": r.reviewed} for f, r in zip(found, results, strict=True)],
            }
        )
    else:
        _show(output, reference, use_case.name, base, found)
        unreviewed = sorted({r.pack for r in results if not r.reviewed})
        if unreviewed:
            output.say(f"NOT REVIEWED BY COUNSEL: {', '.join(unreviewed)}")
        output.say(f"{len(base) + len(found)} results in {seconds:.2f} s; {recorded}")
    if blocking:
        raise ReleaseError(f"{len(blocking)} blocking result(s) stop it: {', '.join(blocking[:10])}")


def _pairs(texts: tuple[str, ...], option: str) -> dict[str, str]:
    found = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name or not value:
            raise UsageError(f"{option} takes NAME=VALUE, not {text!r}")
        found[name] = value
    return found


def _open(home: Home, digest: str) -> tuple[Bundle, LoadedRelease]:
    """A release in any state, or a draft that nobody has proposed."""
    from fiduciary.registry import load_bundle, read_bundle

    if digest in home.registry.states().releases:
        return home.registry.verify(digest), home.registry.examine(digest)
    bundle = read_bundle(home.drafts / digest[7:], digest)
    return bundle, load_bundle(bundle)


def _judge(
    home: Home, use_case: UseCase, packs: tuple[str, ...], date: str, subject: Subject, party: str
) -> tuple[str, list[Any]]:
    """(digest of the rulebook, results of its release rules)."""
    from datetime import UTC, datetime
    from datetime import date as Date

    from fiduciary import rules
    from fiduciary.cli._adopt import find_pack

    if not packs and not date:
        if not use_case.packs:
            return "", []
        if party:
            home.registry.announce(use_case.name, by=party)
        book, rulebook = home.registry.rulebook(use_case.name)
        return book.digest, rules.evaluate(rulebook, "release", _informed(home, rulebook, use_case, subject))
    try:
        day = Date.fromisoformat(date) if date else datetime.now(UTC).date()
    except ValueError:
        raise UsageError(f"--at takes a date such as 2026-07-21, not {date!r}") from None
    if packs:
        tried = [find_pack(name) for name in packs]
    else:
        adopted = home.registry.states().packs_of(use_case.name)
        tried = [rules.pack_from_document(a.document) for a in adopted]
    rulebook = rules.resolve(tried, at=day, use_case=use_case.document)
    return "", rules.evaluate(rulebook, "release", _informed(home, rulebook, use_case, subject))


def _informed(home: Home, rulebook: Rulebook, use_case: UseCase, subject: Subject) -> Subject:
    """The subject, with what people did about decisions where a rule asks for it: that reads every decision."""
    import msgspec

    from fiduciary.rights import Desk, with_rights

    if not any(rule.check in ABOUT_PEOPLE for rule in rulebook.stage("release")):
        return subject
    facts = with_rights(Desk(home.ledger, home.registry), subject.facts, use_case.name)
    return msgspec.structs.replace(subject, facts=facts)


def _base(
    home: Home,
    bundle: Bundle,
    digest: str,
    party: str,
    key: Any,
    found: list[dict[str, Any]],
    book: str,
    described: dict[str, Any],
) -> list[dict[str, Any]]:
    """Results of the checks that every release passes; recorded with the rules' when a party is named."""
    from fiduciary.registry import release_checks

    if not party:
        return release_checks(bundle)
    results = home.registry.check(digest, by=party, key=key, more=found, rulebook=book, data=described)
    return [r for r in results if "rule" not in r]


def _blocking(home: Home, digest: str, base: list[dict[str, Any]], found: list[dict[str, Any]]) -> list[str]:
    """Names of results that stop the release, those lifted by a waiver in force left out."""
    from fiduciary.registry import day

    today = day(home.ledger.clock())
    waived = {w.rule for w in home.registry.states().waivers if w.release == digest and today < w.expires}
    stopped = [r["name"] for r in base if r.get("severity", "block") == "block" and not r["ok"]]
    for r in found:
        r["waived"] = r["rule"] in waived
        if r["severity"] == "block" and r["ok"] is not True and not r["waived"]:
            stopped.append(r["rule"])
    return stopped


def _show(
    output: Output, reference: str, use_case: str, base: list[dict[str, Any]], found: list[dict[str, Any]]
) -> None:
    from rich.markup import escape

    rows = [(_word(r), r["name"], "", escape(r.get("detail", ""))) for r in base]
    for r in found:
        value = r.get("value")
        number = "" if value is None else f"{value:.4g} {r.get('unit', '')}".strip()
        rows.append((_word(r), f"{r['rule']} ({r['name']})", number, escape(r.get("lacking") or r["detail"])))
    output.table(["", "rule or check", "value", ""], rows, title=f"{reference} for {use_case}")


def _word(result: dict[str, Any]) -> str:
    """One coloured word: what the result does to the release."""
    if result["ok"] is True:
        return "[green]ok[/green]"
    severity = result.get("severity", "block")
    word = "fails" if result["ok"] is False else "unknown"
    if severity != "block":
        return f"[yellow]{word}, {severity}s only[/yellow]"
    if result.get("waived"):
        return f"[yellow]{word}, waived[/yellow]"
    return f"[bold red]{word}, BLOCKS[/bold red]"
