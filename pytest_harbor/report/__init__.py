"""Results for people: the terminal, an HTML page, GitHub, live progress."""
