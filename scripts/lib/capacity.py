"""How many calls one media worker carries, of each kind, as a table and as a picture.
usage: capacity.py EXAMPLE SECONDS PICTURE.svg [KIND...]"""
import json
import subprocess
import sys

KINDS = {
    "echo": "G.711, echoed",
    "echo-cm": "the same, SRTP by AES-CM and HMAC-SHA1-80",
    "echo-gcm": "the same, SRTP by AES-GCM",
    "echo-opus": "Opus, echoed: decoded and encoded",
    "echo-opus-gcm": "the same, SRTP by AES-GCM, as a browser's call",
    "passed": "two legs of G.711, packets passed on",
    "mixed": "two legs, G.711 and Opus",
    "conference": "rooms of eight, G.711",
}
# Packets at 70 % of a core, of this kind.
LONG = ("echo", 1_000_000)


def measured(example, seconds, kind):
    """The last run in which all went well, and the one at 70 % of a core."""
    more = ["--packets", str(LONG[1])] if kind == LONG[0] else []
    command = [example, kind, "--seconds", str(seconds), *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    runs = []
    for line in process.stdout:
        if line.startswith("{"):
            runs.append(json.loads(line))
        else:
            print(line, end="", file=sys.stderr, flush=True)
    if process.wait() not in (0, 1) or not runs:
        sys.exit(f"{' '.join(command)} failed")
    return runs


def picture(rows, path):
    """A bar for each kind, as long as the calls that a core carries."""
    left, width, height = 330, 420, 26
    most = max(row["calls"] for row in rows)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 90} {height * len(rows) + 44}" font-family="sans-serif" font-size="13">',
        '<style>text{fill:#1f2933}rect{fill:#2f6f9f}@media(prefers-color-scheme:dark){text{fill:#e4e7eb}rect{fill:#6fb1de}}</style>',
        '<text x="8" y="20" font-size="15">Legs that one media worker carries with nothing lost, late or wrong</text>',
    ]
    for at, row in enumerate(rows):
        y, long = 36 + at * height, max(1, round(width * row["calls"] / most))
        lines.append(f'<text x="{left - 8}" y="{y + 16}" text-anchor="end">{KINDS[row["kind"]]}</text>')
        lines.append(f'<rect x="{left}" y="{y + 3}" width="{long}" height="{height - 8}" rx="2"/>')
        lines.append(f'<text x="{left + long + 6}" y="{y + 16}">{row["calls"]:,}</text>')
    with open(path, "w") as file:
        file.write("\n".join([*lines, "</svg>", ""]))


def main():
    example, seconds, path, *kinds = sys.argv[1:]
    rows = []
    print("| one worker, 20 ms packets | most legs | share of the core | CPU µs a leg's second | µs a packet | of it the codec's library | longest round |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for kind in kinds or KINDS:
        most, *long = measured(example, seconds, kind)
        rows.append(most)
        print(
            f"| {KINDS[kind]} | {most['calls']:,} | {most['core_percent']:.0f} % | {most['us_per_call_second']:.0f} | {most['us_per_packet']:.1f} "
            f"| {most['bare_codec_us_per_packet']:.1f} | {most['longest_round_us'] / 1000:.1f} ms |",
            flush=True,
        )
        for run in long:
            print(
                f"\n{run['packets']:,} packets of {run['calls']:,} legs ({KINDS[kind]}), {run['core_percent']:.0f} % of the core: "
                f"{run['lost']} lost, {run['late']} late, {run['damaged']} out of sequence, {run['wrong']} legs with a wrong sound\n"
            )
    picture(rows, path)


main()
