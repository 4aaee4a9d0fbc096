DROP INDEX call_records_transcribed;
DROP INDEX call_records_recorded;
ALTER TABLE call_records DROP COLUMN erased_at;
ALTER TABLE call_records DROP COLUMN transcript_removed_at;
ALTER TABLE call_records DROP COLUMN recording_removed_at;
