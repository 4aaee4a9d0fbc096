DROP INDEX call_records_costs;
ALTER TABLE call_records DROP COLUMN answers;
ALTER TABLE call_records DROP COLUMN cost_partial;
ALTER TABLE call_records DROP COLUMN currency;
ALTER TABLE call_records DROP COLUMN cost;
