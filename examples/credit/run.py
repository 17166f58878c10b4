"""A consumer loan under EU, GDPR and US rules: red, told why,
refused until people add what is lacking, then served, replayed and proved."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from fiduciary.cli._demo import _Story
from fiduciary.cli._output import Output

PURPOSE = "Decide on applications for consumer loans"
PACKS = ("gdpr", "eu-credit", "us-credit")
PEOPLE = (("ada", ("developer", "validator")), ("vera", ("validator",)), ("otto", ("operator",)))
FILED = {"dpia": "Data protection impact assessment", "validation-report": "Independent validation"}
USE_CASE = """name = "credit"
purpose = "Decide on applications for consumer loans"
jurisdictions = ["EU", "US"]
department = "lending"
region = "eu"
reviewers = ["credit desk"]
packs = ["gdpr", "eu-credit", "us-credit"]
sector = "banking"
subject = "natural_person"
lawful_basis = "contract"
contest_route = "credit-desk@bank.example"
oversight_person = "credit desk"
attributes = {{ kind = "credit" }}
approve_below = {approve!r}
decline_from = {decline!r}
"""


class Credit(_Story):
    def define_use_case(self) -> None:
        quantiles = json.loads((self.out / "scorecard" / "training.json").read_text())["score_quantiles"]
        file = self.out / "credit.toml"
        file.write_text(USE_CASE.format(approve=quantiles["0.6"], decline=quantiles["0.85"]))
        for pack in PACKS:
            self.run("pack", "adopt", pack, "--as", "olga")
        self.run("usecase", "define", str(file), "--as", "olga")

    def tell(self, data: Path | None = None, target: str | None = None, positive: str | None = None) -> None:
        table, contract, target = self.prepare(data, target)
        inputs = ["--target", target, *(["--positive", positive] if positive else [])]
        inputs += ["--contract", str(contract)] if contract else []
        self.title("A home, and people with keys of their own")
        self.run("init", str(self.home), "--tenant", "example-bank", "--officer", "olga", home=False)
        for name, roles in PEOPLE:
            self.run("party", "enrol", name, *[x for r in roles for x in ("--role", r)], "--as", "olga")
        self.title("A scorecard, and boosted trees that challenge it")
        for family, name in (("scorecard", "scorecard"), ("lightgbm", "trees")):
            self.run("train", family, str(table), *inputs, "--out", str(self.out / name), home=False)
        self.title("The use case, under the rules of GDPR, the EU and the US")
        self.define_use_case()
        self.title("What changes between 20 and 22 July 2026")
        days = ("--at", "2026-07-20", "--at", "2026-07-22")
        self.run("pack", "diff", "us-credit", "us-credit", *days, "--use-case", "credit")
        self.title("Built, signed, checked: red, and what is lacking")
        self.build("scorecard", table, "1")
        self.run("release", "sign", "credit@1", "--as", "ada")
        sample = ("--data", str(table), "--target", target, *(["--positive", positive] if positive else []))
        self.run("check", "credit@1", *sample, "--as", "ada", expect=11)
        self.title("Neither the author nor anybody else can approve what is red")
        self.run("release", "approve", "credit@1", "--as", "ada", expect=11)
        self.run("release", "approve", "credit@1", "--as", "vera", expect=11)
        self.title("People file what only people can write; red turns green")
        for kind, title in FILED.items():
            document = self.out / f"{kind}.md"
            document.write_text(f"# {title}\n\nA stand-in of this example: a bank files its own.\n")
            words = ("--document", str(document), "--title", title, "--use-case", "credit", "--as", "vera")
            self.run("attest", kind, *words)
        self.run("check", "credit@1", *sample, "--as", "vera")
        self.title("The author still cannot approve; a second person can, an operator promotes")
        self.run("release", "approve", "credit@1", "--as", "ada", expect=11)
        self.run("release", "approve", "credit@1", "--as", "vera")
        self.run("release", "promote", "credit@1", "--as", "otto")
        self.title("Served: without a ground for solely automated refusals, a person decides them")
        self.start_gate()
        record = self.ask(self.rows(table))
        self.run("replay", record, "--as", "vera")
        self.stop_gate()
        self.title("One folder for an outsider, verified; one byte changed, refused")
        folder = self.out / "evidence"
        period = ("--use-case", "credit", "--since", "2020-01-01")
        self.run("evidence", *period, "--out", str(folder), "--as", "olga")
        self.python(folder / "verify.py", expect=0)
        self.flip(folder / "decisions.jsonl", folder / "tampered")
        self.python(self.out / "tampered" / "verify.py", expect=1)
        self.output.say(f"\nDone. The home is {self.home}, the evidence {folder}.")

    def ask(self, rows: list[dict[str, Any]]) -> str:
        """Ask for the applicants one page at a time; show one that the rules sent to a person in full."""
        from fiduciary.cli._decide import ask

        asked = [{"subject": f"applicant-{i}", "features": row} for i, row in enumerate(rows)]
        body = {"use_case": "credit", "purpose": PURPOSE, "rows": asked}
        decisions = ask(self.url, self.token, body)["decisions"]
        for outcome in ("approve", "refer", "decline"):
            self.output.say(f"  {outcome}: {sum(d['outcome'] == outcome for d in decisions)}")
        shown = next((d for d in decisions if d.get("referred_by")), decisions[0])
        self.output.say(json.dumps(shown, indent=2))
        return str(shown.get("record") or shown["id"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="CSV or Parquet (default: generated)")
    parser.add_argument("--target", help="column of DATA that holds the outcome")
    parser.add_argument("--positive", help="the target's value that is the bad outcome")
    parser.add_argument("--out", type=Path, default=Path("example-credit"))
    options = parser.parse_args()
    if (options.data is None) != (options.target is None):
        parser.error("--data and --target go together")
    if options.data is not None and not options.data.is_file():
        parser.error(f"there is no file {options.data}")
    out = options.out.absolute()
    if out.exists():
        if not (out / ".fiduciary-example").exists():
            parser.error(f"{options.out} exists and is not an earlier example; choose another --out")
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / ".fiduciary-example").touch()
    story = Credit(Output(), out)
    try:
        story.tell(options.data, options.target, options.positive)
    finally:
        story.stop_gate()


if __name__ == "__main__":
    main()
