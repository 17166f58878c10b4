"""The governance checks by name: what `_conduct.py` judges, with its kind, parameters and stages."""

from __future__ import annotations

from typing import Any

from fiduciary.checks import _conduct as do
from fiduciary.checks._check import Check, Param, table

_KINDS = {
    "kinds": Param(list, (), "kinds of document that must be on file", low=1),
    "max_age_days": Param(int, None, "oldest filing that counts, days", low=0),
}
_PROBE = {"probe": Param(str, "", "name of the suite of probes")}
_FIELDS = {"fields": Param(list, (), "fields of the use case, or attributes.NAME", low=1)}
_ALL = ("release", "watch", "evidence")
_SERVED = ("release", "serve", "watch", "evidence")


_CASE_ONLY = {
    "approval.lawful_basis",
    "inventory.fields",
    "inventory.classified",
    "refusal.residency",
    "oversight.opt_out",
}
"""Checks that read the use case document and no facts."""


def _check(
    name: str, kind: Any, run: Any, params: dict[str, Param] | None = None, stages: Any = _ALL
) -> Check:
    needs = ("use_case",) if name in _CASE_ONLY else ("facts",)
    return Check(
        name=name,
        kind=kind,
        run=run,
        params=params or {},
        stages=stages,
        needs=needs,
        source="the duty that the rule cites",
        summary=(run.__doc__ or "").strip().split("\n")[0],
    )


CHECKS = table(
    [
        _check("approval.attested", "approval", do.approval_attested, _KINDS),
        _check(
            "approval.independent",
            "approval",
            do.approval_independent,
            {"minimum": Param(int, 1, "approvals needed", low=1)},
        ),
        _check(
            "approval.change",
            "approval",
            do.approval_change,
            {"minimum": Param(int, 1, "approvals needed", low=1)},
        ),
        _check(
            "approval.findings_closed",
            "approval",
            do.approval_findings_closed,
            {"severities": Param(list, ("high", "critical"), "severities that may not be open")},
        ),
        _check("approval.overlays_current", "approval", do.approval_overlays_current),
        _check(
            "approval.review_current",
            "approval",
            do.approval_review_current,
            {
                "kind": Param(str, "review", "kind of the review's filing"),
                "max_age_days": Param(int, 365, "oldest review that counts, days", low=0),
            },
        ),
        _check(
            "approval.lawful_basis",
            "approval",
            do.approval_lawful_basis,
            {"accepted": Param(list, (), "lawful bases that are accepted", low=1)},
            _SERVED,
        ),
        _check("inventory.fields", "inventory", do.inventory_fields, _FIELDS),
        _check("inventory.complete", "inventory", do.inventory_complete, _FIELDS),
        _check("inventory.classified", "inventory", do.inventory_classified, _FIELDS),
        _check("inventory.endpoints", "inventory", do.inventory_endpoints),
        _check(
            "access.configuration",
            "access-config",
            do.access_configuration,
            {"settings": Param(list, (), "settings that must hold", low=1)},
        ),
        _check(
            "access.reviewed",
            "access-config",
            do.access_reviewed,
            {"max_age_days": Param(int, 92, "oldest review that counts, days", low=0)},
        ),
        _check("access.walled", "access-config", do.access_walled),
        _check(
            "retention.minimum",
            "retention",
            do.retention_minimum,
            {"days": Param(int, 0, "least days kept", low=0)},
            _SERVED,
        ),
        _check(
            "retention.maximum",
            "retention",
            do.retention_maximum,
            {"days": Param(int, 36_500, "most days kept", low=0)},
            _SERVED,
        ),
        _check(
            "retention.swept",
            "retention",
            do.retention_swept,
            {"max_age_days": Param(int, 31, "oldest sweep that counts, days", low=0)},
        ),
        _check("retention.erasure", "retention", do.retention_erasure),
        _check(
            "clock.within",
            "clock",
            do.clock_within,
            {
                "clock": Param(str, "", "name of the clock"),
                "limit_seconds": Param(float, None, "longest time, seconds", low=0),
            },
        ),
        _check("refusal.purpose", "refusal", do.refusal_purpose, stages=_SERVED),
        _check(
            "refusal.residency",
            "refusal",
            do.refusal_residency,
            {"regions": Param(list, (), "regions that are allowed", low=1)},
            _SERVED,
        ),
        _check("refusal.limits", "refusal", do.refusal_limits, _PROBE),
        _check("refusal.untrusted", "refusal", do.refusal_untrusted, _PROBE),
        _check(
            "document.complete",
            "document",
            do.document_complete,
            {"sections": Param(list, (), "sections that must be there", low=1)},
        ),
        _check(
            "document.provenance",
            "document",
            do.document_provenance,
            {"members": Param(list, (), "members of the provenance", low=1)},
        ),
        _check("document.attested", "document", do.document_attested, _KINDS),
        _check("oversight.human_review", "oversight", do.oversight_human_review, stages=_SERVED),
        _check("oversight.opt_out", "oversight", do.oversight_opt_out, stages=_SERVED),
        _check("oversight.contest_route", "oversight", do.oversight_contest_route),
        _check(
            "oversight.override_share",
            "oversight",
            do.oversight_override_share,
            {
                "minimum": Param(float, 0.001, "smallest share", low=0, high=1),
                "maximum": Param(float, 0.9, "largest share", low=0, high=1),
            },
        ),
        _check("oversight.reviewer_named", "oversight", do.oversight_reviewer_named),
        _check("ledger.complete", "ledger", do.ledger_complete),
        _check(
            "ledger.rebuild",
            "ledger",
            do.ledger_rebuild,
            {"minimum": Param(int, 1, "least decisions replayed", low=1)},
        ),
        _check(
            "drill.recent",
            "drill",
            do.drill_recent,
            {
                "kind": Param(str, "", "kind of drill"),
                "max_age_days": Param(int, 365, "oldest drill that counts, days", low=0),
                "max_seconds": Param(float, None, "longest time, seconds", low=0),
            },
        ),
        _check(
            "reasons.notice",
            "reason",
            do.reasons_notice,
            {
                "code": Param(str, "", "code of the notice"),
                "when": Param(str, "adverse", "after which decisions", choices=("adverse", "always")),
                "within_days": Param(int, None, "days in which it is sent", low=0),
                "letter": Param(str, "", "letter that carries it"),
            },
            _SERVED,
        ),
        _check(
            "reasons.recorded",
            "reason",
            do.reasons_recorded,
            {
                "minimum": Param(int, 1, "fewest reasons", low=0),
                "maximum": Param(int, 4, "most reasons", low=1),
            },
            _SERVED,
        ),
        _check("reasons.disclosure", "reason", do.reasons_disclosure, _PROBE),
        _check(
            "performance.monitored",
            "metric",
            do.monitors_ran,
            {"max_age_days": Param(int, 31, "longest silence, days", low=0)},
        ),
    ]
)
