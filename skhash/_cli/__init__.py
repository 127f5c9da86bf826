"""The command line: one command a file, each a thin layer on the public API."""
