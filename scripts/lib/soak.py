"""Recorded calls under SRTP for long: CALLS of an agent that is answered by keys, 20 in which the front desk is spoken to, again and again, and
ten that measure the delay of sound there and back. Prints what the server holds from time to time, and how the calls went.
usage: soak.py OMNIVOX PID SIP HTTP CALLS SECONDS SCRIPT"""
import json
import pathlib
import re
import subprocess
import sys
import threading
import time
import urllib.request

SPOKEN = 20
SAMPLES = 10


def target(file):
    """What a descriptor is; nothing where it was closed meanwhile."""
    try:
        return str(file.readlink())
    except OSError:
        return ""


def held(pid, http):
    """What a process holds: memory, sockets and other files, threads; and its calls."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    number = lambda name: int(re.search(rf"^{name}:\s+(\d+)", status, re.M).group(1))
    files = [target(file) for file in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
    sockets = sum(file.startswith("socket:") for file in files)
    metrics = urllib.request.urlopen(f"http://{http}/metrics").read().decode()
    metric = lambda name: sum(float(line.rsplit(" ", 1)[1]) for line in metrics.splitlines() if re.match(rf"{name}[ {{]", line))
    return {
        "mib": number("VmRSS") / 1024,
        "sockets": sockets,
        "files": len(files) - sockets,
        "threads": number("Threads"),
        "legs": metric("omnivox_media_legs"),
        "overruns": metric("omnivox_media_overruns_total"),
        "longest_round_ms": metric("omnivox_media_longest_round_seconds") * 1_000,
    }


def load(omnivox, *arguments):
    command = [omnivox, "load", *arguments, "--srtp", "sdes", "--codec", "PCMU", "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def spoken(omnivox, sip, script, until, results):
    """One who speaks to the front desk, hangs up and calls again."""
    while time.monotonic() < until:
        command = [omnivox, "call", f"sip:agent@{sip}", "--codec", "PCMU", "--srtp", "sdes", "--script", script, "--json"]
        done = subprocess.run(command, capture_output=True, text=True)
        results.append(done.returncode == 0)


def main():
    omnivox, pid, sip, http, calls, seconds, script = sys.argv[1:]
    calls, seconds = int(calls), int(seconds)
    header = ["s", "MiB", "sockets", "other files", "threads", "legs", "rounds over a frame's time", "longest round, ms"]
    print("| " + " | ".join(header) + " |\n|" + " --- |" * len(header), flush=True)

    def row(second):
        now = held(pid, http)
        cells = [second, *(f"{value:.0f}" for value in list(now.values())[:-1]), f"{now['longest_round_ms']:.1f}"]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)

    row("before")
    began = time.monotonic()
    keypad = load(omnivox, f"sip:keypad@{sip}", "--calls", str(calls), "--rate", "20", "--hold", str(seconds), "--press", "1", "--expect", "sound", "--watch", pid)
    echo = load(omnivox, f"sip:echo@{sip}", "--calls", "10", "--rate", "5", "--hold", str(seconds))
    results, until = [], began + seconds
    talkers = []
    for _ in range(SPOKEN):
        talkers.append(threading.Thread(target=spoken, args=(omnivox, sip, script, until, results)))
        talkers[-1].start()
        time.sleep(1)
    for sample in range(1, SAMPLES + 1):
        time.sleep(max(0, began + seconds * sample / SAMPLES - time.monotonic()))
        row(round(time.monotonic() - began))
    for talker in talkers:
        talker.join()
    figures, delays = json.loads(keypad.communicate()[0]), json.loads(echo.communicate()[0])
    # What a transaction holds is gone 32 s after it.
    time.sleep(40)
    row("after")
    print(f"\nspoken calls: {len(results)}, of which {results.count(True)} went well")
    for name, one in [("keypad", figures), ("echo", delays)]:
        print(name, json.dumps({key: one[key] for key in ("setup_ms", "round_trip_ms", "mos_lowest", "packets_lost", "watched") if key in one}))
    sys.exit(keypad.returncode or echo.returncode or (0 if all(results) else 1))


main()
