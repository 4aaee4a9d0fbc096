-- What figures over a span of time are made of: read from the index alone.
CREATE INDEX call_records_figures ON call_records
    (started_at, direction, target, class, reason, answered_at, duration_ms, mos_in, gap_ms, call);
