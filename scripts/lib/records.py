#!/usr/bin/env python3
"""Lists and figures over many call records, asked for over HTTP as people ask.

usage: records.py fill FILE CALLS [SEED]                  writes a journal of CALLS calls over 90 days
       records.py set-up BASE CODE                        adds the people whose calls they are; prints their logins
       records.py load DATABASE FILE                      puts a journal's calls into a database (a file of SQLite, an address of PostgreSQL); the
                                                          server's next start makes the figures of them
       records.py insert BASE LOGINS JOURNAL CALLS PID    adds calls to a server's journal, and prints what it takes until they are in lists
       records.py ask BASE LOGINS CALLS TIMES LABEL PID   asks, and prints a table of times in ms, and what the server's processor worked
"""
import calendar, csv, glob, http.client, io, itertools, json, os, random, sqlite3, subprocess, sys, time, urllib.parse

DAYS, END_MS = 90, 1_790_000_000_000  # the last of them began in September 2026
PASSWORD = "walrus pedal quarry"
TEAMS, DEVICES = 5, 40
AGENTS = ["desk", "sales", "support", "billing", "night", "survey", "callback", "museum"]
MAIN = [f"+49302200{n}" for n in range(5)]
# reason, class, answered, share in thousand
ENDS = [
    ("caller_hung_up", "ok", True, 560), ("agent_hung_up", "ok", True, 180), ("far_side_hung_up", "ok", True, 80),
    ("transferred", "ok", True, 60), ("caller_cancelled", "ok", False, 40), ("no_answer", "upstream_fault", False, 30),
    ("busy", "upstream_fault", False, 20), ("unknown_number", "caller_fault", False, 12), ("media_timeout", "caller_fault", True, 8),
    ("peer_lost", "unknown", True, 4), ("unreachable", "upstream_fault", False, 4), ("provider_failed", "upstream_fault", True, 1.5),
    ("internal", "our_fault", True, 0.5),
]
COMMON = "yes no please thank you hello I want would like to the a and is my your for on at it that this we have".split()


def words():
    """A vocabulary whose words are made of syllables, the same for every seed."""
    rng = random.Random(7)
    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    return ["".join(rng.choices(syllables, k=rng.randint(2, 4))) for _ in range(5_000)]


def number(rng):
    # Few call often, most once or twice.
    return f"+49{171_0000000 + int(400_000 * rng.random() ** 3)}"


def fill(path, calls, seed):
    with open(path, "w") as out:
        for text in lines_of(seed, calls, END_MS - DAYS * 86_400_000, DAYS * 86_400_000 / calls):
            out.write(text)
            out.write("\n")


def lines_of(seed, calls, started, step):
    rng, vocabulary = random.Random(seed), words()
    weights = [1 / (n + 3) for n in range(len(vocabulary))]
    # Sentences are drawn beforehand: a call takes some.
    rare = rng.choices(vocabulary, weights=weights, k=400_000)
    common = rng.choices(COMMON, k=400_000)
    shares = [end[3] for end in ENDS]
    ends = rng.choices(ENDS, weights=shares, k=calls)
    agents = rng.choices(AGENTS, weights=[40, 20, 15, 10, 6, 4, 3, 2], k=calls)
    for n in range(calls):
        at = int(started + n * step + rng.random() * step)
        yield line(rng, n, at, agents[n], ends[n], rare, common)


def stamp(ms):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ms / 1000)) + f".{ms % 1000:03d}Z"


def line(rng, n, at, agent, end, rare, common):
    reason, cls, answered, _ = end
    inbound, connects = rng.random() < 0.7, rng.random() < 0.35
    caller = ("anonymous" if rng.random() < 0.04 else number(rng)) if inbound else MAIN[0]
    callee = rng.choices(MAIN, weights=[80, 8, 6, 4, 2])[0] if inbound else number(rng)
    ring, talk = rng.randint(200, 20_000), rng.randint(4_000, 400_000) if answered else 0
    target = "dial" if connects and rng.random() < 0.5 else agent
    device = f"op{1 + int(DEVICES * rng.random()):02d}"
    media = {"packets_in": talk // 20, "packets_out": talk // 20, "bytes_in": talk * 8, "bytes_out": talk * 8, "lost": n % 7, "late": n % 3,
             "duplicates": 0, "reordered": 0, "foreign": 0, "bad_tags": 0, "jitter_ms": round(rng.random() * 8, 3),
             "rtt_ms": round(20 + rng.random() * 60, 3), "mos_in": round(2.8 + rng.random() * 1.6, 3), "mos_out": 4.2, "ring_drops": 0}
    turns, clock = [], 400.0
    for index in range(rng.randint(2, 8) if answered and target != "dial" else 0):
        place, length = rng.randrange(399_000), rng.randint(3, 14)
        said = " ".join(common[place : place + length // 2] + rare[place : place + length - length // 2])
        gap = None if index % 2 == 0 else round(250 + rng.random() * 400, 1)
        turns.append({"index": index, "who": "agent" if index % 2 else "caller", "text": said, "started_ms": clock, "ended_ms": clock + 1800.0,
                      "gap_ms": gap, "stages": {"speech_end_ms": clock, "endpoint_ms": clock + 300, "recogniser_ms": clock + 310,
                      "brain_ms": clock + 320, "voice_ms": clock + 330, "sent_ms": clock + 340}, "interrupted": False, "matched": None,
                      "confidence": 0.8, "by": "speech", "ahead": True})
        clock += 2600.0
    leg = {"leg": 2, "label": f"device {device}", "sip_call_id": f"{n:x}@host", "uri": f"sip:{device}@10.0.0.7", "peer": "10.0.0.7:5060",
           "transport": "udp", "answered_at": stamp(at + ring) if answered else None, "codec": "PCMA", "media": media if answered else None}
    return json.dumps({
        "call": f"{at:013x}-{n:07x}-call", "sip_call_id": f"{n:08x}@carrier.example", "direction": "inbound" if inbound else "outbound",
        "started_at": stamp(at), "answered_at": stamp(at + ring) if answered else None, "ended_at": stamp(at + ring + talk), "duration_ms": talk,
        "from": f"sip:{caller}@carrier.example", "to": f"sip:{callee}@omnivox.example", "peer": "192.0.2.1:5060", "transport": "udp",
        "target": target, "trunk": "carrier", "codec": "PCMA", "end": {"class": cls, "reason": reason, "detail": ""},
        "agent": {"recognizer": "sphinx", "brain": "script", "voice": "flite:rms", "turns": turns, "failures": []} if turns else None,
        "media": media if answered else None, "recording": None, "legs": [leg] if connects else []})


class Asker:
    """Somebody with a connection that stays open, and a login."""

    def __init__(self, base, cookie=None, csrf=None):
        self.host, self.cookie, self.csrf = urllib.parse.urlparse(base).netloc, cookie, csrf
        self.open = http.client.HTTPConnection(self.host, timeout=120)

    def ask(self, method, path, body=None):
        headers = {"content-type": "application/json"}
        headers.update({"cookie": self.cookie} if self.cookie else {})
        headers.update({"x-csrf-token": self.csrf} if self.csrf else {})
        begin = time.perf_counter()
        try:
            self.open.request(method, "/api/v1" + path, None if body is None else json.dumps(body), headers)
            answer = self.open.getresponse()
        except http.client.RemoteDisconnected:
            # The server closes what nobody has asked by for a while.
            self.open.close()
            begin = time.perf_counter()
            self.open.request(method, "/api/v1" + path, None if body is None else json.dumps(body), headers)
            answer = self.open.getresponse()
        text = answer.read()
        took = (time.perf_counter() - begin) * 1000
        if answer.status >= 400:
            raise SystemExit(f"{method} {path}: {answer.status} {text.decode()}")
        return took, json.loads(text) if text else None, answer

    def log_in(self, name):
        _, body, answer = self.ask("POST", "/session", {"name": name, "password": PASSWORD})
        self.cookie, self.csrf = answer.headers["set-cookie"].split(";")[0], body["csrf"]
        return self


def set_up(base, code):
    nobody = Asker(base)
    nobody.ask("POST", "/setup", {"code": code, "name": "ada", "display": "Ada", "password": PASSWORD})
    ada = Asker(base).log_in("ada")
    teams = [ada.ask("POST", "/teams", {"name": f"Team {n}"})[1]["id"] for n in range(TEAMS)]
    for n in range(1, DEVICES + 1):
        ada.ask("POST", "/devices", {"user": f"op{n:02d}", "password": "walrus-pedal"})
        user = {"name": f"op{n:02d}", "display": f"Operator {n}", "role": "operator", "team": teams[n % TEAMS], "device": f"op{n:02d}", "password": PASSWORD}
        ada.ask("POST", "/users", user)
    ada.ask("POST", "/users", {"name": "grace", "display": "Grace", "role": "supervisor", "team": teams[1], "password": PASSWORD})
    logins = {"administrator": "ada", "supervisor": "grace", "operator": "op01"}
    seats = {role: Asker(base).log_in(name) for role, name in logins.items()}
    print(json.dumps({role: [seat.cookie, seat.csrf] for role, seat in seats.items()}))


def rows(path, kinds, teams):
    """What a journal's lines come to in each table, as the server writes it (control/src/store/records/insert.rs, facets.rs)."""
    last, within = 0, 0
    with open(path) as lines:
        for text in lines:
            noted = json.loads(text)
            at, kind = read(noted["started_at"]), (noted["direction"], noted["target"], noted["end"]["class"], noted["end"]["reason"])
            number_of = kinds.setdefault(kind, len(kinds) + 1)
            party = [noted[side].split(":", 1)[1].split("@")[0] for side in ("from", "to")]
            media, turns = noted["media"] or {}, (noted["agent"] or {}).get("turns", [])
            gaps = sorted(turn["gap_ms"] for turn in turns if turn["gap_ms"] is not None)
            gap = (gaps[(len(gaps) - 1) // 2] + gaps[len(gaps) // 2]) / 2 if gaps else None
            devices = sorted({leg["label"].split(" ")[1] for leg in noted["legs"]})
            owners = [f"device/{device}" for device in devices] + sorted({f"team/{teams[device]}" for device in devices if device in teams})
            answered = noted["answered_at"] and read(noted["answered_at"])
            record = (noted["call"], at, answered, read(noted["ended_at"]), noted["duration_ms"], kind[0], *party, *kind[1:], noted["codec"],
                      None, media.get("mos_in"), gap, text.rstrip("\n"), number_of)
            facets = [f"@{name}{value.encode().hex()}" for name, value in zip("dtcrfe", (*kind, *party))]
            facets += [f"@w{name}{at >> bits}" for name, bits in zip("abcd", (22, 26, 30, 34))] + [f"@o{owner.encode().hex()}" for owner in owners]
            kinds_said = " ".join([f"k{number_of}"] + [f"k{number_of}o{owner.encode().hex()}" for owner in owners])
            within = within if at == last else 0
            said = []
            for turn in turns:
                within += 1
                said.append(((at << 20) + within, noted["call"], turn["index"], turn["who"], turn["text"], " ".join(facets), kinds_said, turn["started_ms"],
                             turn["ended_ms"], turn["gap_ms"]))
            last = at
            yield record, [(owner, at, noted["call"], number_of) for owner in owners], said


def read(stamp):
    return calendar.timegm(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S")) * 1000 + int(stamp[20:23])


TABLES = {
    "call_records": "call, started_at, answered_at, ended_at, duration_ms, direction, caller, callee, target, class, reason, codec, recording, mos_in, "
                    "gap_ms, record, kind",
    "call_owners": "owner, started_at, call, kind",
    "turns": "id, call, number, speaker, text, facets, kinds, started_ms, ended_ms, gap_ms",
    "call_kinds": "id, direction, target, class, reason",
}


def load_sqlite(database, path):
    base = sqlite3.connect(database)
    base.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000;")
    teams = dict(base.execute("SELECT device, team_id FROM users WHERE device IS NOT NULL"))
    places = "('" + "', '".join(TABLES) + "')"
    made = base.execute(f"SELECT type, name, sql FROM sqlite_master WHERE tbl_name IN {places} AND type IN ('index', 'trigger') AND sql IS NOT NULL").fetchall()
    for kind, name, _ in made:
        base.execute(f"DROP {kind} {name}")
    put = {table: f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(columns.split(',')))})" for table, columns in TABLES.items()}
    kinds = {}
    for some in batches(rows(path, kinds, teams)):
        base.executemany(put["call_records"], (row[0] for row in some))
        base.executemany(put["call_owners"], (owner for row in some for owner in row[1]))
        base.executemany(put["turns"], (turn for row in some for turn in row[2]))
    base.executemany(put["call_kinds"], ((n, *kind) for kind, n in kinds.items()))
    for _, _, sql in made:
        base.execute(sql)
    base.execute("INSERT INTO turn_words (turn_words) VALUES ('rebuild')")
    base.execute("DELETE FROM call_figures_filled")
    base.commit()
    base.close()


def load_postgres(database, path):
    def psql(sql, stdin=None):
        run = subprocess.run(["psql", "-qtA", "-v", "ON_ERROR_STOP=1", database, "-c", sql], input=stdin, capture_output=True, text=True)
        if run.returncode:
            raise SystemExit(run.stderr)
        return run.stdout.splitlines()

    teams = dict(line.split("|") for line in psql("SELECT device, team_id FROM users WHERE device IS NOT NULL"))
    places = "('" + "', '".join(TABLES) + "')"
    made = [line.split("|", 1) for line in psql("SELECT i.relname || '|' || pg_get_indexdef(i.oid) FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid "
            f"JOIN pg_class t ON t.oid = x.indrelid WHERE t.relname IN {places} AND NOT x.indisunique")]
    for name, _ in made:
        psql(f"DROP INDEX {name}")
    kinds = {}
    for some in batches(rows(path, kinds, teams)):
        for table, of in (("call_records", [row[0] for row in some]), ("call_owners", [o for row in some for o in row[1]]),
                          ("turns", [turn for row in some for turn in row[2]])):
            text = io.StringIO()
            csv.writer(text).writerows(of)
            psql(f"COPY {table} ({TABLES[table]}) FROM STDIN WITH (FORMAT csv)", text.getvalue())
    text = io.StringIO()
    csv.writer(text).writerows((n, *kind) for kind, n in kinds.items())
    psql(f"COPY call_kinds ({TABLES['call_kinds']}) FROM STDIN WITH (FORMAT csv)", text.getvalue())
    for _, sql in made:
        psql(f"SET maintenance_work_mem = '1GB'; {sql}")
    psql("DELETE FROM call_figures_filled")
    # What autovacuum does in its own time.
    psql("VACUUM ANALYZE")


def batches(all_rows, size=20_000):
    while some := list(itertools.islice(all_rows, size)):
        yield some


def cases(rng, vocabulary):
    """Name and filter of each list; what is drawn is another value each time."""
    day = 86_400_000
    begin = END_MS - DAYS * day

    def at(share):
        return stamp(int(begin + share * DAYS * day))

    frequent, seldom = vocabulary[0], vocabulary[3_000:]
    return [
        ("none", lambda: {}),
        ("from, until (a day)", lambda: (lambda s: {"from": at(s), "until": at(s + 1 / DAYS)})(rng.random() * 0.98)),
        ("direction=outbound", lambda: {"direction": "outbound"}),
        ("caller (one of many)", lambda: {"caller": number(rng)}),
        ("caller=anonymous (1 in 36)", lambda: {"caller": "anonymous"}),
        ("callee (one of many)", lambda: {"callee": number(rng)}),
        ("callee (5 in 9 of all)", lambda: {"callee": MAIN[0]}),
        ("target=desk", lambda: {"target": "desk"}),
        ("target=museum (1 in 60)", lambda: {"target": "museum"}),
        ("class=ok", lambda: {"class": "ok"}),
        ("class=our_fault (1 in 2,000)", lambda: {"class": "our_fault"}),
        ("reason=caller_hung_up", lambda: {"reason": "caller_hung_up"}),
        ("reason=provider_failed (1 in 670)", lambda: {"reason": "provider_failed"}),
        ("words, frequent (1 call in 4)", lambda: {"words": frequent}),
        ("words, most frequent (most calls)", lambda: {"words": "yes"}),
        ("words, seldom", lambda: {"words": rng.choice(seldom)}),
        ("words, two in one turn", lambda: {"words": f"yes {rng.choice(vocabulary[:400])}"}),
        ("words that nobody said", lambda: {"words": "Xylophon yes"}),
        ("direction, class=our_fault", lambda: {"direction": "outbound", "class": "our_fault"}),
        ("target, reason", lambda: {"target": rng.choice(AGENTS), "reason": rng.choice(ENDS)[0]}),
        ("class=ok, reason=internal (none)", lambda: {"class": "ok", "reason": "internal"}),
        ("caller=anonymous, class=our_fault", lambda: {"caller": "anonymous", "class": "our_fault"}),
        ("caller, callee", lambda: {"caller": number(rng), "callee": MAIN[0]}),
        ("caller=anonymous, callee (both many)", lambda: {"caller": "anonymous", "callee": MAIN[0]}),
        ("both many, together never", lambda: {"caller": MAIN[0], "callee": MAIN[0]}),
        ("callee (many), reason=busy, from", lambda: {"callee": MAIN[0], "reason": "busy", "from": at(0.5)}),
        ("words (frequent), class=our_fault", lambda: {"words": frequent, "class": "our_fault"}),
        ("words (yes), target, direction", lambda: {"words": "yes", "target": "museum", "direction": "outbound"}),
        ("words (yes), caller", lambda: {"words": "yes", "caller": number(rng)}),
        ("words (frequent), a day", lambda: (lambda s: {"words": frequent, "from": at(s), "until": at(s + 1 / DAYS)})(rng.random() * 0.98)),
        ("words (seldom), reason", lambda: {"words": rng.choice(seldom), "reason": "transferred"}),
    ]


def deep(seat, rng, wanted):
    """The cursor of a page far down, where there is one."""
    until = stamp(int(END_MS - (0.2 + 0.6 * rng.random()) * DAYS * 86_400_000))
    if "from" in wanted or "until" in wanted:
        return None
    path = "/call-records?" + urllib.parse.urlencode({**wanted, "until": until, "limit": 1})
    return seat.ask("GET", path)[1].get("next")


def spread(times):
    times = sorted(times)
    return f"{times[len(times) // 2]:.1f} / {times[int(len(times) * 0.95)]:.1f} / {times[-1]:.1f}", times[int(len(times) * 0.95)]


def worked(pid):
    """What a process's threads have worked, in ms of processor time: on a busy machine what a request costs, whoever it had to wait for."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        try:
            total += int(open(path).read().split()[0])
        except OSError:
            pass  # the thread has ended
    return total / 1e6


def ask(base, logins, calls, times, label, pid):
    seats = {role: Asker(base, *login) for role, login in json.loads(open(logins).read()).items()}
    rng, vocabulary = random.Random(11), words()
    over, dearest = [], []
    print(f"\n{label}: {calls} records; each {times} times, pages of 50, ms: median / p95 / worst\n")
    print("| filter | page | operator | supervisor | administrator |\n| --- | --- | --- | --- | --- |")
    for name, wanted in cases(rng, vocabulary):
        for page in ("first", "deep"):
            cells = []
            for role in ("operator", "supervisor", "administrator"):
                queries = []
                for _ in range(times):
                    query = wanted()
                    if page == "deep" and not (after := deep(seats[role], rng, query)):
                        continue
                    if page == "deep":
                        query["after"] = after
                    queries.append("/call-records?" + urllib.parse.urlencode(query))
                if len(queries) < times / 4:
                    cells.append("-")
                    continue
                before = worked(pid)
                taken = [seats[role].ask("GET", query)[0] for query in queries]
                dearest.append(((worked(pid) - before) / len(taken), f"{name}, {page} page, {role}"))
                text, p95 = spread(taken)
                cells.append(text)
                if p95 > 50:
                    over.append(f"{name}, {page} page, {role}: {text}")
            if any(cell != "-" for cell in cells):
                print(f"| {name} | {page} | {' | '.join(cells)} |", flush=True)
    figures(seats, pid)
    most = "; ".join(f"{what}: {cpu:.1f}" for cpu, what in sorted(dearest, reverse=True)[:8])
    print(f"\nms of the server's processor a list: {most}")
    print(f"\nover 50 ms at p95: {'; '.join(over) or 'none'}")
    return 1 if over else 0


def figures(seats, pid):
    asked = {"kpis by day": ("/kpis", {"by": "day"}), "kpis by day in Kolkata": ("/kpis", {"by": "day", "zone": "Asia/Kolkata"}),
             "kpis of one agent by day": ("/kpis", {"by": "day", "target": "desk"}),
             "report by agent": ("/reports/agents", {}), "report by device": ("/reports/users", {})}
    print("\n| figures, ms: median / p95 / worst (of the server's processor) | days | operator | supervisor | administrator |\n| --- | --- | --- | --- | --- |")
    for days in (30, 365):
        span = {"from": stamp(END_MS - days * 86_400_000), "to": stamp(END_MS)}
        for name, (path, more) in asked.items():
            cells = []
            for role in ("operator", "supervisor", "administrator"):
                before = worked(pid)
                taken = [seats[role].ask("GET", f"{path}?" + urllib.parse.urlencode({**span, **more}))[0] for _ in range(20)]
                cells.append(f"{spread(taken)[0]} ({(worked(pid) - before) / len(taken):.0f})")
            print(f"| {name} | {days} | {' | '.join(cells)} |", flush=True)


def insert(base, logins, journal, calls, pid):
    """What a call's end costs: `calls` come at once."""
    ada = Asker(base, *json.loads(open(logins).read())["administrator"])

    def used():
        part = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(part[11]) + int(part[12])) * 1000 / os.sysconf("SC_CLK_TCK")

    made = list(lines_of(time.time_ns(), calls, END_MS + 1_000, 1_000))
    last, before, begin = json.loads(made[-1])["call"], used(), time.perf_counter()
    with open(journal, "a") as out:
        out.writelines(text + "\n" for text in made)
    while ada.ask("GET", "/call-records?limit=1")[1]["items"][0]["call"] != last:
        time.sleep(0.05)
    took = time.perf_counter() - begin
    print(f"\n{calls} calls ended at once: in lists after {took:.1f} s, {took * 1000 / calls:.2f} ms each, of which {(used() - before) / calls:.2f} ms of the server's CPU")


def main(arguments):
    match arguments:
        case ["fill", path, calls, *seed]:
            fill(path, int(calls), int(seed[0]) if seed else 1)
        case ["set-up", base, code]:
            set_up(base, code)
        case ["load", database, path]:
            (load_postgres if database.startswith("postgres") else load_sqlite)(database, path)
        case ["insert", base, logins, journal, calls, pid]:
            insert(base, logins, journal, int(calls), pid)
        case ["ask", base, logins, calls, times, label, pid]:
            return ask(base, logins, calls, int(times), label, int(pid))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
