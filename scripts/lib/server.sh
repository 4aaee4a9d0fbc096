# Sourced by the scripts: servers on loopback, each in a folder of its own in $work, until `stop_servers`.

servers=()

# What else runs for them (other people's programs) goes to `servers` too.
stop_servers() {
  local pid
  for pid in "${servers[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${servers[@]}"; do wait "$pid" 2>/dev/null || true; done
  servers=()
}

# start_server PROGRAM NAME ARGUMENTS...: sets $server, its process, and $ready, the line that says where it listens.
start_server() {
  local program=$1 name=$2
  shift 2
  # Empty before it is looked at: a server of that name may have run before.
  : >"$work/$name.log"
  "$program" serve --set 'sip.listen=["udp:127.0.0.1:0"]' --set http.listen=127.0.0.1:0 --set "data.dir=$work/$name" "$@" 2>"$work/$name.log" &
  server=$!
  servers+=("$server")
  until ready=$(grep '^ready:' "$work/$name.log"); do
    kill -0 "$server" 2>/dev/null || { cat "$work/$name.log" >&2; exit 1; }
    sleep 0.02
  done
}

# listens TRANSPORT: where the server listens that was started last.
listens() { sed -n "s/.* $1:\([^ ]*\).*/\1/p" <<<"$ready"; }

# certificate: one for 127.0.0.1, of its own authority: $work/cert.pem and $work/key.pem.
certificate() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1 \
    -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
}

# from_carrier_to HOST: configuration by which calls that come from a carrier on this machine go out to one at HOST, where they are to +49 and so on.
from_carrier_to() {
  cat <<TOML
[[trunks]]
name = "carrier"
hosts = ["$1"]
addresses = ["127.0.0.1"]
ping_s = 0

[[routes]]
from = ["trunk carrier"]
called = "+49*"
to = "trunk carrier"
TOML
}
