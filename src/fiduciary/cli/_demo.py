"""`fiduciary demo`: the whole path on one machine, by the very commands that a person would type."""

from __future__ import annotations

import csv
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

from fiduciary.cli._output import Output
from fiduciary.errors import ConflictError, FiduciaryError, UsageError

START_S = 60.0
ASKED = 200
"""Decisions asked for in one request."""


@click.group()
def demo() -> None:
    """The whole path on one machine."""


@demo.command()
@click.option(
    "--data", type=click.Path(path_type=Path), default=None, help="CSV or Parquet (default: generated)."
)
@click.option("--target", default=None, help="Column of DATA that holds the outcome.")
@click.option("--positive", default=None, help="The target's value that is the bad outcome (if not 0/1).")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Folder to make."
)
@click.option("--force", is_flag=True, help="Replace the folder of an earlier demo.")
@click.pass_obj
def credit(
    output: Output, data: Path | None, target: str | None, positive: str | None, out: Path, force: bool
) -> None:
    """Train, sign, be refused, approve, serve, ask, prove, tamper, be caught: a credit decision end to end."""
    if (data is None) != (target is None):
        raise UsageError("--data and --target go together")
    if data is not None and not data.is_file():
        raise UsageError(f"there is no file {data}")
    if out.exists():
        if not force and not (out / ".fiduciary-demo").exists():
            raise ConflictError(
                f"{out} exists and is not an earlier demo; choose another --out or give --force"
            )
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / ".fiduciary-demo").touch()
    story = _Story(output, out.absolute())
    try:
        story.tell(data.absolute() if data else None, target, positive)
    finally:
        story.stop_gate()


class _Story:
    def __init__(self, output: Output, out: Path) -> None:
        self.output = output
        self.out = out
        self.home = out / "home"
        self.gate: subprocess.Popen[bytes] | None = None
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("FIDUCIARY_")}
        self.step = 0
        self.began = time.monotonic()

    def tell(self, data: Path | None, target: str | None, positive: str | None) -> None:
        table, contract, target = self.prepare(data, target)
        inputs = ["--target", target, *(["--positive", positive] if positive else [])]
        inputs += ["--contract", str(contract)] if contract else []

        self.title("A home: settings, keys, ledger, policies, and people with keys of their own")
        self.run("init", str(self.home), "--tenant", "demo-bank", "--officer", "olga", home=False)
        for name, roles in (
            ("ada", ("developer", "validator")),
            ("vera", ("validator",)),
            ("otto", ("operator",)),
        ):
            self.run("party", "enrol", name, *[x for role in roles for x in ("--role", role)], "--as", "olga")

        self.title("Two models on the same table: a scorecard and boosted trees")
        self.run("train", "scorecard", str(table), *inputs, "--out", str(self.out / "scorecard"), home=False)
        self.run("train", "lightgbm", str(table), *inputs, "--out", str(self.out / "trees"), home=False)

        self.title("What the model may be used for, and the cut-offs: an officer decides that")
        self.define_use_case()

        self.title("Built, signed and checked by its author")
        self.build("scorecard", table, "1")
        self.run("release", "sign", "credit@1", "--as", "ada")

        self.title(
            "The author tries to approve the own release (and is a validator, too): refused, and recorded"
        )
        self.run("release", "approve", "credit@1", "--as", "ada", expect=11)

        self.title("A second person approves, an operator puts it into service")
        self.run("release", "approve", "credit@1", "--as", "vera", "--note", "challenged with our own sample")
        self.run("release", "promote", "credit@1", "--as", "otto")

        self.title("Served and asked: the answer leaves only after its record is on disk")
        self.start_gate()
        rows = self.rows(table)
        declined = self.ask(rows)

        self.title("Decided again from the record: the same bits")
        self.run("replay", declined, "--as", "vera")

        self.title("One folder for an outsider, verified with nothing but Python")
        folder = self.out / "evidence"
        self.run(
            "evidence", "--use-case", "credit", "--since", "2020-01-01", "--out", str(folder), "--as", "olga"
        )
        self.python(folder / "verify.py", expect=0)

        self.title("One byte of the folder is changed: the verifier refuses")
        self.flip(folder / "decisions.jsonl", folder / "tampered")
        self.python(self.out / "tampered" / "verify.py", expect=1)

        self.title("The boosted trees take the same path, under the running gate")
        self.build("trees", table, "2")
        for verb, party in (("sign", "ada"), ("approve", "vera"), ("promote", "otto")):
            self.run("release", verb, "credit@2", "--as", party)
        second = self.ask(rows)
        self.run("replay", second, "--as", "vera")

        self.title("The stop button: the next answer is a refusal; then back to the release before")
        self.run("release", "suspend", "credit@2", "--reason", "a validator found a fault", "--as", "otto")
        self.ask_one(rows[0], "applicant-0", expect=12)
        self.run("release", "rollback", "credit", "--reason", "credit@1 is still approved", "--as", "otto")
        self.ask_one(rows[0], "applicant-0")

        self.title("A person is erased; every proof still holds")
        self.run("ledger", "erase", "--subject", "applicant-1", "--reason", "request 17", "--as", "olga")
        self.stop_gate()
        self.run("replay", "--use-case", "credit", "--as", "vera")
        self.run("ledger", "verify")
        self.run("registry", "list")
        self.output.say(
            f"\nDone in {time.monotonic() - self.began:.0f} s. The home is {self.home}, the evidence "
            f"{folder}: open {folder / 'index.html'}."
        )
        if self.output.as_json:
            self.output.json({"home": str(self.home), "evidence": str(folder), "declined": declined})

    # --- parts ---

    def prepare(self, data: Path | None, target: str | None) -> tuple[Path, Path | None, str]:
        """The table, its contract if there is one, and the target column."""
        from fiduciary.cli import _portfolio as portfolio

        if data is not None and target is not None:
            return data, None, target
        self.title("A small portfolio with known truth")
        table, contract = self.out / "portfolio.csv", self.out / "portfolio.contract.json"
        columns = portfolio.generate()
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            values = [column.tolist() for column in columns.values()]
            writer.writerows([["" if v != v else v for v in row] for row in zip(*values, strict=True)])
        contract.write_bytes(portfolio.contract().to_json())
        self.output.say(f"  {len(values[0])} applicants in {table}")
        return table, contract, portfolio.TARGET

    def define_use_case(self) -> None:
        training = json.loads((self.out / "scorecard" / "training.json").read_text())
        quantiles = training["score_quantiles"]
        document = "\n".join(
            [
                'name = "credit"',
                'purpose = "Decide on applications for consumer loans"',
                'jurisdictions = ["EU"]',
                'department = "lending"',
                'region = "eu"',
                'reviewers = ["credit desk"]',
                f"approve_below = {quantiles['0.6']!r}",
                f"decline_from = {quantiles['0.85']!r}",
            ]
        )
        file = self.out / "credit.toml"
        file.write_text(document + "\n")
        self.output.say("\n".join("    " + line for line in document.split("\n")))
        self.run("usecase", "define", str(file), "--as", "olga")

    def build(self, folder: str, table: Path, version: str) -> None:
        self.run(
            *("release", "build", str(self.out / folder), "--use-case", "credit", "--data", str(table)),
            *("--name", "credit", "--version", version),
        )

    def rows(self, table: Path) -> list[dict[str, Any]]:
        """The first rows of the table as they would be asked."""
        from fiduciary.models import Contract, read_table

        contract = Contract.load(self.out / "scorecard" / "contract.json")
        compiled = contract.compile()
        columns = {name: column[:ASKED] for name, column in read_table(table, contract).items()}
        return [compiled.decode_row(row) for row in compiled.table(columns, ignore_unknown=True).tolist()]

    def ask(self, rows: list[dict[str, Any]]) -> str:
        """A batch through the gate, a summary, and one adverse decision in full; returns its id."""
        from fiduciary.cli._decide import ask

        body = {
            "use_case": "credit",
            "rows": [{"subject": f"applicant-{i}", "features": row} for i, row in enumerate(rows)],
        }
        decisions = ask(self.url, self.token, body)["decisions"]
        counts = {
            name: sum(d["outcome"] == name for d in decisions) for name in ("approve", "refer", "decline")
        }
        self.output.say(
            f"  {len(decisions)} decided: " + ", ".join(f"{n} {name}" for name, n in counts.items())
        )
        adverse = next((i for i, d in enumerate(decisions) if d["outcome"] == "decline"), 0)
        return str(self.ask_one(rows[adverse], f"applicant-{adverse}")["id"])

    def ask_one(self, row: dict[str, Any], subject: str, *, expect: int = 0) -> dict[str, Any]:
        text = json.dumps(row)
        line = self.run(
            "decide", "credit", "--subject", subject, "--features", text, home=False, expect=expect
        )
        return {} if expect else {"id": line.partition("record ")[2].partition(")")[0]}

    def start_gate(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "fiduciary", "--home", str(self.home), "serve", "--port", str(port)]
        self.output.say(f"$ fiduciary serve --port {port} &")
        log = (self.out / "gate.log").open("wb")
        self.gate = subprocess.Popen(command, stdout=log, stderr=log, env=self.environment)
        deadline = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if self.gate.poll() is not None or time.monotonic() > deadline:
                    raise FiduciaryError(f"the gate did not start; see {self.out / 'gate.log'}") from None
                time.sleep(0.05)
        issued = self.run(
            "token", "issue", "loan-desk", "--role", "application", "--department", "lending", echo=False
        )
        self.output.say("  (its token is in FIDUCIARY_TOKEN)")
        self.token = issued.strip()
        self.environment |= {"FIDUCIARY_TOKEN": self.token, "FIDUCIARY_URL": self.url}

    def stop_gate(self) -> None:
        if self.gate is not None:
            self.gate.send_signal(signal.SIGTERM)
            try:
                self.gate.wait(20)
            except subprocess.TimeoutExpired:
                self.gate.kill()
                self.gate.wait()
            self.gate = None

    def flip(self, file: Path, tampered: Path) -> None:
        """A copy of the folder in which one digit of one recorded score is another."""
        tampered = self.out / tampered.name
        shutil.copytree(file.parent, tampered)
        target = tampered / file.name
        raw = bytearray(target.read_bytes())
        at = raw.index(b'score\\":') + len(b'score\\":0.1')
        raw[at] = ord("1") if raw[at] != ord("1") else ord("2")
        target.write_bytes(raw)
        self.output.say(f"  byte {at} of {file.name} is changed in a copy")

    # --- running what a person would type ---

    def title(self, text: str) -> None:
        self.step += 1
        if not self.output.as_json:
            click.echo()
            click.secho(f"{self.step}. {text}", bold=True)

    def run(self, *words: str, home: bool = True, expect: int = 0, echo: bool = True) -> str:
        """Run a command, show it and what it says; raise unless it exits as expected."""
        self.output.say("$ fiduciary " + _shown(words))
        place = ["--home", str(self.home)] if home else []
        return self._call([sys.executable, "-m", "fiduciary", *place, *words], expect, echo)

    def python(self, file: Path, *, expect: int) -> None:
        self.output.say(f"$ python3 {file}")
        self._call([sys.executable, "-I", str(file)], expect, True)

    def _call(self, command: list[str], expect: int, echo: bool) -> str:
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, check=False)
        text = (done.stdout + done.stderr).strip("\n")
        if echo or done.returncode != expect:
            self.output.say("\n".join("    " + line.rstrip() for line in text.split("\n")))
        if done.returncode != expect:
            raise FiduciaryError(
                f"a step of the demo ended with exit code {done.returncode} instead of {expect}: {text[-300:]}"
            )
        return done.stdout


def _shown(words: tuple[str, ...]) -> str:
    """A command line as a person would type it, long rows shortened."""
    return " ".join(
        w if len(w) <= 120 else w[:60] + "...'" if w.startswith("{") else w for w in map(shlex.quote, words)
    )
