DROP TABLE incoming_seen;
DROP TABLE incoming_sources;
