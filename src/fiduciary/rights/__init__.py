"""What a person may ask of a bank that decides about them by machine, and what the bank owes on time.

Contests and human decisions, incidents and their clocks, access, portability and erasure, what would have changed
the result, and letters from one recorded trace. docs/rights.md has the matrix of who wins; docs/letters.md the
templates.
"""

from fiduciary.rights._access import access_file, page, portable, portable_csv
from fiduciary.rights._calendar import due, span, when
from fiduciary.rights._clocks import Clock, clocks, with_rights
from fiduciary.rights._counterfactual import Change, Counterfactual, counterfactual
from fiduciary.rights._desk import DEFAULT_LIMIT, INCIDENT_LIMITS, OUTCOMES, REQUESTS, Desk
from fiduciary.rights._drill import KINDS, Stopped, drill_stop, record_drill
from fiduciary.rights._letter import (
    Letter,
    Letters,
    Words,
    check_folder,
    date_text,
    find_pack,
    read_words,
    write_folder,
)
from fiduciary.rights._register import (
    Contest,
    Incident,
    Issued,
    Override,
    Register,
    Request,
    Step,
    register,
)
from fiduciary.rights._template import Template, load_template, render, shipped_template

__all__ = [
    "DEFAULT_LIMIT",
    "INCIDENT_LIMITS",
    "KINDS",
    "OUTCOMES",
    "REQUESTS",
    "Change",
    "Clock",
    "Contest",
    "Counterfactual",
    "Desk",
    "Incident",
    "Issued",
    "Letter",
    "Letters",
    "Override",
    "Register",
    "Request",
    "Step",
    "Stopped",
    "Template",
    "Words",
    "access_file",
    "check_folder",
    "clocks",
    "counterfactual",
    "date_text",
    "drill_stop",
    "due",
    "find_pack",
    "load_template",
    "page",
    "portable",
    "portable_csv",
    "read_words",
    "record_drill",
    "register",
    "render",
    "shipped_template",
    "span",
    "when",
    "with_rights",
    "write_folder",
]
