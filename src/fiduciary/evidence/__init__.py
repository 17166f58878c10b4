"""Evidence: a folder cut from the ledger that an outsider verifies and replays with no install and no network.

`cut` writes it; the verifier that travels in it is `_verify_folder.py`, one file of the standard library, so
that an outsider can read what checks the bank's word. tests/evidence breaks a folder in every way and
expects it to be refused.
"""

from fiduciary.evidence._audit import AuditReport, audit
from fiduciary.evidence._audit_sheets import audit_html, exceptions_csv, sample_csv
from fiduciary.evidence._cut import Scope, cut
from fiduciary.evidence._verify_folder import Report, Verifier

__all__ = [
    "AuditReport",
    "Report",
    "Scope",
    "Verifier",
    "audit",
    "audit_html",
    "cut",
    "exceptions_csv",
    "sample_csv",
]
