"""Releases: immutable signed bundles, and who approved, promoted, stopped and retired them.

A bundle is named by the digest of its manifest and verified whole before it is used (`read_bundle`). What may
answer is a fold of signed events on the control log (`Projection`), never a flag in a table: author and approver
differ by person and by key, and what was live at any moment has one answer. Formats: docs/formats/release.md
(DSSE, RFC 8785, OpenSSF model signing v1.0). Attacks that must fail: tests/attacks/test_releases.py.
"""

from fiduciary.registry._build import approved_rows, build, sign
from fiduciary.registry._bundle import (
    Bundle,
    File,
    Manifest,
    digest_hex,
    digest_text,
    read_bundle,
    read_manifest,
)
from fiduciary.registry._canonical import canonical
from fiduciary.registry._checks import release_checks
from fiduciary.registry._dsse import RELEASE_TYPE, open_envelope, pae, sign_envelope
from fiduciary.registry._import import Imported, import_model
from fiduciary.registry._judging import day, day_start
from fiduciary.registry._load import LoadedRelease, load_bundle
from fiduciary.registry._oversight import REVIEW_TYPE, review_statement
from fiduciary.registry._projection import Projection
from fiduciary.registry._reference import Histogram, Reference
from fiduciary.registry._registry import REFUSED, Registry
from fiduciary.registry._rules import RULES
from fiduciary.registry._signing_export import export_model_signing
from fiduciary.registry._state import (
    Adopted,
    Anomaly,
    Approval,
    Attestation,
    Book,
    CheckRun,
    Enrolment,
    Finding,
    Mark,
    Overlay,
    Party,
    Release,
    State,
    Use,
    Waiver,
)
from fiduciary.registry._statements import make_statement, sign_statement, statement_bytes, statement_holds
from fiduciary.registry._use_case import UseCase, read_use_case

__all__ = [
    "REFUSED",
    "RELEASE_TYPE",
    "REVIEW_TYPE",
    "RULES",
    "Adopted",
    "Anomaly",
    "Approval",
    "Attestation",
    "Book",
    "Bundle",
    "CheckRun",
    "Enrolment",
    "File",
    "Finding",
    "Histogram",
    "Imported",
    "LoadedRelease",
    "Manifest",
    "Mark",
    "Overlay",
    "Party",
    "Projection",
    "Reference",
    "Registry",
    "Release",
    "State",
    "Use",
    "UseCase",
    "Waiver",
    "approved_rows",
    "build",
    "canonical",
    "day",
    "day_start",
    "digest_hex",
    "digest_text",
    "export_model_signing",
    "import_model",
    "load_bundle",
    "make_statement",
    "open_envelope",
    "pae",
    "read_bundle",
    "read_manifest",
    "read_use_case",
    "release_checks",
    "review_statement",
    "sign",
    "sign_envelope",
    "sign_statement",
    "statement_bytes",
    "statement_holds",
]
