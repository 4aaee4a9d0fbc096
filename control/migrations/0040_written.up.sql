-- A call's record is written into fewer indexes, and at their ends. Those that go by time alone stand the way time goes, and are read backwards:
-- what is new is put behind the last entry, into a page that is there already, instead of before the first one. Whose words are old is known by
-- the numbers of turns.
DROP INDEX call_records_transcribed;
DROP INDEX call_records_by_start;
DROP INDEX call_records_by_kind;
CREATE INDEX call_records_by_start ON call_records (started_at, call);
CREATE INDEX call_records_by_kind ON call_records (kind, started_at, call);
