"""What a person may ask of a bank that decides about them by machine, and what the bank owes on time.

Contests and human decisions, incidents and their clocks, access, portability and erasure, what would have changed
the result, and letters from one recorded trace. docs/rights.md has the matrix of who wins; docs/letters.md the
templates.
"""

from fiduciary.rights._calendar import due, span, when
from fiduciary.rights._counterfactual import Change, Counterfactual, counterfactual
from fiduciary.rights._desk import DEFAULT_LIMIT, OUTCOMES, REQUESTS, Desk
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

__all__ = [
    "DEFAULT_LIMIT",
    "OUTCOMES",
    "REQUESTS",
    "Change",
    "Contest",
    "Counterfactual",
    "Desk",
    "Incident",
    "Issued",
    "Override",
    "Register",
    "Request",
    "Step",
    "counterfactual",
    "due",
    "register",
    "span",
    "when",
]
