-- What calls cost, in millionths of the currency's unit; none where nothing of it is priced. Answers are what the cost of one is told by.
ALTER TABLE call_records ADD COLUMN cost BIGINT;
ALTER TABLE call_records ADD COLUMN currency TEXT;
ALTER TABLE call_records ADD COLUMN cost_partial BIGINT NOT NULL DEFAULT 0;
ALTER TABLE call_records ADD COLUMN answers BIGINT NOT NULL DEFAULT 0;
-- Sums over a span of time read this alone; where nothing is priced, it is empty.
CREATE INDEX call_records_costs ON call_records
    (started_at, direction, target, currency, cost, cost_partial, duration_ms, answers, call) WHERE cost IS NOT NULL;
