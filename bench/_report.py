"""What a run says: the table, the ratios, the bars that hold or are missed, and what makes it void."""

from __future__ import annotations

from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

Report = dict[str, Any]
Lines = tuple[list[str], list[list[str]]]


class Bar(NamedTuple):
    """A promise about 64 connections: a ratio to a peer in this run, or a figure of our own."""

    ours: str
    figure: str
    peer: str | None = None
    least: float | None = None
    most: float | None = None


BARS = [
    Bar("ours", "rate", "mlserver", least=4.0),
    Bar("ours", "rate", "kserve", least=5.0),
    Bar("ours", "rate", "mlflow", least=9.0),
    Bar("ours", "rate", "fastapi-explained", least=15.0),
    Bar("ours-adverse", "rate", "fastapi", least=2.0),
    Bar("ours", "cpu_us", most=200.0),
    Bar("ours", "p99_ms", most=30.0),
]
LOG_LINE = 40
"""Bytes: whoever writes more for each of the checked requests logs every request."""
FIGURES = {"rate": "requests/s", "cpu_us": "CPU a request, µs", "p99_ms": "p99, ms"}


class Verdict(NamedTuple):
    """What was promised, what came, and whether it holds."""

    promise: str
    measured: str
    holds: bool


def judge(report: Report) -> list[Verdict]:
    """Every bar that this run can tell about."""
    verdicts = []
    for bar in BARS:
        mine = figure(report, bar.ours, 64, bar.figure)
        theirs = figure(report, bar.peer, 64, bar.figure) if bar.peer else 1.0
        if mine is None or theirs is None:
            continue
        value = mine / theirs
        if bar.least is not None:
            promise = f"{bar.ours} / {bar.peer}, {FIGURES[bar.figure]}: at least {bar.least:g}"
            verdicts.append(Verdict(promise, f"{value:.1f}", value >= bar.least))
        elif bar.most is not None:
            promise = f"{bar.ours}, {FIGURES[bar.figure]}: at most {bar.most:g}"
            verdicts.append(Verdict(promise, f"{value:.0f}", value <= bar.most))
    return verdicts


def figure(report: Report, name: str, connections: int, what: str) -> float | None:
    """One median figure of a server, or none if it was not measured."""
    loads = report["targets"].get(name, {}).get("loads", {})
    return loads[str(connections)]["median"][what] if str(connections) in loads else None


def faults(report: Report) -> list[str]:
    """Whatever makes the figures void."""
    found = []
    for name, entry in report["targets"].items():
        for connections, load in entry["loads"].items():
            for what, words in (("refused", "answers were not 2xx"), ("broken", "requests got no answer")):
                if load["median"][what]:
                    found.append(f"{name} at {connections} connections: {load['median'][what]} {words}")
        if entry["log_bytes_per_request"] > LOG_LINE:
            found.append(
                f"{name} logged {entry['log_bytes_per_request']:.0f} bytes a request: logs must be off"
            )
        found += [f"{name}: {problem}" for problem in entry.get("ledger", {}).get("problems", [])]
    return found


def figures_of(report: Report) -> Lines:
    """One line a server, all connections side by side."""
    connections = _connections(report)
    head = ["server", "answers with"]
    for c in connections:
        head += [f"{c} conn: req/s", "p50 / p99 ms", "CPU µs/req"]
    head += ["cores", "RSS MiB"]
    lines = []
    for name, entry in report["targets"].items():
        line = [name, entry["does"]]
        for c in connections:
            m = entry["loads"][str(c)]["median"]
            line += [f"{m['rate']:,.0f}", f"{m['p50_ms']:.1f} / {m['p99_ms']:.1f}", f"{m['cpu_us']:,.0f}"]
        m = entry["loads"][str(connections[-1])]["median"]
        lines.append([*line, f"{m['cores']:.2f}", f"{m['rss_mib']:,.0f}"])
    return head, lines


def ratios_of(report: Report) -> Lines:
    """Ours over each peer: requests a second, and CPU per request the other way round.

    The first of ours at every number of connections, the others at the largest.
    """
    ours = [name for name in report["targets"] if name.startswith("ours")]
    peers = [name for name in report["targets"] if not name.startswith("ours")]
    connections = _connections(report)
    columns = [(name, c) for name in ours for c in connections if name == ours[0] or c == connections[-1]]

    def cell(name: str, peer: str, c: int) -> str:
        a, b = (report["targets"][one]["loads"][str(c)]["median"] for one in (name, peer))
        return f"{a['rate'] / b['rate']:.1f} / {b['cpu_us'] / a['cpu_us']:.1f}"

    head = ["times, rate / CPU", *(f"{name}, {c} conn" for name, c in columns)]
    return head, [[peer, *(cell(name, peer, c) for name, c in columns)] for peer in peers]


def show(report: Report, console: Console) -> None:
    """The same on a terminal."""
    titled = (("Serving", figures_of(report)), ("Ours over the peers", ratios_of(report)))
    for title, (head, lines) in titled:
        if lines and len(head) > 1:
            table = Table(*head, title=title, title_justify="left")
            for column in table.columns[1:]:
                column.justify = "right"
            for line in lines:
                table.add_row(*line)
            console.print(table)
    console.print(about(report), highlight=False)
    for promise, measured, holds in judge(report):
        word, style = ("holds ", "green") if holds else ("MISSED", "red")
        console.print(f"{word}  {promise}: {measured}", style=style, highlight=False)


def markdown(report: Report) -> str:
    """The same, ready for the documentation."""
    parts = [about(report), _markdown_table(figures_of(report))]
    ratios = ratios_of(report)
    if ratios[1] and len(ratios[0]) > 1:
        parts.append(_markdown_table(ratios))
    if verdicts := judge(report):
        lines = [[v.promise, v.measured, "yes" if v.holds else "no"] for v in verdicts]
        parts.append(_markdown_table((["promise, 64 connections", "measured", "holds"], lines)))
    for name, entry in report["targets"].items():
        if "ledger" in entry:
            parts.append(f"`{name}`: {entry['ledger']['says']}.")
    distinct = {", ".join(f"{k} {v}" for k, v in e["versions"].items()) for e in report["targets"].values()}
    parts.append(f"Versions: {'; '.join(sorted(distinct))}.")
    return "\n\n".join(parts) + "\n"


def about(report: Report) -> str:
    """When, where and how it was measured."""
    m = report["machine"]
    return (
        f"{report['began']}; {m['cpu']}, {m['cores']} cores, Linux {m['kernel']}; "
        f"load average {report['load_before']:.1f} before, {report['load_after']:.1f} after; "
        f"fdatasync {report['fdatasync_ms']} ms; median of {report['rounds']} rounds of {report['seconds']} s; "
        f"{report['model']['leaves']:,} leaves."
    )


def _connections(report: Report) -> list[int]:
    return sorted({int(c) for entry in report["targets"].values() for c in entry["loads"]})


def _markdown_table(table: Lines) -> str:
    head, lines = table
    rule = "|---|" + "---:|" * (len(head) - 1)
    return "\n".join([f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(line)} |" for line in lines)])
