"""What an installation downloads, in gigabytes.

    python benchmarks/measure_downloads.py [--cpu-torch torch-VERSION+cpu-....whl]

Asks pip what it would install in an empty environment, with the versions of `constraints.txt`, and
the index how large these files are. Where a CPU build of torch is given, it stands for the build
of the index and for what CUDA needs. Writes `measured/downloads.jsonl`, a line an extra.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

from _records import write_records

ROOT = Path(__file__).parents[1]
CUDA = ("nvidia", "cuda", "triton")


def planned(extra):
    """Return what pip would install: the size of each file, in bytes, by project."""
    target = f"{ROOT}[{extra}]" if extra else str(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "-q"]
        options = ["-c", str(ROOT / "constraints.txt"), "--report", str(report)]
        subprocess.run([*pip, *options, target], check=True)
        items = json.loads(report.read_text())["install"]
    urls = {item["metadata"]["name"]: item["download_info"]["url"] for item in items}
    return {name: size_of(url) for name, url in urls.items() if name != "scikit-hash"}


def size_of(url):
    """Return the size of a file, here or on the index."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "file":
        return Path(urllib.request.url2pathname(parts.path)).stat().st_size
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD")) as answer:
        return int(answer.headers["Content-Length"])


def main():
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cpu-torch", type=Path, help="a wheel of torch for the CPU")
    output = Path(__file__).parent / "measured" / "downloads.jsonl"
    parser.add_argument("--output", type=Path, default=output)
    args = parser.parse_args()
    lines = []
    for extra in ("", "benchmarks", "docs", "tests"):
        sizes = planned(extra)
        of_cuda = sum(size for name, size in sizes.items() if name.startswith(CUDA))
        line = {"extra": extra, "machine": f"{platform.system()} {platform.machine()}"}
        line |= {"files": len(sizes), "GB": sum(sizes.values()) / 1e9, "GB of CUDA": of_cuda / 1e9}
        line["GB of torch"] = sizes["torch"] / 1e9
        if args.cpu_torch is not None:
            other = sum(sizes.values()) - of_cuda - sizes["torch"]
            line["GB with a CPU build"] = (other + args.cpu_torch.stat().st_size) / 1e9
        lines.append(line)
        print(line)
    write_records(args.output, lines)


if __name__ == "__main__":
    main()
