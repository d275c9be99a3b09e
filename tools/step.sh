#!/usr/bin/env bash
# step.sh NAME COMMAND...: says what begins, runs it with its output shown, says how long it took. The file that
# HOOKWRIGHT_STEPS names gets a line with the same.
set -euo pipefail
name=$1
shift
echo "==> $name"
start=$SECONDS
rc=0
"$@" || rc=$?
took=$((SECONDS - start))
if [ "$rc" = 0 ]; then echo "    $name: $took s"; else echo "    $name: failed after $took s" >&2; fi
[ -z "${HOOKWRIGHT_STEPS:-}" ] || printf '%6s s  %s\n' "$took" "$name" >>"$HOOKWRIGHT_STEPS"
exit "$rc"
