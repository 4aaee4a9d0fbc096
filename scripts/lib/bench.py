"""Compares gungraun's counts with the baseline; writes a table (Markdown) and a plot (SVG).

Exits 1 where a case takes more instructions than the baseline allows, 2 where it cannot tell.
Standard library only.
"""

import argparse
import html
import json
import math
import platform
import subprocess
import sys
from pathlib import Path

# As in benches/instructions.rs.
COUNTED_STEPS = 20
ALLOWED_PERCENT = 5.0
# libopus chooses its vector code by the processor, so its counts mean nothing on another one.
BY_PROCESSOR = ("codec/opus_",)


def command(*words):
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown"


def here():
    return {
        "arch": platform.machine(),
        "processor": processor(),
        "rustc": command("rustc", "--version"),
        "valgrind": command("valgrind", "--version"),
    }


def read_counts(names_path, counts_path):
    """Instructions per step, by name."""
    names = names_path.read_text().split("\n")
    counts = {}
    for line in counts_path.read_text().splitlines():
        if not line.startswith("{"):
            continue
        bench = json.loads(line)
        index = int(bench["id"].rsplit("_", 1)[1])
        total = bench["profiles"][0]["data"]["total"]["metrics"]["Ir"]["values"]
        counts[names[index]] = round(total["new"] / COUNTED_STEPS)
    missing = [name for name in names if name not in counts]
    if missing or not counts:
        fail(f"no counts for: {', '.join(missing) or 'anything'}")
    return counts


def fail(message):
    print(f"scripts/bench: {message}", file=sys.stderr)
    sys.exit(2)


def compare(counts, baseline, machine):
    """Rows of name, count, baseline, change in percent, verdict."""
    rows = []
    old = baseline.get("instructions", {})
    same_processor = baseline.get("processor") == machine["processor"]
    for name, count in counts.items():
        before = old.get(name)
        if before is None:
            rows.append((name, count, None, None, "new"))
            continue
        change = 100.0 * (count - before) / before
        if name.startswith(BY_PROCESSOR) and not same_processor:
            verdict = "other processor"
        elif change > ALLOWED_PERCENT:
            verdict = "SLOWER"
        elif change < -ALLOWED_PERCENT:
            verdict = "faster"
        else:
            verdict = "ok"
        rows.append((name, count, before, change, verdict))
    for name in old:
        if name not in counts:
            rows.append((name, None, old[name], None, "GONE"))
    return rows


def table(rows, machine, commit):
    number = lambda value: "" if value is None else f"{value:,}"
    lines = [
        "# Instructions of the hot path",
        "",
        f"`scripts/bench` at {commit}; {machine['rustc']}; {machine['valgrind']}; {machine['arch']}, "
        f"{machine['processor']}.",
        f"One operation each, the mean of {COUNTED_STEPS} after a warm-up. "
        f"A case fails at more than {ALLOWED_PERCENT:g} % over the baseline.",
        "",
        "| case | instructions | baseline | change | |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for name, count, before, change, verdict in rows:
        percent = "" if change is None else f"{change:+.1f} %"
        lines.append(f"| {name} | {number(count)} | {number(before)} | {percent} | {verdict} |")
    return "\n".join(lines) + "\n"


def plot(rows):
    """Bars on a logarithmic scale; the baseline is a tick in each."""
    rows = [row for row in rows if row[1] is not None]
    left, width, step, top = 270, 560, 18, 46
    height = top + step * len(rows) + 34
    decades = len(str(max(row[1] for row in rows)))
    x = lambda value: left + width * math.log10(max(value, 1)) / decades
    colours = {"SLOWER": "#c0392b", "faster": "#27ae60", "new": "#7f8c8d"}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 110}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<text x="12" y="22" font-size="15" font-weight="bold">Instructions for one operation</text>',
        '<text x="12" y="38" fill="#555">logarithmic; the black tick is the baseline</text>',
    ]
    bottom = top + step * len(rows)
    for decade in range(decades + 1):
        at = x(10**decade)
        parts.append(f'<line x1="{at:.1f}" y1="{top}" x2="{at:.1f}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle" fill="#555">{10**decade:,}</text>')
    for index, (name, count, before, _, verdict) in enumerate(rows):
        y = top + step * index
        colour = colours.get(verdict, "#2e6da4")
        parts.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{html.escape(name)}</text>')
        parts.append(f'<rect x="{left}" y="{y + 3}" width="{x(count) - left:.1f}" height="{step - 5}" fill="{colour}"/>')
        if before is not None:
            at = x(before)
            parts.append(f'<line x1="{at:.1f}" y1="{y + 1}" x2="{at:.1f}" y2="{y + step - 1}" stroke="black" stroke-width="2"/>')
        parts.append(f'<text x="{x(count) + 6:.1f}" y="{y + 13}" fill="#333">{count:,}</text>')
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def main():
    parser = argparse.ArgumentParser()
    for name in ("names", "counts", "baseline", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--filter", default="")
    parser.add_argument("--update", action="store_true")
    arguments = parser.parse_args()

    machine = here()
    counts = read_counts(arguments.names, arguments.counts)
    baseline = json.loads(arguments.baseline.read_text()) if arguments.baseline.exists() else {}
    if not baseline and not arguments.update:
        fail(f"{arguments.baseline} is missing: make it with scripts/bench --update")
    if baseline and baseline["arch"] != machine["arch"] and not arguments.update:
        fail(f"the baseline is for {baseline['arch']} and this is {machine['arch']}: counts cannot be compared")

    rows = [row for row in compare(counts, baseline, machine) if arguments.filter in row[0]]
    if not rows:
        fail(f"no case has {arguments.filter!r} in its name")
    commit = command("git", "rev-parse", "--short", "HEAD")
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = table(rows, machine, commit)
    (arguments.out / "instructions.md").write_text(text)
    (arguments.out / "instructions.svg").write_text(plot(rows))
    print(text)
    print(f"written: {arguments.out}/instructions.md and instructions.svg")
    if arguments.update:
        arguments.baseline.write_text(json.dumps(machine | {"instructions": counts}, indent=2) + "\n")
        print(f"written: {arguments.baseline}, {len(counts)} cases; the table compares with the one before")
        return
    if baseline["rustc"] != machine["rustc"]:
        print(f"note: the baseline was made with {baseline['rustc']}, this is {machine['rustc']}")
    bad = [row for row in rows if row[4] in ("SLOWER", "GONE")]
    for name, count, before, change, verdict in bad:
        if verdict == "GONE":
            print(f"FAILED {name}: in the baseline, but no longer measured (scripts/bench --update drops it)")
        else:
            print(f"FAILED {name}: {count:,} instructions, {change:+.1f} % over {before:,}")
    if bad:
        print("If this is worth it, say why in the commit that runs scripts/bench --update.")
        sys.exit(1)
    print(f"all {len(rows)} within {ALLOWED_PERCENT:g} % of the baseline")


if __name__ == "__main__":
    main()
