# Sourced by scripts/release, after server.sh: calls of every kind, for a program that counts what it does.

# train PROGRAM CALLER: most of it is what most servers do most, setting calls up and ending them; the sound is in tight loops anyway, which counts change
# little of. CALLER is sip/examples/call.
train() {
  local program=$1 caller=$2 udp tcp tls http of
  local settings=(--set log.level=warn --set calls.max=10000)
  printf '[[routes]]\nfrom = ["anyone"]\nto = "echo"\n' >"$work/carrier.toml"
  start_server "$program" carrier --config "$work/carrier.toml" "${settings[@]}"
  from_carrier_to "$(listens udp)" >"$work/server.toml"
  certificate
  start_server "$program" server --config "$work/server.toml" "${settings[@]}" \
    --set 'sip.listen=["udp:127.0.0.1:0", "tcp:127.0.0.1:0", "tls:127.0.0.1:0"]' \
    --set "tls.certificates=[\"$work/cert.pem\"]" --set "tls.keys=[\"$work/key.pem\"]"
  udp=$(listens udp) tcp=$(listens tcp) tls=$(listens tls) http=$(listens http)
  until curl -fs "http://$http/readyz" >/dev/null; do sleep 0.2; done
  # RATE CALLS: many at once, and few, by which things are done one after another.
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
  stop_servers
}
