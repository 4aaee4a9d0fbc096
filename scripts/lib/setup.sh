# Sourced by the scripts: installs what a bare Debian 12 machine lacks, and says what it does meanwhile.
# Everything built goes to $CARGO_TARGET_DIR, by default outside the checkout, so that a fresh clone builds quickly.

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/omnivox/target}"

say() { printf '\n== %s\n' "$*" >&2; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null; then sudo "$@"; else
    echo "$0: needs root for: $*. Run that by hand, then call me again." >&2
    return 1
  fi
}

# packages NAME...: installs those Debian packages that are missing.
packages() {
  local missing=() name
  for name in "$@"; do
    dpkg-query -W -f '${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  command -v apt-get >/dev/null || { echo "$0: this is no Debian: install the like of: ${missing[*]}" >&2; return 1; }
  say "installing Debian packages: ${missing[*]}"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# What building takes: compilers, and the libraries the voice, the ear and the microphone link to.
build_packages() {
  packages build-essential cmake pkg-config clang libclang-dev mold curl ca-certificates \
    libasound2-dev flite1-dev libpocketsphinx-dev libsphinxbase-dev pocketsphinx-en-us espeak-ng
}

rust_toolchain() {
  [ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
  local wanted have
  wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
  if ! command -v cargo >/dev/null; then
    say "installing Rust by rustup (cargo was not found)"
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --component clippy --component rustfmt
    . "$HOME/.cargo/env"
  fi
  have=$(rustc --version | cut -d ' ' -f 2)
  if [ "$(printf '%s\n%s\n' "$wanted" "$have" | sort -V | head -n 1)" != "$wanted" ]; then
    echo "$0: Rust $wanted or newer is needed and this is $have: run 'rustup update stable'" >&2
    return 1
  fi
}

# Node for the dashboard, 20.19 or newer: Debian 12's own is older, so that it comes from the package registry, for this project alone.
node_for_dashboard() {
  local folder="${CARGO_TARGET_DIR%/*}/node" fits='const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)'
  if command -v npm >/dev/null && node -e "$fits"; then return 0; fi
  command -v npm >/dev/null || packages nodejs npm
  if [ ! -x "$folder/node_modules/.bin/node" ]; then
    say "installing Node for the dashboard (npm package)"
    npm install --silent --no-audit --no-fund --no-package-lock --prefix "$folder" node@22
  fi
  export PATH="$folder/node_modules/.bin:$PATH"
}

# A PostgreSQL server of the tests' own, on a socket in a folder of its own, gone when the script ends; its address goes to
# OMNIVOX_TEST_POSTGRES. What it stores need not outlive a power cut.
test_postgres() {
  packages postgresql postgresql-common
  local bin runner=()
  bin=$(find /usr/lib/postgresql -path '*/bin/initdb' | sort -V | tail -n 1 | xargs dirname)
  OMNIVOX_TEST_POSTGRES_DIR=$(mktemp -d)
  # It refuses to run as root.
  if [ "$(id -u)" = 0 ]; then
    chown postgres "$OMNIVOX_TEST_POSTGRES_DIR"
    runner=(runuser -u postgres --)
  fi
  trap 'stop_test_postgres' EXIT
  "${runner[@]}" "$bin/initdb" -D "$OMNIVOX_TEST_POSTGRES_DIR/data" -U postgres -A trust -E UTF8 --no-sync >/dev/null
  (cd / && "${runner[@]}" "$bin/pg_ctl" -D "$OMNIVOX_TEST_POSTGRES_DIR/data" -w -s -l "$OMNIVOX_TEST_POSTGRES_DIR/log" \
    -o "-k $OMNIVOX_TEST_POSTGRES_DIR -c listen_addresses= -c fsync=off -c max_connections=400" start)
  export OMNIVOX_TEST_POSTGRES="postgres://postgres@localhost/postgres?host=$OMNIVOX_TEST_POSTGRES_DIR"
}

stop_test_postgres() {
  local pid="$OMNIVOX_TEST_POSTGRES_DIR/data/postmaster.pid"
  [ -f "$pid" ] && as_root kill -INT "$(head -n 1 "$pid")" 2>/dev/null
  as_root rm -rf "$OMNIVOX_TEST_POSTGRES_DIR"
}
