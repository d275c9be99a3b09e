# shellcheck shell=bash
# Servers in the background; sourced by scripts that set STATE, PIDS=() and a trap which kills these.

# child NAME COMMAND...: in the background, its log in STATE/NAME.log, its id in STATE/NAME.pid; it dies with the script,
# however that dies
child() {
  local name=$1
  shift
  setpriv --pdeathsig KILL "$@" >"$STATE/$name.log" 2>&1 </dev/null &
  PIDS+=($!)
  echo $! >"$STATE/$name.pid"
}

# die SENTENCE: with the logs, which are kept
die() {
  say "$1"
  tail -n 20 "$STATE"/*.log >&2 || true
  say "logs: $STATE"
  # shellcheck disable=SC2034 # the trap reads it
  KEEP=1
  exit 1
}
