DROP TABLE call_figures_filled;
DROP TABLE call_figures;
CREATE INDEX call_records_figures ON call_records
    (started_at, direction, target, class, reason, answered_at, duration_ms, mos_in, gap_ms, call);
