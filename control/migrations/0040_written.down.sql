DROP INDEX call_records_by_kind;
DROP INDEX call_records_by_start;
CREATE INDEX call_records_by_kind ON call_records (kind, started_at DESC, call DESC);
CREATE INDEX call_records_by_start ON call_records (started_at DESC, call DESC);
CREATE INDEX call_records_transcribed ON call_records (started_at, call) WHERE transcript_removed_at IS NULL;
