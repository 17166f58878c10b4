"""Two homes vouch for each other's logs; a rollback and a fork of one are refused by the other, and visible."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fiduciary.cli import main
from fiduciary.config import Settings
from fiduciary.ledger import Ledger
from fiduciary.ledger._keys import KeyType, Signer
from ledger_home import decision

LEDGER = """
[ledger]
segment_bytes = 131072
max_payload_bytes = 16384
disk_reserve_bytes = 1048576
publish_interval_s = 0.02
"""
LOGS = ("control", "gate-0")


class Bank:
    """A home, driven by its commands."""

    def __init__(self, folder: Path, tenant: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.path, self.tenant, self._capsys = folder, tenant, capsys
        assert self.run("init", str(folder), "--tenant", tenant, home=False)[0] == 0
        with (folder / "fiduciary.toml").open("a") as file:
            file.write(LEDGER)

    def run(self, *words: str, home: bool = True) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as done:
            main([*(["--home", str(self.path)] if home else []), *words])
        out, err = self._capsys.readouterr()
        assert "Traceback" not in err
        return int(done.value.code or 0), out, err

    def ok(self, *words: str) -> str:
        code, out, err = self.run(*words)
        assert code == 0, out + err
        return out

    def grow(self, count: int, person: str = "anna") -> None:
        with Ledger.open(Settings.load(self.path)) as ledger:
            log = ledger.shard("gate-0")
            for future in [log.append(decision(ledger, person, k)) for k in range(count)]:
                future.result(10)

    def log(self, name: str = "gate-0") -> Path:
        return self.path / "ledger" / name

    def size(self, name: str = "gate-0", file: str = "checkpoint") -> int:
        return int((self.log(name) / file).read_text().split("\n")[1])


class Pair:
    """Two banks with an exchange folder each way."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.a, self.b = Bank(folder / "a", "acme", capsys), Bank(folder / "b", "bravo", capsys)
        for bank in (self.a, self.b):
            bank.grow(20)
        for bank, other in ((self.a, self.b), (self.b, self.a)):
            keys = folder / f"{other.tenant}.keys"
            keys.write_text("# published\n" + other.ok("ledger", "keys"))
            bank.ok("witness", "trust", f"@{keys}")
            bank.ok("witness", "accept", *other.ok("witness", "key").split())

    def post(self, asking: Bank) -> tuple[int, str, str]:
        return asking.run("witness", "post", "--to", str(self.folder / f"ask-{asking.tenant}"))

    def serve(self, asking: Bank) -> tuple[int, str, str]:
        serving = self.b if asking is self.a else self.a
        asked, answered = (str(self.folder / f"{what}-{asking.tenant}") for what in ("ask", "answer"))
        return serving.run("witness", "serve", "--in", asked, "--out", answered)

    def collect(self, asking: Bank) -> tuple[int, str, str]:
        return asking.run("witness", "collect", "--from", str(self.folder / f"answer-{asking.tenant}"))

    def round(self, asking: Bank) -> list[int]:
        return [self.post(asking)[0], self.serve(asking)[0], self.collect(asking)[0]]


@pytest.fixture
def pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Pair:
    return Pair(tmp_path, capsys)


def restore(bank: Bank, backup: Path) -> None:
    shutil.rmtree(bank.path)
    shutil.copytree(backup, bank.path)


def test_two_homes_vouch_for_each_other_and_an_outsider_checks_it(pair: Pair) -> None:
    for _ in range(2):
        for bank in (pair.a, pair.b):
            bank.grow(7)
            assert pair.round(bank) == [0, 0, 0]
            for name in LOGS:
                assert bank.size(name, "cosigned") == bank.size(name) > 1
    assert not [p for p in pair.folder.glob("a*-*/*") if p.is_file()], "nothing is left lying about"
    pair.a.grow(300)  # past a whole tile; the cosigned head outlives the checkpoint
    assert pair.a.size("gate-0", "cosigned") == 34 < pair.a.size() == 334
    assert "everything holds" in pair.a.ok("ledger", "verify")

    copy = pair.folder / "copy"
    shutil.copytree(pair.a.log(), copy, ignore=shutil.ignore_patterns("segments", "index*", "lock"))
    assert {path.name for path in copy.iterdir()} == {"checkpoint", "cosigned", "tile"}
    (keys := pair.folder / "gate-0.keys").write_text(
        "\n".join(line for line in pair.a.ok("ledger", "keys").split() if "/gate-0+" in line)
    )
    witness = pair.b.ok("witness", "key").split()
    given = ["--log-key", f"@{keys}", *(word for key in witness for word in ("--witness", key))]
    code, out, _ = pair.a.run("ledger", "audit", str(copy), *given, "--json", home=False)
    assert code == 0
    assert json.loads(out) | {"root": ""} == {
        "origin": "acme.eu/gate-0",
        "size": 334,
        "root": "",
        "witnessed": 34,
    }
    stranger = pair.a.ok("witness", "key").split()
    assert pair.a.run("ledger", "audit", str(copy), *given, "--witness", stranger[0], home=False)[0] == 14
    (copy / "cosigned").unlink()
    assert pair.a.run("ledger", "audit", str(copy), *given, home=False)[0] == 5


def test_a_rollback_from_a_backup_is_refused_and_visible(pair: Pair) -> None:
    backup = pair.folder / "backup"
    shutil.copytree(pair.a.path, backup)
    pair.a.grow(10)
    assert pair.round(pair.a) == [0, 0, 0]

    restore(pair.a, backup)
    assert "everything holds" in pair.a.ok("ledger", "verify"), "a home cannot tell by itself"
    assert pair.post(pair.a)[0] == 0, "it has forgotten that it asked"
    code, out, err = pair.serve(pair.a)
    assert code == 14
    refused = [line for line in out.splitlines() if line.startswith("REFUSED")]
    assert refused == [
        "REFUSED  acme.eu/control: conflict: the last cosigned checkpoint has size 2, not 0",
        "REFUSED  acme.eu/gate-0: rollback: the last cosigned checkpoint has size 30, not 0, and the log offers 20",
    ]
    assert "1 log(s) contradict what this home cosigned before" in err
    code, out, _ = pair.collect(pair.a)
    assert code == 14
    assert "acme.eu/gate-0: the witness refused: rollback" in out
    assert "the log was rolled back" in out
    code, out, _ = pair.post(pair.a)  # from now on it knows, before it asks
    assert code == 14
    assert "has cosigned 30 entries of acme.eu/gate-0, here are only 20" in out

    code, out, _ = pair.a.run("ledger", "verify")  # the refusal brought the head that both had signed
    assert code == 14
    assert "holds 20 records, but 30 were published" in out


def test_a_fork_is_refused_whatever_its_size_and_two_heads_of_one_size_are_kept(pair: Pair) -> None:
    backup = pair.folder / "backup"
    shutil.copytree(pair.a.path, backup)
    pair.a.grow(10)
    assert pair.round(pair.a) == [0, 0, 0]

    restore(pair.a, backup)
    pair.a.grow(10, "berta")  # another history of the same length
    assert pair.post(pair.a)[0] == 0
    code, out, _ = pair.serve(pair.a)
    assert code == 14
    assert "acme.eu/gate-0: fork: the log has signed two different trees of 30 leaves" in out
    code, out, _ = pair.collect(pair.a)
    assert code == 14
    assert "first 30 entries are not those that were cosigned" in out
    evidence = sorted((pair.b.path / "witness" / "state" / "evidence").iterdir())
    assert len(evidence) == 2
    first, second = (path.read_text().split("\n") for path in evidence)
    assert first[:2] == second[:2] == ["acme.eu/gate-0", "30"]
    assert first[2] != second[2]

    pair.a.grow(9, "berta")  # a longer one: there is no proof that leads from the cosigned tree to it
    assert pair.post(pair.a)[0] == 0
    code, out, _ = pair.serve(pair.a)
    assert code == 14
    assert "acme.eu/gate-0: inconsistent: " in out
    assert pair.collect(pair.a)[0] == 14

    assert "records do not have the root that was published over 30" in pair.a.run("ledger", "verify")[1]
    key = [line for line in pair.a.ok("ledger", "keys").split() if "/gate-0+" in line]
    given = [word for text in key for word in ("--log-key", text)]
    code, _, err = pair.a.run("ledger", "audit", str(pair.a.log()), *given)
    assert code == 14
    assert "first 30 entries are not those" in err


def test_a_lost_place_is_found_again_by_asking_once_more(pair: Pair) -> None:
    assert pair.round(pair.a) == [0, 0, 0]
    shutil.rmtree(pair.a.path / "witness" / "asked")
    pair.a.grow(5)
    assert pair.post(pair.a)[0] == 0
    assert pair.serve(pair.a)[0] == 6, "an order of events, no alarm"
    code, out, _ = pair.collect(pair.a)
    assert code == 6
    assert "post again" in out
    assert pair.round(pair.a) == [0, 0, 0]
    assert pair.a.size("gate-0", "cosigned") == 25


def test_a_witness_that_forgot_is_noticed(pair: Pair) -> None:
    assert pair.round(pair.a) == [0, 0, 0]
    shutil.copytree(pair.b.path, pair.folder / "backup")
    pair.a.grow(5)
    assert pair.round(pair.a) == [0, 0, 0]
    restore(pair.b, pair.folder / "backup")
    pair.a.grow(5)
    pair.post(pair.a)
    assert pair.serve(pair.a)[0] == 6
    code, out, _ = pair.collect(pair.a)
    assert code == 6
    assert "it had answered up to 25 already, so the witness was put back" in out
    assert pair.round(pair.a) == [0, 0, 0]
    assert pair.a.size("gate-0", "cosigned") == 30


def test_a_forged_refusal_is_not_believed(pair: Pair) -> None:
    """Whoever can write into the folder can delay a witness; he cannot make a log look rolled back."""
    assert pair.round(pair.a) == [0, 0, 0]
    pair.a.grow(5)
    pair.post(pair.a)
    state = pair.b.path / "witness" / "state"
    stolen = next(p.read_bytes() for p in state.glob("*.checkpoint") if b"gate-0\n20\n" in p.read_bytes())
    name = next(p.stem for p in state.glob("*.checkpoint") if b"gate-0\n20\n" in p.read_bytes())
    forged = pair.folder / "answer-acme" / f"{name}.refusal"
    for head in (b"", stolen.replace(b"\n20\n", b"\n9000\n"), stolen[:-200], b"\xff\n\n"):
        forged.write_bytes(b"size 9000\nrollback: \x1b[2Jyou have lost records\n\n" + head)
        code, out, _ = pair.collect(pair.a)
        assert code == 6
        assert "\x1b" not in out
    assert pair.round(pair.a) == [0, 0, 0]
    assert pair.a.size("gate-0", "cosigned") == 25
    assert "everything holds" in pair.a.ok("ledger", "verify")


def test_an_answer_to_another_request_or_by_another_witness_is_not_taken(pair: Pair) -> None:
    pair.post(pair.a)
    pair.serve(pair.a)
    pair.a.grow(5)
    pair.post(pair.a)  # in the meantime: the answer on its way is to the request before
    code, out, _ = pair.collect(pair.a)
    assert code == 14
    assert "is not bravo.eu/witness's to the request posted last" in out
    assert not (pair.a.log() / "cosigned").exists()
    assert (pair.a.log("control") / "cosigned").exists(), "that head had not changed"
    assert [pair.serve(pair.a)[0], pair.collect(pair.a)[0]] == [6, 6]
    assert pair.round(pair.a) == [0, 0, 0], "and in the end they agree"


def test_a_stranger_s_cosignature_is_not_taken(pair: Pair) -> None:
    pair.post(pair.a)
    pair.serve(pair.a)
    for path in (pair.folder / "answer-acme").glob("*.answer"):
        path.write_text(path.read_text().replace("bravo.eu/", "rogue.eu/"))
    code, out, _ = pair.collect(pair.a)
    assert code == 14
    assert out.count("not signed by a known key") == 2
    assert not list((pair.a.path / "ledger").glob("*/cosigned"))


def test_what_is_not_trusted_is_refused(pair: Pair) -> None:
    own = pair.a.ok("ledger", "keys").split()
    code, _, err = pair.a.run("witness", "trust", *own)
    assert code == 2
    assert "a witness only helps if someone else runs it" in err
    assert pair.a.run("witness", "accept", *pair.a.ok("witness", "key").split())[0] == 2
    assert pair.a.run("witness", "trust", pair.b.ok("witness", "key").split()[0])[0] == 2, "not a log's type"
    assert pair.a.run("witness", "post", "--to", str(pair.folder / "x"), "--witness", "nobody")[0] == 5
    logs = pair.b.path / "witness" / "logs"
    kept = [line for line in logs.read_text().splitlines() if "/control+" in line]
    logs.write_text("\n".join(kept) + "\n")
    pair.post(pair.a)
    code, out, _ = pair.serve(pair.a)
    assert code == 6
    assert "does not know the log 'acme.eu/gate-0'" in out
    assert "cosigned  acme.eu/control" in out
    assert pair.collect(pair.a)[0] == 6
    other = pair.a.ok("ledger", "keys").split()[0].split("+")[0]
    forged = pair.folder / "forged"
    forged.write_text(Signer.generate(other, KeyType.ED25519).verifier.encode())
    code, _, err = pair.b.run("witness", "trust", f"@{forged}")
    assert code == 6
    assert "take that line out" in err


def test_the_witness_keys_are_secret_made_once_and_not_at_init(pair: Pair, tmp_path: Path) -> None:
    files = sorted((pair.a.path / "keys").glob("witness.*"))
    assert [path.name for path in files] == ["witness.ed25519", "witness.mldsa44"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    assert pair.a.ok("witness", "key") == pair.a.ok("witness", "key")
    assert "PRIVATE" not in pair.a.ok("witness", "key") + pair.a.ok("ledger", "keys")
    fresh = pair.folder / "fresh"
    assert pair.a.run("init", str(fresh), "--tenant", "carol", home=False)[0] == 0
    assert not list((fresh / "keys").glob("witness.*"))
    code, _, err = pair.a.run(
        "--home", str(fresh), "witness", "serve", "--in", str(fresh), "--out", str(fresh), home=False
    )
    assert code == 5
    assert "trusts no log yet" in err
