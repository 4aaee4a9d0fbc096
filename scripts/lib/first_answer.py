"""Starts `omnivox serve` and measures until it answers its first INVITE: an INVITE is sent every millisecond from exec on.
Usage: first_answer.py OMNIVOX FOLDER"""
import socket
import statistics
import subprocess
import sys
import time

SDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"


def invite(port, own):
    return (
        f"INVITE sip:agent@127.0.0.1:{port} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{own};branch=z9hG4bKfirst\r\n"
        f"From: <sip:start@127.0.0.1>;tag=1\r\nTo: <sip:agent@127.0.0.1>\r\nCall-ID: first\r\nCSeq: 1 INVITE\r\n"
        f"Contact: <sip:start@127.0.0.1:{own}>\r\nMax-Forwards: 70\r\nContent-Type: application/sdp\r\n"
        f"Content-Length: {len(SDP)}\r\n\r\n{SDP}"
    ).encode()


def once(omnivox, folder):
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
    probe.close()
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.bind(("127.0.0.1", 0))
    peer.settimeout(0.001)
    message = invite(port, peer.getsockname()[1])
    begun = time.monotonic()
    server = subprocess.Popen(
        [omnivox, "serve", "--set", f"sip.listen=udp:127.0.0.1:{port}", "--set", "http.listen=127.0.0.1:0", "--set", f"data.dir={folder}"],
        stderr=subprocess.DEVNULL,
    )
    try:
        while time.monotonic() - begun < 10:
            try:
                peer.sendto(message, ("127.0.0.1", port))
                if peer.recv(4096).startswith(b"SIP/2.0 200"):
                    return (time.monotonic() - begun) * 1000
            except (TimeoutError, ConnectionRefusedError):
                continue
        raise SystemExit("no answer within 10 s")
    finally:
        server.kill()
        server.wait()


times = [once(sys.argv[1], sys.argv[2]) for _ in range(20)]
print(f"from exec to the first 200 to an INVITE, 20 starts: median {statistics.median(times):.1f} ms, worst {max(times):.1f} ms")
