#!/bin/sh
# A build of 60 parts, one a second, with what makes real builds hard to stop: a watcher that has left the session and
# ignores SIGTERM, and for each part a compiler that runs a compiler. BUILD_PARTS (60) makes it shorter.
set -eu
parts=${BUILD_PARTS:-60}

mkdir -p public
setsid sh -c 'trap "" TERM; while sleep 1; do :; done' watcher >/dev/null 2>&1 &
watcher=$!
trap 'kill -KILL "-$watcher"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

part=1
while [ "$part" -le "$parts" ]; do
    echo "Compiling part $part of $parts..."
    sh -c 'sh -c "sleep 1; :"; :'
    echo "<li>part $part, of ${SAFEPOINT_RELEASE:-v0}" >>public/index.html
    part=$((part + 1))
done
echo "Built all $parts parts."
