#!/bin/sh
# Holds the machine's one mesh: waits until no other runs, clears what a killed one left, says so, and clears up once
# standard input ends, which it does with the process that holds the other end.
set -u
run=$1
trap '' HUP INT TERM

clear_up() {
  for namespace in $(ip netns list | awk '$1 ~ /^meltemi-/ { print $1 }'); do
    # A process that is being killed may have started another.
    for _ in 1 2 3 4 5; do
      pids=$(ip netns pids "$namespace")
      [ -n "$pids" ] || break
      kill -KILL $pids
    done
    ip netns delete "$namespace"
  done
  while mountpoint -q "$run"; do umount --lazy "$run" || break; done
  rm -rf "$run"
} 2> /dev/null

mkdir -p /run/lock
exec 9> /run/lock/meltemi-mesh
flock --nonblock 9 || { echo 'another mesh runs on this machine: waiting for its end' >&2; flock 9; }
clear_up
mkdir -p "$run"
mount -t tmpfs -o mode=755 meltemi-mesh "$run" || exit
echo ready
cat > /dev/null
clear_up
