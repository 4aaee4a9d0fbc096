DROP TABLE idempotency;
DROP TABLE audit;
