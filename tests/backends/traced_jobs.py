"""Jobs with spans that worker processes run, as docs/howto/opentelemetry.md shows them."""

from __future__ import annotations

import os

from opentelemetry import propagate
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

spans = InMemorySpanExporter()
provider = TracerProvider()  # One in each process; that of the SDK's API cannot be replaced.
provider.add_span_processor(SimpleSpanProcessor(spans))
tracer = provider.get_tracer("test")


def with_span(carrier: dict[str, str]) -> int:
    with tracer.start_as_current_span("job with_span", context=propagate.extract(carrier)):
        return os.getpid()


def finished() -> list[tuple[str, int, int | None]]:
    """The spans that this process has ended: name, id of the trace, id of the parent."""
    return [
        (span.name, span.context.trace_id, span.parent and span.parent.span_id)
        for span in spans.get_finished_spans()
    ]
