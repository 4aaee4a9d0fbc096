# Sourced by scripts/release: calls of every kind, for a program that counts what it does.

training_pids=()

stop_training() {
  local pid
  for pid in "${training_pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${training_pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  training_pids=()
}

# training_server PROGRAM NAME ARGUMENTS...: starts one in $work/NAME; sets $ready, the line that says where it listens.
training_server() {
  local program=$1 name=$2 pid
  shift 2
  : >"$work/$name.log"
  "$program" serve --config "$work/$name.toml" --set "data.dir=$work/$name" --set http.listen=127.0.0.1:0 --set log.level=warn --set calls.max=10000 \
    "$@" 2>"$work/$name.log" &
  pid=$!
  training_pids+=("$pid")
  until ready=$(grep '^ready:' "$work/$name.log"); do
    kill -0 "$pid" 2>/dev/null || { cat "$work/$name.log" >&2; return 1; }
    sleep 0.1
  done
}

# listens TRANSPORT: where the server listens that was started last.
listens() { sed -n "s/.* $1:\([^ ]*\).*/\1/p" <<<"$ready"; }

# train PROGRAM CALLER FOLDER: most of it is what most servers do most, setting calls up and ending them; the sound is in tight loops anyway, which counts change
# little of. CALLER is sip/examples/call.
train() {
  local program=$1 caller=$2 work=$3 carrier udp tcp tls http
  cat >"$work/carrier.toml" <<'TOML'
[[routes]]
from = ["anyone"]
to = "echo"
TOML
  training_server "$program" carrier --set 'sip.listen=["udp:127.0.0.1:0"]'
  carrier=$(listens udp)
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1 \
    -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
  cat >"$work/server.toml" <<TOML
[[trunks]]
name = "carrier"
hosts = ["$carrier"]
addresses = ["127.0.0.1"]
ping_s = 0

[[routes]]
from = ["trunk carrier"]
called = "+49*"
to = "trunk carrier"
TOML
  training_server "$program" server --set 'sip.listen=["udp:127.0.0.1:0", "tcp:127.0.0.1:0", "tls:127.0.0.1:0"]' \
    --set "tls.certificates=[\"$work/cert.pem\"]" --set "tls.keys=[\"$work/key.pem\"]"
  udp=$(listens udp) tcp=$(listens tcp) tls=$(listens tls) http=$(listens http)
  until curl -fs "http://$http/readyz" >/dev/null; do sleep 0.2; done
  # RATE CALLS: many at once, and few, by which things are done one after another.
  local of
  for of in "300 6000" "40 600"; do "$caller" "sip:echo@$udp" $of "$work/cert.pem" >&2; done
  "$caller" "sip:+4930123@$udp" 120 2400 "$work/cert.pem" >&2
  "$caller" "sip:echo@$tcp;transport=tcp" 200 1500 "$work/cert.pem" >&2
  "$caller" "sips:echo@$tls" 200 1500 "$work/cert.pem" >&2
  "$program" load "sip:echo@$udp" --calls 40 --rate 20 --hold 4 >&2
  "$program" load "sip:+4930123@$udp" --calls 10 --rate 20 --hold 3 >&2
  "$program" load "sip:echo@$udp" --calls 10 --rate 20 --hold 3 --codec opus >&2
  "$program" load "sip:echo@$tcp;transport=tcp" --calls 10 --rate 20 --hold 3 --srtp sdes >&2
  "$program" load "sip:agent@$udp" --calls 4 --rate 2 --hold 8 --expect sound --press 123 >&2
  for _ in $(seq 30); do curl -fs "http://$http/metrics" "http://$http/readyz" >/dev/null; done
  stop_training
}
