#!/usr/bin/env bash
# Stops the testbed that start.sh started: its jobs, its daemons, its files; nothing else.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$here/common.sh"

# wait_until SECONDS COMMAND...
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.1
  done
}
no_jobs() { [[ -z $(timeout 5 squeue -h -o %A 2>/dev/null) ]]; }
gone() { ! pid_of "$1" >/dev/null; }

if [[ ! -e $owned ]]; then
  echo "testbed: nothing to stop in $state"
  exit 0
fi
((EUID == 0)) || die "must run as root: sudo bash $0"

if pid_of slurmctld >/dev/null; then
  mapfile -t jobs < <(timeout 5 squeue -h -o %A 2>/dev/null | sort -u)
  if ((${#jobs[@]})); then
    timeout 10 scancel "${jobs[@]}" 2>/dev/null || true
    wait_until 15 no_jobs || echo "stop.sh: some jobs did not end; killing them" >&2
  fi
fi

for daemon in slurmd slurmctld slurmdbd mariadbd munged; do
  if pid=$(pid_of "$daemon"); then
    kill "$pid" 2>/dev/null || true
    wait_until 10 gone "$daemon" || kill -KILL "$pid" 2>/dev/null || true
  fi
done

# What is left of jobs (slurmctld was dead, or they would not end): a job and
# its slurmstepd carry slurmd's SLURM_CONF in their environment.
for process in /proc/[0-9]*; do
  if grep -qzxF "SLURM_CONF=$etc/slurmd.conf" "$process/environ" 2>/dev/null; then
    kill -KILL "${process#/proc/}" 2>/dev/null || true
  fi
done

if [[ $(head -n 2 "$system_conf" 2>/dev/null) == "$mark"*$'\n'"# state folder: $state" ]]; then
  rm -f "$system_conf"
fi
rm -rf "${state:?}"
echo "testbed stopped"
