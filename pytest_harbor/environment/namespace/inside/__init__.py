"""What runs in an environment's own processes: the standard library only, all of it loaded before the host is gone."""
