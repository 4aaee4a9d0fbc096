-- Records say when what belonged to them was taken away.
ALTER TABLE call_records ADD COLUMN recording_removed_at BIGINT;
ALTER TABLE call_records ADD COLUMN transcript_removed_at BIGINT;
ALTER TABLE call_records ADD COLUMN erased_at BIGINT;
CREATE INDEX call_records_recorded ON call_records (started_at, call) WHERE recording IS NOT NULL;
CREATE INDEX call_records_transcribed ON call_records (started_at, call) WHERE transcript_removed_at IS NULL;
