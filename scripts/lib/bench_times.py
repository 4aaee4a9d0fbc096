"""Collects Criterion's results into one table (Markdown). Usage: bench_times.py CRITERION-FOLDER TABLE"""

import json
import sys
from pathlib import Path


def readable(nanoseconds):
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.3g} {unit}"
    return f"{nanoseconds:.3g} ns"


def rate(nanoseconds, throughput):
    if isinstance(throughput, list):
        throughput = throughput[0] if throughput else None
    if not throughput:
        return ""
    kind, count = next(iter(throughput.items()))
    per_second = count * 1e9 / nanoseconds
    unit = "B/s" if kind == "Bytes" else "/s"
    for prefix, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if per_second >= size:
            return f"{per_second / size:.3g} {prefix}{unit}"
    return f"{per_second:.3g} {unit}"


def main():
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    rows = []
    for path in sorted(folder.glob("**/new/benchmark.json")):
        bench = json.loads(path.read_text())
        estimates = json.loads((path.parent / "estimates.json").read_text())
        median = estimates["median"]["point_estimate"]
        spread = estimates["median_abs_dev"]["point_estimate"]
        rows.append((bench["full_id"], readable(median), readable(spread), rate(median, bench.get("throughput"))))
    lines = ["| case | median | deviation | throughput |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    text = "\n".join(lines) + "\n"
    out.write_text(text)
    print(text)
    print(f"written: {out}")


if __name__ == "__main__":
    main()
