"""Metrics, traces and the API's own description: what operators see, and what they must not."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from door import ROW, USE, OpenGate
from fiduciary.errors import every_error
from fiduciary.gate._metrics import STAGES, Histogram
from fiduciary.gate._openapi import openapi
from fiduciary.gate._tracing import Tracing


def scrape(gate: OpenGate) -> dict[str, float]:
    page = gate.request("GET", "/metrics", token=gate.issue("mona", "operator"))
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        f"{s.name}{json.dumps({k: v for k, v in sorted(s.labels.items()) if k != 'worker'})}": s.value
        for family in plain(page.body.decode())
        for s in family.samples
    }


def test_every_stage_has_a_histogram_and_every_answer_is_counted(gate: OpenGate) -> None:
    before = scrape(gate)
    for _ in range(5):
        gate.ask()
    gate.ask(features={"utilisation": 7})
    after = scrape(gate)

    def grown(name: str, **labels: str) -> float:
        key = f"{name}{json.dumps(labels)}"
        return after[key] - before.get(key, 0)

    for stage in STAGES:
        expected = 6 if stage in ("identity", "policy") else 5
        assert grown("fiduciary_stage_seconds_count", stage=stage) == expected, stage
        assert grown("fiduciary_stage_seconds_sum", stage=stage) > 0
    assert grown("fiduciary_decisions_total", door="native", outcome="decline", use_case=USE) == 5
    assert grown("fiduciary_refusals_total", problem="contract") == 1
    assert grown("fiduciary_rows_total") == 5
    assert after["fiduciary_ready{}"] == 1


def test_openmetrics_is_spoken_to_those_who_ask(gate: OpenGate) -> None:
    accept = "application/openmetrics-text; version=1.0.0"
    page = gate.request("GET", "/metrics", token=gate.issue("mona", "operator"), Accept=accept)
    assert page.headers["content-type"].startswith("application/openmetrics-text")
    assert any(family.name == "fiduciary_stage_seconds" for family in openmetrics(page.body.decode()))


def test_metrics_are_for_those_who_may_read_them(gate: OpenGate) -> None:
    assert gate.request("GET", "/metrics").status == 401
    assert gate.request("GET", "/metrics", token=gate.token).status == 403


def test_histogram_buckets_hold_what_they_say() -> None:
    histogram = Histogram()
    for ns in (0, 1023, 1024, 2047, 2048, 10**12):
        histogram.observe(ns)
    assert histogram.counts[:3] == [2, 2, 1] and histogram.counts[-1] == 1
    assert histogram.total == 1023 + 1024 + 2047 + 2048 + 10**12


def test_spans_tell_the_stages_and_nothing_personal(gate: OpenGate, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    monkeypatch.setattr(gate.worker.path, "_tracing", Tracing(provider))
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    gate.ask("a-private-name", traceparent=parent)
    gate.ask("a-private-name", {**ROW, "housing": "a-private-place"})
    deadline = time.monotonic() + 5
    while len(spans.get_finished_spans()) < 8 and time.monotonic() < deadline:
        time.sleep(0.02)
    found: Any = spans.get_finished_spans()
    whole = [s for s in found if s.name == "decide" and s.attributes]
    assert f"{whole[0].context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert whole[0].attributes["fiduciary.record"].startswith("gate-0.")
    assert whole[1].attributes["fiduciary.problem"] == "contract"
    names = [s.name for s in found if s.parent and s.parent.span_id == whole[0].context.span_id]
    assert names == ["identity", "policy", "admit", "decide", "record", "reply"]
    assert all(s.end_time >= s.start_time for s in found)
    text = "".join(s.to_json() for s in found)
    assert "private" not in text and "0.7" not in text and "renter" not in text


def test_the_api_describes_itself(gate: OpenGate) -> None:
    served = gate.request("GET", "/openapi.json").json()
    assert served == json.loads(json.dumps(openapi()))
    kinds = set(served["components"]["schemas"]["Problem"]["properties"]["type"]["enum"])
    assert kinds == {f"urn:fiduciary:problem:{error.kind}" for error in every_error()}
    answer = gate.ask().json()
    assert sorted(served["components"]["schemas"]["Decision"]["required"]) == sorted(answer)
    page = gate.request("GET", "/docs")
    assert b"/v1/decisions" in page.body and b"<script" not in page.body and b"http:" not in page.body
    assert "default-src 'none'" in page.headers["content-security-policy"]
