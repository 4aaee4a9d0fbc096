DROP TABLE refused_calls;
