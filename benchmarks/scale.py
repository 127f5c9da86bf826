"""What a billion images take, and a hundred billion, by the rates that were measured.

    python benchmarks/scale.py

Prints the table of `docs/scale.rst`. Rates are those of one core, from `measured/`; nothing runs.
"""

import json
from functools import cache
from pathlib import Path

MEASURED = Path(__file__).parent / "measured"
SIZES = (10**9, 10**11)
N_BITS = 64
CORES = 64
MEMORY = 128e9


@cache
def last(name, /, **wanted):
    """Return the last line of a file that has these values."""
    lines = [json.loads(line) for line in (MEASURED / f"{name}.jsonl").read_text().splitlines()]
    return [line for line in lines if wanted.items() <= line.items()][-1]


def network_seconds():
    """Return the time that EfficientNet-Lite0 takes for an image of 128 pixels."""
    line = last("training", name="efficientnet-lite0, 128 px", what="transform")
    return line["seconds"] / line["n_samples"]


def search_seconds():
    """Return the time that comparing a query with one code takes."""
    line = last("neighbors", what="time", codes="random", n_bits=N_BITS, n_items=10**7, k=10)
    return line["values"]["brute"] / 10**7


def rates():
    """Return what was measured, each by its name."""
    image = last("images", side=500)
    return {
        "bytes": image["bytes"],
        "decode": image["seconds"]["decode and resize"],
        "network": network_seconds(),
        "search": search_seconds(),
    }


def table():
    """Return the rows: a name, and a text for each number of images."""
    rate = rates()
    rows = {
        "image files": lambda n: of_bytes(n * rate["bytes"]),
        "codes": lambda n: of_bytes(n * N_BITS // 8),
        "decode": lambda n: hours(n * rate["decode"]),
        "network": lambda n: hours(n * rate["network"]),
        "days": lambda n: days(n * (rate["decode"] + rate["network"])),
        "search, one core": lambda n: seconds(n * rate["search"]),
        "search, machine": lambda n: seconds(n * rate["search"] / CORES),
        "machines": lambda n: f"{-(-n * N_BITS // 8 // int(MEMORY)):,}",
    }
    return {name: [row(n) for n in SIZES] for name, row in rows.items()}


def of_bytes(number):
    """Return a number of bytes as a text."""
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number / 1e6:.3g} MB"


def hours(number):
    """Return seconds of a core as hours."""
    return f"{rounded(number / 3600):,.0f} h"


def days(number):
    """Return seconds of a core as days of a machine."""
    number = rounded(number / CORES / 86400)
    return f"{number:g} day" + "s" * (number != 1)


def seconds(number):
    """Return seconds as a text."""
    return f"{rounded(number):g} s" if number >= 1 else f"{rounded(number * 1000):g} ms"


def rounded(number):
    """Return a number with two digits."""
    return float(f"{number:.2g}")


if __name__ == "__main__":
    print(rates())
    for name, cells in table().items():
        print(f"{name:<20}" + "".join(f"{cell:>16}" for cell in cells))
