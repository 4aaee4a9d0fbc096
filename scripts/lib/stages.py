"""What the agent's own records say of its answers: gaps and what they waited for, in ms. Usage: stages.py calls.jsonl"""
import json
import statistics
import sys

STAGES = ["speech_end_ms", "endpoint_ms", "recogniser_ms", "brain_ms", "voice_ms", "sent_ms"]


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def main(path):
    gaps, waits, understood, callers = [], {name: [] for name in STAGES[1:]}, 0, 0
    for line in open(path, encoding="utf-8"):
        call = json.loads(line)
        for turn in (call.get("agent") or {}).get("turns", []):
            if turn["who"] == "caller":
                callers += 1
                understood += turn["matched"] is not None or turn["by"] == "keys"
                continue
            if turn["gap_ms"] is None or turn["stages"]["speech_end_ms"] is None:
                continue
            gaps.append(turn["gap_ms"])
            at = turn["stages"]["speech_end_ms"]
            for name in STAGES[1:]:
                then = turn["stages"][name]
                waits[name].append(max(0.0, (then or at) - at))
                at = max(at, then or at)
    print(f"caller turns {callers}, understood {understood}")
    print(f"answers to speech {len(gaps)}: gap median {statistics.median(gaps):.0f} ms, p95 {quantile(gaps, 0.95):.0f} ms")
    for name, label in zip(STAGES[1:], ["certainty", "recogniser", "brain", "voice", "line"]):
        print(f"  waited for {label:<11} median {statistics.median(waits[name]):6.1f} ms, p95 {quantile(waits[name], 0.95):6.1f} ms")


main(sys.argv[1])
