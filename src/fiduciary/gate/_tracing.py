"""OpenTelemetry traces: one span a request and one a stage, made after the answer. Off unless an endpoint is set.

Spans carry the use case, the release, the outcome's kind and the record's place. Never a subject, a feature, a
score, a reason or an error's text: traces go to systems with other readers than the ledger's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fiduciary import __version__

if TYPE_CHECKING:
    from fiduciary.config import GateSettings
    from fiduciary.gate.path import Question

STAGES = ("identity", "policy", "admit", "decide", "record", "reply")


class Tracing:
    """Turns the clock readings of a finished question into spans."""

    def __init__(self, provider: Any) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("fiduciary.gate", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._offset = time.time_ns() - time.perf_counter_ns()

    @classmethod
    def from_settings(cls, settings: GateSettings, worker: str) -> Tracing | None:
        """Tracing to `otlp_endpoint`, or None where none is set. Sampling follows OTEL_TRACES_SAMPLER."""
        if not settings.otlp_endpoint:
            return None
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create(
            {"service.name": "fiduciary-gate", "service.version": __version__, "service.instance.id": worker}
        )
        provider = TracerProvider(resource=resource)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.otlp_endpoint)))
        return cls(provider)

    def finish(self, question: Question, end: int) -> None:
        """Make the spans of an answered or refused question; `end` is the clock when it was sent."""
        from opentelemetry import trace

        offset = self._offset
        parent = self._propagator.extract({"traceparent": question.trace}) if question.trace else None
        attributes: dict[str, str | int] = {"fiduciary.door": question.door}
        servable = question.servable
        if servable is not None:
            attributes["fiduciary.use_case"] = servable.name
            attributes["fiduciary.release"] = servable.digest
            attributes["fiduciary.rows"] = len(question.values)
        if question.error is not None:
            attributes["fiduciary.problem"] = question.error.kind
        elif question.receipts:
            attributes["fiduciary.record"] = question.receipts[0].id
        span = self._tracer.start_span(
            "decide",
            context=parent,
            kind=trace.SpanKind.SERVER,
            start_time=question.begun + offset,
            attributes=attributes,
        )
        if span.is_recording():
            context = trace.set_span_in_context(span)
            start = question.begun
            for name, at in zip(STAGES, [*question.marks, end], strict=False):
                child = self._tracer.start_span(name, context=context, start_time=start + offset)
                child.end(at + offset)
                start = at
            if question.error is not None and question.error.status >= 500:
                span.set_status(trace.StatusCode.ERROR)
        span.end(end + offset)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()
