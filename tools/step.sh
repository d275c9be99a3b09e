#!/usr/bin/env bash
# step.sh NAME COMMAND...: says what begins, runs it with its output shown, says how long it took.
set -euo pipefail
name=$1
shift
echo "==> $name"
start=$SECONDS
rc=0
"$@" || rc=$?
if [ "$rc" = 0 ]; then echo "    $name: $((SECONDS - start)) s"; else echo "    $name: failed after $((SECONDS - start)) s" >&2; fi
exit "$rc"
