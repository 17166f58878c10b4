"""`fiduciary release`: build, sign, approve, promote, stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from fiduciary.cli._home import Home, acting, short, with_home
from fiduciary.cli._output import Output
from fiduciary.errors import ReleaseError, UsageError


@click.group()
def release() -> None:
    """Build, sign, approve, promote, suspend releases."""


@release.command("import")
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--contract",
    type=click.Path(path_type=Path, exists=True),
    required=True,
    help="The feature contract (JSON).",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to make.")
@click.pass_obj
def import_(output: Output, source: Path, contract: Path, out: Path) -> None:
    """Bring in SOURCE: LightGBM text, XGBoost JSON, ONNX, EBM JSON, or an MLflow model directory."""
    from fiduciary.models import Contract
    from fiduciary.registry import import_model

    terms = Contract.load(contract)
    if out.exists():
        raise UsageError(f"{out} exists already; import into a new folder")
    out.mkdir(parents=True)
    imported = import_model(source, terms, out / "model")
    (out / "contract.json").write_bytes(terms.to_json())
    output.result(
        {"folder": str(out), "family": imported.family},
        f"{source.name} is a {imported.family} model, checked and copied to {out / 'model'}",
    )


@release.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--use-case", required=True, help="The use case it is made for.")
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="The development table (CSV, Parquet)."
)
@click.option("--name", required=True, help="Name of the release, such as credit.")
@click.option("--version", required=True, help="Its version, such as 1.")
@with_home
def build(
    output: Output, home: Home, folder: Path, use_case: str, data: Path, name: str, version: str
) -> None:
    """Build a bundle from FOLDER (a `train` or `import` result): contract, model, baseline, reference, card."""
    from fiduciary.models import Contract, read_table
    from fiduciary.registry import build as build_bundle
    from fiduciary.registry import digest_text

    contract = Contract.load(folder / "contract.json")
    columns = read_table(data, contract)
    rows = contract.compile().table(columns, ignore_unknown=True)
    provenance: dict[str, Any] = {
        "data": {"file": data.name, "rows": len(rows), "sha256": digest_text(data.read_bytes())}
    }
    training = folder / "training.json"
    if training.is_file():
        provenance["training"] = msgspec.json.decode(training.read_bytes())
    bundle = build_bundle(
        home.drafts,
        folder / "model",
        contract,
        home.registry.states().use(use_case).use_case,
        rows,
        name=name,
        version=version,
        provenance=provenance,
    )
    digest = f"sha256:{bundle.name}"
    output.result(
        {"release": digest, "folder": str(bundle)},
        f"{name}@{version} is built: {digest}\nRead {bundle / 'card.md'}, then sign it: "
        f"fiduciary release sign {name}@{version} --as YOU",
    )


@release.command()
@click.argument("reference")
@click.option("--note", default="", help="A word to the validator.")
@acting
@with_home
def sign(output: Output, home: Home, reference: str, note: str, party: str) -> None:
    """Sign a bundle as its author, propose it, and run the release checks."""
    digest = home.digest(reference)
    state = home.registry.states()
    key = home.key(party)
    if digest not in state.releases:
        home.registry.propose(home.drafts / digest[7:], by=party, key=key, note=note)
    results = home.registry.check(digest, by=party, key=key)
    green = all(r["ok"] or r.get("severity") == "warn" for r in results)
    if output.as_json:
        output.json({"release": digest, "green": green, "checks": results})
    else:
        rows = [
            ("ok" if r["ok"] else r.get("severity", "block"), r["name"], r.get("detail", "")) for r in results
        ]
        output.table(["", "check", ""], rows, title=f"{reference} is signed and proposed; its checks:")
    if not green:
        raise ReleaseError("a check is not green, so the release cannot be approved")


@release.command()
@click.argument("reference")
@click.option("--note", default="", help="What was challenged, and how it held.")
@acting
@with_home
def approve(output: Output, home: Home, reference: str, note: str, party: str) -> None:
    """Approve exactly this release. Not for its author, by name or by key."""
    digest = home.digest(reference)
    receipt = home.registry.approve(digest, by=party, key=home.key(party), note=note)
    output.result(
        {"release": digest, "record": receipt.id}, f"{reference} is approved by {party} ({receipt.id})"
    )


@release.command()
@click.argument("reference")
@click.option("--reason", required=True, help="Why, in plain words.")
@acting
@with_home
def reject(output: Output, home: Home, reference: str, reason: str, party: str) -> None:
    """Refuse a release for good, or withdraw your own."""
    _stop(output, home, "reject", reference, reason, party)


@release.command()
@click.argument("reference")
@click.option("--note", default="", help="Why now.")
@acting
@with_home
def promote(output: Output, home: Home, reference: str, note: str, party: str) -> None:
    """Make an approved release the one that answers for its use case."""
    digest = home.digest(reference)
    receipt = home.registry.promote(digest, by=party, key=home.key(party), note=note)
    output.result({"release": digest, "record": receipt.id}, f"{reference} is live ({receipt.id})")


@release.command()
@click.argument("reference")
@click.option("--reason", required=True, help="Why, in plain words.")
@acting
@with_home
def suspend(output: Output, home: Home, reference: str, reason: str, party: str) -> None:
    """The stop button: obeyed by the next answer of every process."""
    home.require(party, "suspend_release", "Release")
    _stop(output, home, "suspend", reference, reason, party)


@release.command()
@click.argument("reference")
@click.option("--reason", required=True, help="Why, in plain words.")
@acting
@with_home
def resume(output: Output, home: Home, reference: str, reason: str, party: str) -> None:
    """End a suspension."""
    _stop(output, home, "resume", reference, reason, party)


@release.command()
@click.argument("reference")
@click.option("--reason", required=True, help="Why, in plain words.")
@acting
@with_home
def retire(output: Output, home: Home, reference: str, reason: str, party: str) -> None:
    """End a release for good; what it decided can still be replayed."""
    _stop(output, home, "retire", reference, reason, party)


@release.command()
@click.argument("use_case")
@click.option("--reason", required=True, help="Why, in plain words.")
@acting
@with_home
def rollback(output: Output, home: Home, use_case: str, reason: str, party: str) -> None:
    """Go back to the release of USE_CASE that was live before and is still approved."""
    digest = home.registry.rollback(use_case, by=party, key=home.key(party), reason=reason)
    output.result(
        {"use_case": use_case, "release": digest}, f"{use_case} is answered by {short(digest)} again"
    )


@release.command()
@click.argument("reference")
@with_home
def verify(output: Output, home: Home, reference: str) -> None:
    """Check a release's files, signatures and approvals again."""
    digest = home.digest(reference)
    bundle = home.registry.verify(digest)
    output.result(
        {"release": digest, "files": len(bundle.files), "state": home.registry.states().state(digest)},
        f"{reference} holds: {len(bundle.files)} files, {len(bundle.signatures)} signature(s), "
        f"{home.registry.states().state(digest)}",
    )


@release.command()
@click.argument("reference")
@with_home
def card(output: Output, home: Home, reference: str) -> None:
    """Print a release's model card."""
    digest = home.digest(reference)
    folder = home.registry.release_dir(digest)
    text = ((folder if folder.is_dir() else home.drafts / digest[7:]) / "card.md").read_text("utf-8")
    output.result({"release": digest, "card": text}, text)


@release.command()
@click.argument("reference")
@click.option("--key", "party", required=True, help="The party that signs; its key lies in keys/parties.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write.")
@with_home
def export(output: Output, home: Home, reference: str, party: str, out: Path) -> None:
    """Write an OpenSSF Model Signing bundle of a release, for tools that know that format."""
    from fiduciary.registry import export_model_signing

    digest = home.digest(reference)
    home.registry.verify(digest)
    export_model_signing(home.registry.release_dir(digest), home.key(party), out)
    output.result({"release": digest, "file": str(out)}, f"{reference} is signed by {party} in {out}")


_DONE = {"reject": "rejected", "suspend": "suspended", "resume": "resumed", "retire": "retired"}


def _stop(output: Output, home: Home, verb: str, reference: str, reason: str, party: str) -> None:
    digest = home.digest(reference)
    receipt = getattr(home.registry, verb)(digest, by=party, key=home.key(party), reason=reason)
    output.result({"release": digest, "record": receipt.id}, f"{reference} is {_DONE[verb]} ({receipt.id})")
