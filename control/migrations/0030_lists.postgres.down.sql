DROP INDEX turns_by_word;
ALTER TABLE turns DROP COLUMN facets;
ALTER TABLE turns ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY;
CREATE INDEX turns_by_word ON turns USING gin (to_tsvector('simple', text));

DROP INDEX call_owners_by_kind;
DROP INDEX call_records_by_pair;
DROP INDEX call_records_by_callee_kind;
DROP INDEX call_records_by_caller_kind;
DROP INDEX call_records_by_kind;
CREATE INDEX call_records_by_target ON call_records (target, started_at DESC, call DESC);
CREATE INDEX call_records_by_reason ON call_records (reason, started_at DESC, call DESC);
CREATE INDEX call_records_by_class ON call_records (class, started_at DESC, call DESC);
CREATE INDEX call_records_by_direction ON call_records (direction, started_at DESC, call DESC);
ALTER TABLE call_owners DROP COLUMN kind;
ALTER TABLE call_records DROP COLUMN kind;
DROP TABLE call_kinds;
