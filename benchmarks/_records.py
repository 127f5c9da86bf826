"""Raw results: files of `measured/` with a line of JSON for each."""

import json


def read_records(path):
    """Return the records of a file, none if it is not there; a line that has no end is none."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in _whole_lines(text).splitlines()]


def _whole_lines(text):
    """Return a text as far as its last line that has an end."""
    return text[: text.rfind("\n") + 1]


def write_records(path, records):
    """Replace a file by these records."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def append_record(path, record):
    """Add a record to a file."""
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def cut_off_unfinished(path):
    """Remove a last line that was not written to its end."""
    if path.exists() and not (text := path.read_text()).endswith("\n"):
        path.write_text(_whole_lines(text))
