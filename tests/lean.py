"""What a pytest that tests start does without: importing it is half of what such a process costs."""

LEAN = ("-p", "no:anyio", "-p", "no:hypothesispytest")
