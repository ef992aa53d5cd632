"""The proxy between agents and models: it keeps the keys, meters, limits, records and replays."""
