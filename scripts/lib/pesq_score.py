"""MOS-LQO by PESQ (ITU-T P.862.1 at 8 kHz, P.862.2 at 16 kHz) of what was heard against what was said.
usage: pesq_score.py SAID.wav HEARD.wav [SAID.wav HEARD.wav ...]   mono, both at 8 or both at 16 kHz; prints a JSON list"""
import json
import sys
import wave

import numpy
from pesq import NoUtterancesError, pesq


def read(path):
    with wave.open(path) as file:
        assert file.getnchannels() == 1 and file.getsampwidth() == 2, f"{path}: not mono, or not 16 bits"
        return file.getframerate(), numpy.frombuffer(file.readframes(file.getnframes()), dtype="<i2")


def main(paths):
    scores = []
    for said, heard in zip(paths[::2], paths[1::2], strict=True):
        (rate, reference), (other_rate, degraded) = read(said), read(heard)
        assert rate == other_rate, f"{said} is at {rate} Hz, {heard} at {other_rate}"
        try:
            scores.append(round(float(pesq(rate, reference, degraded, "nb" if rate == 8000 else "wb")), 3))
        except NoUtterancesError:
            scores.append(1.0)
    print(json.dumps(scores))


if __name__ == "__main__":
    main(sys.argv[1:])
