"""`fiduciary replay`: decide again from the record."""

from __future__ import annotations

import click

from fiduciary.cli._home import Home, acting, time_text, with_home
from fiduciary.cli._output import Output
from fiduciary.errors import IntegrityError, UsageError


@click.command()
@click.argument("decision", required=False)
@click.option("--use-case", default=None, help="Replay every decision of a use case instead of one.")
@click.option("--limit", default=100_000, show_default=True, help="With --use-case: at most so many.")
@acting
@with_home
def replay(
    output: Output, home: Home, decision: str | None, use_case: str | None, limit: int, party: str
) -> None:
    """Decide DECISION (such as gate-0.17) again from release and record; it must be the same, bit for bit."""
    from fiduciary.decision import Replayer

    home.require(party, "replay", "Record")
    if (decision is None) == (use_case is None):
        raise UsageError("name one decision, such as gate-0.17, or give --use-case")
    replayer = Replayer(home.ledger, home.registry)
    if decision is not None:
        result = replayer.replay(decision)
        verdict = result.verdict
        if not result.same:
            changed = ", ".join(d.field for d in result.differences)
            raise IntegrityError(f"decision {decision} does not replay: {changed} would be different today")
        document = {
            "decision": decision,
            "same": True,
            "outcome": verdict.outcome,
            "score": verdict.score,
            "margin": verdict.margin,
            "baseline": verdict.baseline,
            "reasons": [
                {"code": r.code, "text": r.text, "contribution": r.contribution} for r in verdict.reasons
            ],
            "release": result.record.release,
        }
        book = result.rulebook
        if book is not None:
            document["referred_by"] = verdict.referred_by
            document["rulebook"] = {
                "digest": book.digest,
                "packs": [{"pack": name, "version": version} for name, version, _ in book.packs],
                "valid_from": book.valid_from,
                "valid_until": book.valid_until or None,
                "announced": f"control.{book.index}",
            }
        text = f"{decision}: the same again, bit for bit: {verdict.outcome}, score {verdict.score!r}"
        lines = [f"  {r.contribution:+.4f}  {r.text}" for r in verdict.reasons]
        if book is not None:
            packs = ", ".join(f"{name} {version}" for name, version, _ in book.packs)
            when = f"announced {time_text(book.time_ns)}, control.{book.index}"
            lines.append(f"  rules of its day: {packs} ({when})")
            if verdict.referred_by:
                lines.append(f"  given to a person by rule {verdict.referred_by}")
        output.result(document, "\n".join([text, *lines]))
        return
    with output.progress() as progress:
        task = progress.add_task("replaying", total=None)
        summary = replayer.replay_all(
            use_case or "", limit=limit, progress=lambda done: progress.update(task, completed=done)
        )
    output.result(
        {
            "use_case": use_case,
            "same": summary.same,
            "different": summary.different,
            "unreadable": summary.unreadable,
        },
        f"{summary.same} decisions are the same again, bit for bit; {len(summary.different)} differ; "
        f"{summary.unreadable} are erased or pruned",
    )
    if summary.different:
        raise IntegrityError(f"these do not replay: {', '.join(summary.different[:20])}")
