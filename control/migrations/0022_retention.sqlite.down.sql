INSERT INTO turn_words (turn_words, rank) VALUES ('secure-delete', 0);
DROP INDEX call_records_transcribed;
DROP INDEX call_records_recorded;
ALTER TABLE call_records DROP COLUMN erased_at;
ALTER TABLE call_records DROP COLUMN transcript_removed_at;
ALTER TABLE call_records DROP COLUMN recording_removed_at;
