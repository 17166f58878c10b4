"""An append-only log of what was decided and what happened, provable to an outsider.

Segment files are the truth; the Merkle tree (RFC 6962), its tiles and checkpoints (C2SP) and the search index
follow from them. An entry is answered only when it is durable. Payloads about a person are sealed under a key
of their own, so destroying that key erases the person and leaves every proof valid. tests/ledger, tests/crash
and tests/ledger_maths say what a user may rely on; docs/ledger.md says against whom.
"""

from fiduciary.ledger._async import AsyncAppender
from fiduciary.ledger._checkpoint import Checkpoint
from fiduciary.ledger._epoch import Epoch
from fiduciary.ledger._erase import Erasure, Hold, Retention, Sweep
from fiduciary.ledger._ledger import Head, Hit, Ledger, Record
from fiduciary.ledger._log import Log
from fiduciary.ledger._merkle import Tree
from fiduciary.ledger._proof import Proof
from fiduciary.ledger._record import Entry, Header, Kind, Receipt, decode_header, open_body
from fiduciary.ledger._tiles import Tiles
from fiduciary.ledger._vault import Vault
from fiduciary.ledger._verify import LogReport, Report
from fiduciary.ledger._witness import Outcome
from fiduciary.ledger._witness_home import WitnessHome, audit_folder, read_cosigned, read_keys

__all__ = [
    "AsyncAppender",
    "Checkpoint",
    "Entry",
    "Epoch",
    "Erasure",
    "Head",
    "Header",
    "Hit",
    "Hold",
    "Kind",
    "Ledger",
    "Log",
    "LogReport",
    "Outcome",
    "Proof",
    "Receipt",
    "Record",
    "Report",
    "Retention",
    "Sweep",
    "Tiles",
    "Tree",
    "Vault",
    "WitnessHome",
    "audit_folder",
    "decode_header",
    "open_body",
    "read_cosigned",
    "read_keys",
]
