"""What passing on G.711 costs: `omnivox serve` between two sides of calls, rtpengine in userspace, and a bare loop; the same packets, taking turns.
Prints a table in Markdown. OMNIVOX may be "-": then the media worker alone is measured.
usage: relay.py OMNIVOX RELAY_EXAMPLE FOLDER [PAIRS] [SECONDS] [ROUNDS]"""
import os
import pathlib
import random
import re
import socket
import statistics
import subprocess
import sys
import time

HERE = "127.0.0.1"
PATIENCE_S = 10


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HERE, 0))
        return probe.getsockname()[1]


def description(port):
    return f"v=0\r\no=- 1 1 IN IP4 {HERE}\r\ns=-\r\nc=IN IP4 {HERE}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\na=ptime:20\r\na=sendrecv\r\n"


def media_of(sdp):
    return re.search(r"^c=IN IP4 (\S+)", sdp, re.M)[1] + ":" + re.search(r"^m=audio (\d+)", sdp, re.M)[1]


class Omnivox:
    """Calls that come from a carrier and go out to it: both sides are here."""

    name = "omnivox serve"

    def __init__(self, program, folder):
        self.far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.far.bind((HERE, 0))
        self.near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.near.bind((HERE, 0))
        for end in (self.far, self.near):
            end.settimeout(PATIENCE_S)
        port = self.far.getsockname()[1]
        config = folder / "relay.toml"
        config.write_text(
            f'[[trunks]]\nname = "carrier"\nhosts = ["{HERE}:{port}"]\naddresses = ["{HERE}"]\nping_s = 0\n\n'
            '[[routes]]\nfrom = ["trunk carrier"]\nto = "trunk carrier"\n'
        )
        settings = ['sip.listen=["udp:127.0.0.1:0"]', "http.listen=127.0.0.1:0", f"data.dir={folder}/relay", "log.level=warn",
                    'rtp.codecs=["PCMU"]', "calls.max=10000", "calls.record=false"]
        sets = [word for setting in settings for word in ("--set", setting)]
        self.process = subprocess.Popen([program, "serve", "--config", str(config), *sets], stderr=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        for line in self.process.stderr:
            found = re.search(r"udp:(\S+):(\d+)", line) if line.startswith("ready:") else None
            if found:
                self.address = (found[1], int(found[2]))
                break
        else:
            sys.exit("omnivox did not start")
        self.calls = []

    def open(self, ports):
        addresses = []
        for pair in zip(ports[::2], ports[1::2]):
            addresses += self.call(*pair)
        return addresses

    def call(self, caller_port, callee_port):
        call = f"{random.getrandbits(64):x}"
        host, port = self.near.getsockname()
        top = (f"Max-Forwards: 70\r\nFrom: <sip:a@{host}:{port}>;tag={call}\r\nCall-ID: {call}\r\n"
               f"Contact: <sip:a@{host}:{port}>\r\n")
        to = f"sip:+4930{random.randrange(10**8)}@{self.address[0]}:{self.address[1]}"
        body = description(caller_port)
        via = f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK"
        self.near.sendto((f"INVITE {to} SIP/2.0\r\n{via}{call}\r\n{top}To: <{to}>\r\nCSeq: 1 INVITE\r\n"
                          f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n{body}").encode(), self.address)
        offer = self.receive(self.far, lambda text: text.startswith("INVITE"))
        answer = description(callee_port)
        kept = "".join(line + "\r\n" for line in offer.split("\r\n") if re.match(r"(Via|From|Call-ID|CSeq|Record-Route):", line, re.I))
        their_to = re.search(r"^To: ([^\r\n]*)", offer, re.M | re.I)[1]
        far_host, far_port = self.far.getsockname()
        self.far.sendto((f"SIP/2.0 200 OK\r\n{kept}To: {their_to};tag={call}\r\nContact: <sip:b@{far_host}:{far_port}>\r\n"
                         f"Content-Type: application/sdp\r\nContent-Length: {len(answer)}\r\n\r\n{answer}").encode(), self.address)
        accepted = self.receive(self.near, lambda text: text.startswith("SIP/2.0 200") and call in text)
        to_tag = re.search(r"^To: ([^\r\n]*)", accepted, re.M | re.I)[1]
        target = re.search(r"^Contact: <([^>]*)>", accepted, re.M | re.I)[1]
        self.near.sendto(f"ACK {target} SIP/2.0\r\n{via}a{call}\r\n{top}To: {to_tag}\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n".encode(), self.address)
        self.calls.append(f"BYE {target} SIP/2.0\r\n{via}b{call}\r\n{top}To: {to_tag}\r\nCSeq: 2 BYE\r\nContent-Length: 0\r\n\r\n")
        return [media_of(accepted), media_of(offer)]

    def receive(self, end, wanted):
        while True:
            text = end.recv(65_535).decode()
            if wanted(text):
                return text
            self.confirm(end, text)

    def confirm(self, end, text):
        """Whatever else is asked is agreed to."""
        if text.startswith(("BYE", "OPTIONS", "UPDATE")):
            kept = "".join(line + "\r\n" for line in text.split("\r\n") if re.match(r"(Via|From|To|Call-ID|CSeq):", line, re.I))
            end.sendto(f"SIP/2.0 200 OK\r\n{kept}Content-Length: 0\r\n\r\n".encode(), self.address)

    def close(self):
        for bye in self.calls:
            self.near.sendto(bye.encode(), self.address)
            self.receive(self.near, lambda text: text.startswith("SIP/2.0 200") and "2 BYE" in text)
            self.confirm(self.far, self.receive(self.far, lambda text: text.startswith("BYE")))
        self.calls = []

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Rtpengine:
    """Told of calls by its ng protocol: a cookie, and a dictionary in bencode."""

    name = "rtpengine in userspace"

    def __init__(self, folder):
        self.control = (HERE, free_port())
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(PATIENCE_S)
        log = open(folder / "rtpengine.log", "w")
        self.process = subprocess.Popen(
            ["rtpengine", "--foreground", "--log-stderr", "--log-level=3", "--table=-1", f"--interface={HERE}",
             f"--listen-ng={HERE}:{self.control[1]}", "--port-min=40000", "--port-max=49999", f"--pidfile={folder}/rtpengine.pid"],
            stderr=log, stdout=log)
        self.pid = self.process.pid
        self.calls = []
        started = time.monotonic()
        while True:
            try:
                self.socket.settimeout(0.3)
                self.ask({"command": "ping"})
                break
            except (TimeoutError, ConnectionRefusedError):
                if self.process.poll() is not None or time.monotonic() - started > PATIENCE_S:
                    sys.exit((folder / "rtpengine.log").read_text() or "rtpengine did not start")
        self.socket.settimeout(PATIENCE_S)

    def ask(self, command):
        cookie = f"{random.getrandbits(48):x}".encode()
        self.socket.sendto(cookie + b" " + bencode(command), self.control)
        while True:
            got, _, rest = self.socket.recv(65_535).partition(b" ")
            if got == cookie:
                answer, _ = bdecode(rest)
                if answer[b"result"] == b"error":
                    sys.exit(f"rtpengine: {answer}")
                return answer

    def open(self, ports):
        addresses = []
        for near, far in zip(ports[::2], ports[1::2]):
            call = f"{random.getrandbits(64):x}"
            common = {"call-id": call, "from-tag": "a", "ICE": "remove"}
            offered = self.ask({"command": "offer", "sdp": description(near), **common})
            answered = self.ask({"command": "answer", "sdp": description(far), "to-tag": "b", **common})
            self.calls.append(call)
            addresses += [media_of(answered[b"sdp"].decode()), media_of(offered[b"sdp"].decode())]
        return addresses

    def close(self):
        for call in self.calls:
            self.ask({"command": "delete", "call-id": call, "from-tag": "a", "delete delay": 0})
        self.calls = []

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Worker:
    """The media worker of Omnivox alone, without signalling: legs, rooms, and a thread."""

    name = "the media worker alone"

    def __init__(self, driver):
        self.process = subprocess.Popen([driver, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().split()

    def open(self, ports):
        return self.ask(" ".join(map(str, ports)))

    def close(self):
        self.ask("")

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


class Bare:
    """The driver's own loop: two sockets a call, what comes to one leaves by the other."""

    name = "bare epoll loop, looking once a millisecond"
    pid = 0

    def open(self, _):
        return []

    def close(self):
        pass

    stop = close


def bencode(value):
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, str):
        value = value.encode()
        return b"%d:%s" % (len(value), value)
    if isinstance(value, list):
        return b"l" + b"".join(map(bencode, value)) + b"e"
    return b"d" + b"".join(bencode(key) + bencode(value[key]) for key in sorted(value)) + b"e"


def bdecode(text):
    kind = text[:1]
    if kind == b"i":
        number, _, rest = text[1:].partition(b"e")
        return int(number), rest
    if kind in (b"l", b"d"):
        items, rest = [], text[1:]
        while rest[:1] != b"e":
            item, rest = bdecode(rest)
            items.append(item)
        return (items if kind == b"l" else dict(zip(items[::2], items[1::2]))), rest[1:]
    size, _, rest = text.partition(b":")
    return rest[:int(size)], rest[int(size):]


def measure(relay, driver, pairs, seconds):
    load = subprocess.Popen([driver, str(pairs), str(seconds), str(relay.pid)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    ports = [int(port) for port in load.stdout.readline().split()]
    load.stdin.write(" ".join(relay.open(ports)) + "\n")
    load.stdin.flush()
    figures = dict(pair.split("=") for pair in load.stdout.readline().split())
    load.wait()
    relay.close()
    print(f"{relay.name}: {figures}", file=sys.stderr)
    return {name: float(value) for name, value in figures.items()}


def main():
    program, driver, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    pairs, seconds, rounds = (int(word) for word in (sys.argv[4:] + ["100", "5", "5"][len(sys.argv) - 4:]))
    folder.mkdir(parents=True, exist_ok=True)
    relays = [Rtpengine(folder), Worker(driver), Bare()]
    if program != "-":
        relays.insert(0, Omnivox(program, folder))
    results = {relay.name: [] for relay in relays}
    try:
        for _ in range(rounds):
            for relay in relays:
                results[relay.name].append(measure(relay, driver, pairs, seconds))
    finally:
        for relay in relays:
            relay.stop()
    print(f"{pairs} calls, G.711 20 ms both ways, {seconds} s each, {rounds} rounds in turn, load {os.getloadavg()[0]:.1f}\n")
    print("| relay | CPU µs a packet | median | packets | not delivered | delay p50, p99 µs |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, runs in results.items():
        cpu = [run["cpu_us"] for run in runs]
        total = lambda key: int(sum(run[key] for run in runs))
        delays = ", ".join(f"{statistics.median(run[key] for run in runs):.0f}" for key in ("p50_us", "p99_us"))
        print(f"| {name} | {', '.join(f'{one:.2f}' for one in cpu)} | {statistics.median(cpu):.2f} | {total('sent')} |"
              f" {total('missing') + total('damaged')} | {delays} |")
    medians = {name: statistics.median(run["cpu_us"] for run in runs) for name, runs in results.items()}
    print("\n" + ", ".join(f"{name}: {median / medians[Rtpengine.name]:.2f} times rtpengine's" for name, median in medians.items()))


if __name__ == "__main__":
    main()
