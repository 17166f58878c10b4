"""Documentation is tested: whatever a person can set, call, meet or scrape has an entry."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest

from fiduciary.cli._main import COMMANDS, root
from fiduciary.config import Settings
from fiduciary.errors import every_error

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def every_setting(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(struct):
        kind = field.type
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            yield from every_setting(kind, f"{prefix}{field.name}.")
        elif field.name != "home":
            yield prefix + field.name


def every_command(group: click.Group, path: str = "fiduciary") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from every_command(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def test_every_setting_has_an_entry() -> None:
    text = (DOCS / "settings.md").read_text()
    missing = [name for name in every_setting(Settings) if f"`{name}`" not in text]
    assert not missing


def test_every_error_has_an_entry_with_its_status_and_exit_code() -> None:
    rows = {}
    for line in (DOCS / "errors.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) > 4 and cells[1].startswith("`"):
            rows[cells[1].strip("`")] = (cells[2], cells[3])
    assert rows == {e.kind: (str(e.status), str(e.exit_code)) for e in every_error()}


def test_every_command_has_an_entry_and_every_command_has_help() -> None:
    text = (DOCS / "cli.md").read_text()
    assert isinstance(root, click.Group)
    for path, command in every_command(root):
        assert f"`{path}`" in text, path
        assert command.help or command.short_help, path
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden and parameter.name != "help":
                assert parameter.help, f"{path} {parameter.opts}"


def test_every_command_module_exists() -> None:
    context = click.Context(root)
    assert isinstance(root, click.Group)
    assert all(root.get_command(context, name) is not None for name in COMMANDS)


@pytest.mark.parametrize("page", sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")]), ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_product_speaks_of_itself_alone() -> None:
    """No machine path, no index address, no resolved download in anything that is tracked."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    forbidden = re.compile(
        rb"/wo"
        rb"rk/[a-z.]|/ro"
        rb"ot/|--(extra-)?index-"
        rb"url[ =]|--find-"
        rb"links[ =]|\"resolved\": *\"https?://"
    )
    offenders = []
    for name in listed.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file() and forbidden.search(path.read_bytes()):
            offenders.append(name)
    assert not offenders


def test_every_metric_has_an_entry() -> None:
    source = (ROOT / "src" / "fiduciary" / "gate" / "_metrics.py").read_text()
    names = set(re.findall(r'"(fiduciary_[a-z_]+)"', source))
    assert len(names) > 5
    text = (DOCS / "operations.md").read_text()
    assert not [name for name in names if name not in text]


def test_every_endpoint_has_an_entry() -> None:
    from fiduciary.gate._openapi import openapi

    text = (DOCS / "api.md").read_text() + (DOCS / "open-inference.md").read_text()
    paths = openapi()["paths"]
    assert "/v1/decisions" in paths
    assert not [path for path in paths if path not in text]


def test_every_release_check_has_an_entry() -> None:
    source = (ROOT / "src" / "fiduciary" / "registry" / "_checks.py").read_text()
    names = set(re.findall(r'_result\(\s*"([a-z_]+)"', source))
    assert len(names) > 4
    text = (DOCS / "releases.md").read_text()
    assert not [name for name in names if name not in text]


def test_every_check_has_an_entry_with_its_unit_parameters_and_source() -> None:
    from fiduciary.checks import CATALOGUE

    rows = {}
    for line in (DOCS / "checks.md").read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]
        if len(cells) > 7 and cells[1].startswith("`"):
            rows[cells[1].strip("`")] = cells
    assert set(rows) == set(CATALOGUE)
    for name, check in CATALOGUE.items():
        _, _, computes, unit, params, passes, source, *_ = rows[name]
        assert computes and passes and source, name
        assert unit == (check.unit or "none"), name
        assert set(re.findall(r"`(\w+)` ", params)) == set(check.params), name
