DROP TABLE deliveries;
DROP TABLE outbox;
DROP TABLE webhooks;
