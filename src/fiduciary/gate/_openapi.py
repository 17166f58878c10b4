"""The pages behind the hot routes: the OpenAPI document, a page to read it by, and single records for readers."""

from __future__ import annotations

import asyncio
import html
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from fiduciary import __version__
from fiduciary.errors import FiduciaryError, NotFoundError, every_error
from fiduciary.gate import _limits as limits
from fiduciary.gate._asgi import Asgi
from fiduciary.gate._http import PROBLEM
from fiduciary.gate._native import moment
from fiduciary.identity import Authenticator, Authorizer, Resource
from fiduciary.ledger import Kind, Ledger, Record
from fiduciary.registry import Registry

_encode = msgspec.json.Encoder().encode

STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code,pre{background:#f4f4f4}th,td{text-align:left;padding:.2rem .8rem .2rem 0;vertical-align:top}"
)
POLICY = (
    "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 document of the native door."""
    text = {"type": "string"}
    number = {"type": "number"}
    subject = {
        "type": "string",
        "minLength": 1,
        "maxLength": limits.MAX_SUBJECT,
        "description": "Who is decided about; the record is sealed under this subject's key.",
    }
    features = {
        "type": "object",
        "description": "One value for each feature of the live release's contract, and nothing else.",
        "additionalProperties": True,
    }
    purpose = {
        "type": "string",
        "minLength": 1,
        "maxLength": limits.MAX_PURPOSE,
        "description": "What it is asked for: the use case's name or purpose. Some rules require it.",
    }
    asked = {
        "consent": {
            "type": "string",
            "minLength": 1,
            "maxLength": limits.MAX_CONSENT,
            "description": "Your reference to the subject's consent, where the lawful basis is consent.",
        },
        "region": {
            "type": "string",
            "minLength": 1,
            "maxLength": limits.MAX_REGION,
            "description": "Where the subject is, such as us-nj.",
        },
        "opted_out": {
            "type": "boolean",
            "description": "The subject does not want to be decided about by a machine alone: a person decides.",
        },
    }
    notice = {
        "type": "object",
        "required": ["code", "rule"],
        "properties": {
            "code": text,
            "rule": text,
            "within_days": {"type": "integer", "description": "Days from the decision; none: with it."},
        },
    }
    reason = {
        "type": "object",
        "required": ["code", "text", "contribution"],
        "properties": {"code": text, "text": text, "contribution": number},
    }
    decision = {
        "type": "object",
        "required": [
            "id",
            "outcome",
            "score",
            "margin",
            "baseline",
            "reasons",
            "release",
            "use_case",
            "ledger",
        ],
        "properties": {
            "id": {"type": "string", "description": "The record's name, such as gate-0.1729."},
            "outcome": {"enum": ["approve", "refer", "decline"]},
            "score": {"type": "number", "description": "Probability, or value, that the cut-offs compare."},
            "margin": {"type": "number", "description": "The additive scale on which reasons add up."},
            "baseline": {"type": "number", "description": "Mean margin of the approved population."},
            "reasons": {"type": "array", "items": {"$ref": "#/components/schemas/Reason"}},
            "release": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
            "use_case": text,
            "rulebook": {
                "type": "string",
                "description": "Digest of the rules in force; only where the use case names rule packs.",
            },
            "referred_by": {
                "type": "string",
                "description": "The rule that gave the decision to a person; only where one did.",
            },
            "human": {"type": "string", "description": "Who is to decide what a rule has referred."},
            "notices": {
                "type": "array",
                "items": {"$ref": "#/components/schemas/Notice"},
                "description": "What must be told to the subject; only where a rule asks for it.",
            },
            "ledger": {
                "type": "object",
                "required": ["log", "index", "time"],
                "properties": {
                    "log": text,
                    "index": {"type": "integer"},
                    "time": {"type": "string", "format": "date-time"},
                },
            },
        },
    }
    row = {
        "type": "object",
        "required": ["subject", "features"],
        "additionalProperties": False,
        "properties": {"subject": subject, "features": features, **asked},
    }
    use_case = {"type": "string", "minLength": 1, "maxLength": limits.MAX_NAME}
    one = {
        "type": "object",
        "required": ["use_case", "subject", "features"],
        "additionalProperties": False,
        "properties": {
            "use_case": use_case,
            "subject": subject,
            "features": features,
            "purpose": purpose,
            **asked,
        },
    }
    several = {
        "type": "object",
        "required": ["use_case", "rows"],
        "additionalProperties": False,
        "properties": {
            "use_case": use_case,
            "purpose": purpose,
            "rows": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Row"}},
        },
    }
    problem = {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"enum": sorted({"urn:fiduciary:problem:" + e.kind for e in every_error()})},
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
            "where": {"type": "string", "description": "JSON pointer into the request."},
        },
    }
    refused = {
        "description": "Refused, and recorded as refused.",
        "content": {PROBLEM.decode(): {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    statuses = {str(status): refused for status in (400, 401, 403, 404, 409, 410, 413, 422, 503)}

    def answer(schema: dict[str, Any]) -> dict[str, Any]:
        return {
            "description": "Recorded, durably, before it was sent.",
            "content": {"application/json": {"schema": schema}},
        }

    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fiduciary gate",
            "version": __version__,
            "description": "One governed path: no answer leaves before its record is durable.",
        },
        "security": [{"bearer": []}],
        "paths": {
            "/v1/decisions": {
                "post": {
                    "summary": "Decide one row, or several",
                    "parameters": [
                        {
                            "name": "Idempotency-Key",
                            "in": "header",
                            "schema": {"type": "string", "maxLength": limits.MAX_KEY},
                            "description": "Under one key a request is decided once; remembered for a day.",
                        }
                    ],
                    "requestBody": {
                        "required": True,
                        "content": {
                            "application/json": {
                                "schema": {
                                    "oneOf": [
                                        {"$ref": "#/components/schemas/One"},
                                        {"$ref": "#/components/schemas/Several"},
                                    ]
                                }
                            }
                        },
                    },
                    "responses": {
                        "200": answer(
                            {
                                "oneOf": [
                                    {"$ref": "#/components/schemas/Decision"},
                                    {
                                        "type": "object",
                                        "required": ["decisions"],
                                        "properties": {
                                            "decisions": {
                                                "type": "array",
                                                "items": {"$ref": "#/components/schemas/Decision"},
                                            }
                                        },
                                    },
                                ]
                            }
                        ),
                        **statuses,
                    },
                }
            },
            "/v1/decisions/{id}": {
                "get": {
                    "summary": "Read a decision's record",
                    "parameters": [{"name": "id", "in": "path", "required": True, "schema": text}],
                    "responses": {
                        "200": answer({"type": "object"}),
                        **dict.fromkeys(("401", "403", "404", "410", "503"), refused),
                    },
                }
            },
            "/health/live": {
                "get": {
                    "security": [],
                    "summary": "The process answers",
                    "responses": {"200": {"description": "It does."}},
                }
            },
            "/health/ready": {
                "get": {
                    "security": [],
                    "summary": "Decisions are taken",
                    "responses": {
                        "200": {"description": "They are."},
                        "503": {"description": "Not now: it drains, or ledger or policies fail."},
                    },
                }
            },
            "/metrics": {
                "get": {
                    "summary": "Counts and histograms for Prometheus",
                    "responses": {
                        "200": {"description": "Text or OpenMetrics."},
                        "401": refused,
                        "403": refused,
                    },
                }
            },
        },
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "schemas": {
                "One": one,
                "Notice": notice,
                "Several": several,
                "Row": row,
                "Decision": decision,
                "Reason": reason,
                "Problem": problem,
            },
        },
    }


def readable(document: dict[str, Any]) -> str:
    """The OpenAPI document as a page that needs no script and no network."""
    title = f"Fiduciary gate {html.escape(__version__)}"
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{STYLE}</style>"
        f"<h1>{title}</h1><p>{html.escape(document['info']['description'])} The same as data: "
        "<a href=openapi.json>openapi.json</a>. Open Inference Protocol V2: <code>/v2</code>.</p>"
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            summary = html.escape(operation["summary"])
            parts.append(
                f"<h2><code>{method.upper()} {html.escape(path)}</code></h2><p>{summary}.</p><table>"
            )
            for parameter in operation.get("parameters", []):
                name, what = html.escape(parameter["name"]), html.escape(parameter.get("description", ""))
                parts.append(f"<tr><th>{name}<td>{parameter['in']}<td>{what}")
            for status, said in operation["responses"].items():
                parts.append(f"<tr><th>{status}<td><td>{html.escape(said['description'])}")
            parts.append("</table>")
    parts.append("<h2>Shapes</h2>")
    for name, schema in document["components"]["schemas"].items():
        parts.append(
            f"<h3 id={name}>{name}</h3><pre>{html.escape(msgspec.json.format(_encode(schema)).decode())}</pre>"
        )
    return "".join(parts)


def pages(ledger: Ledger, registry: Registry, authenticator: Authenticator, authorizer: Authorizer) -> Asgi:
    """The ASGI application behind the hot routes."""
    import base64
    from hashlib import sha256

    document = openapi()
    body, page = _encode(document), readable(document)
    policy = POLICY.format(base64.b64encode(sha256(STYLE.encode()).digest()).decode())

    async def specification(request: Request) -> Response:
        return Response(body, media_type="application/json")

    async def reading(request: Request) -> Response:
        return HTMLResponse(
            page, headers={"content-security-policy": policy, "referrer-policy": "no-referrer"}
        )

    async def decision(request: Request) -> Response:
        principal = await authenticator.authenticate_async(request.headers.get("authorization"))
        record_id = request.path_params["id"]
        # Asked first without attributes: who may read no record at all learns nothing of which there are.
        authorizer.require(principal, "read_record", Resource("Record", record_id))
        record = await asyncio.to_thread(ledger.get, record_id)
        use = registry.states().uses.get(record.header.use_case)
        places = {"use_case": record.header.use_case}
        if use is not None:
            places |= {
                "department": use.use_case.department,
                "region": use.use_case.region or ledger.settings.region,
            }
        authorizer.require(principal, "read_record", Resource("Record", record_id, places))
        if record.header.kind != Kind.DECISION:
            raise NotFoundError(f"{record_id} is not a decision")
        return Response(shown(record), media_type="application/json")

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, FiduciaryError)
        more = {"www-authenticate": 'Bearer realm="fiduciary"'} if error.status == 401 else None
        return Response(_encode(error.problem()), error.status, more, PROBLEM.decode())

    async def nothing(request: Request, error: Exception) -> Response:
        return await refused(
            request, NotFoundError("there is nothing at this address; /openapi.json lists what there is")
        )

    async def wrong_method(request: Request, error: Exception) -> Response:
        answer = await refused(request, NotFoundError("there is nothing for this method at this address"))
        answer.status_code = 405
        return answer

    return Starlette(
        routes=[
            Route("/openapi.json", specification),
            Route("/docs", reading),
            Route("/v1/decisions/{id}", decision),
        ],
        exception_handlers={FiduciaryError: refused, 404: nothing, 405: wrong_method},
    )


def shown(record: Record) -> bytes:
    """A record as it can be read now, as JSON."""
    place = {"log": record.log, "index": record.index, "time": moment(record.header.time_ns)}
    payload = msgspec.Raw(record.payload) if record.payload is not None else None
    return _encode({"id": record.id, "state": record.state, "ledger": place, "record": payload})
