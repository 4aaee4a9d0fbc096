DROP TABLE journals;
DROP TABLE call_owners;
DROP TABLE call_records;
