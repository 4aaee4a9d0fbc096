"""How speech sounds and is understood behind bad networks, on its way to the receiver only, over G.711 and Opus, with the same losses for
each: through our playout (sip:echo@ sends back what it would play, over a clean path) and through baresip's (which plays into its
own microphone), and by our ear (the front desk). Prints a table in Markdown.
usage: networks.py OMNIVOX BAD_NETWORK FOLDER [SEEDS]"""
import json
import pathlib
import socket
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

NETWORKS = [
    ("clean", []),
    ("1 % lost", ["--loss", "1"]),
    ("5 % lost", ["--loss", "5"]),
    ("10 % lost", ["--loss", "10"]),
    ("20 % lost", ["--loss", "20"]),
    ("5 % lost in bursts of 4", ["--loss", "5", "--burst", "4"]),
    ("60 ms jitter", ["--jitter", "60"]),
    ("5 % reordered", ["--reorder", "5"]),
]
SAID = [
    ("rms", "These days a chicken leg is a rare dish. Rice is often served in round bowls. The juice of lemons makes fine punch."),
    ("slt", "The birch canoe slid on the smooth planks. Glue the sheet to the dark blue background. It is easy to tell the depth of a well."),
]
# What the front desk is asked, and the transitions it should take.
ASKED = [("What are your opening hours?", "menu/0"), ("No thank you. Goodbye.", "menu/2")]
# Calls at a time: sound is paced by the clock, so this machine must not be busy.
AT_ONCE = 9
BARESIP = """poll_method epoll
sip_listen 127.0.0.1:{sip}
sip_trans_def udp
audio_player aubridge,loop
audio_source aubridge,loop
audio_level no
ausrc_srate {rate}
auplay_srate {rate}
ausrc_channels 1
auplay_channels 1
opus_inbandfec yes
rtp_ports {rtp}-{rtp_last}
net_interface 127.0.0.1
module_path /usr/lib/baresip/modules
module stdio.so
module g711.so
module opus.so
module plc.so
module aubridge.so
module_tmp account.so
module_app menu.so
"""


def run(arguments, **more):
    return subprocess.run(arguments, check=True, capture_output=True, text=True, **more)


def free_port(span=1):
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1] & ~1
        if port + span < 65_536:
            return port


class Network:
    """A relay before `server`, harming what goes there."""

    def __init__(self, binary, server, weather, seed):
        command = [binary, server, "--one-way", "--seed", str(seed), *weather]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().split("@")[1].strip()

    def __enter__(self):
        return self

    def __exit__(self, *fault):
        self.process.communicate("\n", timeout=10)


class Measurement:
    def __init__(self, omnivox, bad_network, folder):
        self.omnivox, self.bad_network, self.folder = omnivox, bad_network, pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.said = {rate: str(self.folder / f"said-{rate}.wav") for rate in (8000, 16000)}
        for voice, text in SAID:
            run(["flite", "-voice", voice, "-t", text, "-o", str(self.folder / f"{voice}.wav")])
        for rate, path in self.said.items():
            run(["sox", *(str(self.folder / f"{voice}.wav") for voice, _ in SAID), "-r", str(rate), path, "norm", "-9"])
        log = open(self.folder / "serve.log", "w", encoding="utf-8")
        self.server = subprocess.Popen(
            [omnivox, "serve", "--set", 'sip.listen=["udp:127.0.0.1:0"]', "--set", "http.listen=127.0.0.1:0",
             "--set", f"data.dir={self.folder / 'data'}", "--set", "calls.record=false"], stderr=log)
        while "ready:" not in (told := (self.folder / "serve.log").read_text()):
            time.sleep(0.05)
        self.address = told.split(" udp:")[1].split()[0]

    def place(self, uri, codec, name, steps, record=None):
        """A call by somebody of that name."""
        script = self.folder / f"{name}.txt"
        script.write_text("\n".join(steps))
        arguments = [self.omnivox, "call", uri, "--from", name, "--codec", codec, "--script", str(script), "--json"]
        done = subprocess.run(arguments + (["--record", record] if record else []), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{name}: {done.stdout} {done.stderr}")

    def judge(self, rate, heard, name):
        """MOS-LQO of what was heard, made mono and of the rate of what was said."""
        mono = str(self.folder / f"{name}-mono.wav")
        run(["sox", heard, "-r", str(rate), "-b", "16", mono, "remix", "1"])
        script = pathlib.Path(__file__).with_name("pesq_score.py")
        return json.loads(run([sys.executable, str(script), self.said[rate], mono]).stdout)[0]

    def ours(self, weather, codec, rate, seed, name):
        return self.heard("echo", self.address, weather, codec, rate, seed, name)

    def heard(self, user, address, weather, codec, rate, seed, name):
        """The score of what comes back of what is said through a network."""
        heard = str(self.folder / f"{name}.wav")
        with Network(self.bad_network, address, weather, seed) as network:
            steps = [f"play {self.said[rate]}", "wait 800", "hangup"]
            self.place(f"sip:{user}@{network.address}", codec, name, steps, heard)
        return self.judge(rate, heard, name)

    def baresip(self, weather, codec, rate, seed, name):
        folder = self.folder / name
        folder.mkdir()
        sip, rtp = free_port(), free_port(20)
        (folder / "config").write_text(BARESIP.format(sip=sip, rate=rate, rtp=rtp, rtp_last=rtp + 20))
        codecs = "PCMU/8000/1" if codec == "PCMU" else "opus/48000/2"
        (folder / "accounts").write_text(f"<sip:baresip@127.0.0.1>;regint=0;answermode=auto;audio_codecs={codecs}\n")
        with open(folder / "log", "w", encoding="utf-8") as log:
            phone = subprocess.Popen(["baresip", "-4", "-f", str(folder)], stdin=subprocess.PIPE, stdout=log,
                                     stderr=subprocess.STDOUT, text=True)
        try:
            while "baresip is ready" not in (folder / "log").read_text():
                time.sleep(0.05)
            score = self.heard("baresip", f"127.0.0.1:{sip}", weather, codec, rate, seed, name)
            phone.communicate("/quit\n", timeout=15)
        finally:
            phone.kill()
            phone.wait()
        return score

    def understood(self, weather, codec, seed, name):
        """Questions that the front desk took as they were meant."""
        with Network(self.bad_network, self.address, weather, seed) as network:
            self.place(f"sip:agent@{network.address}", codec, name, [f"say {text}" for text, _ in ASKED] + ["wait 15000"])
        path, own = self.folder / "data/calls.jsonl", []
        while not own:
            time.sleep(0.05)
            own = [record for line in path.read_text().splitlines() if name in (record := json.loads(line))["from"]]
        turns = [turn for turn in own[0]["agent"]["turns"] if turn["who"] == "caller"]
        return sum(any(turn["matched"] == meant for turn in turns) for _, meant in ASKED)


def main(omnivox, bad_network, folder, seeds="3"):
    seeds = range(1, int(seeds) + 1)
    measurement = Measurement(omnivox, bad_network, folder)
    heads = ["network", *(f"{codec}: {what}" for codec in ("G.711", "Opus") for what in ("ours", "baresip", "understood"))]
    print("| " + " | ".join(heads) + " |\n" + "| --- " * len(heads) + "|", flush=True)
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for place, (network, weather) in enumerate(NETWORKS):
                cells = [network]
                for codec, rate in (("PCMU", 8000), ("opus", 16000)):
                    name = f"{place}-{codec}"
                    work = [
                        [pool.submit(measurement.ours, weather, codec, rate, seed, f"{name}-ours-{seed}") for seed in seeds],
                        [pool.submit(measurement.baresip, weather, codec, rate, seed, f"{name}-baresip-{seed}") for seed in seeds],
                    ]
                    cells += [f"{statistics.mean(one.result() for one in scores):.2f}" for scores in work]
                    right = [pool.submit(measurement.understood, weather, codec, seed, f"{name}-words-{seed}") for seed in seeds]
                    cells.append(f"{sum(one.result() for one in right)} of {len(ASKED) * len(seeds)}")
                print("| " + " | ".join(cells) + " |", flush=True)
    finally:
        measurement.server.terminate()
        measurement.server.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
