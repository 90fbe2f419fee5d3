# shellcheck shell=bash
# shellcheck disable=SC2034 # used by the scripts that read this file
# Shared by start.sh and stop.sh: where things are, which processes are ours, how one is started.

state=${CALTECH_EXP_TESTBED:-/var/tmp/caltech-exp-testbed}
etc=$state/etc
run=$state/run
log=$state/log
system_conf=/etc/slurm/slurm.conf
mark='# caltech-exp testbed: generated' # how every generated file begins
owned=$state/.caltech-exp-testbed       # proof that the folder is ours to delete
daemons=(munged mariadbd slurmdbd slurmctld slurmd)

die() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# sed puts the path into files, a socket's path has at most 107 bytes, and stop.sh deletes it.
[[ $state =~ ^/[A-Za-z0-9_./+-]{2,80}$ && $state != */ && $state != *..* ]] ||
  die "CALTECH_EXP_TESTBED must be an absolute path of at most 80 plain characters, not '$state'"

# The caller's Slurm settings (another cluster, an output format) must not reach our checks.
for variable in "${!SLURM_@}" "${!SBATCH_@}" "${!SINFO_@}" "${!SQUEUE_@}" "${!SACCT_@}" "${!SCANCEL_@}"; do
  unset "$variable"
done
export SLURM_CONF=$etc/slurm.conf

# ours PID NAME: is PID still the process we started? Pids are reused, so look at it.
ours() {
  [[ $(cat "/proc/$1/comm" 2>/dev/null) == "$2" ]] &&
    grep -qzxF "CALTECH_EXP_TESTBED=$state" "/proc/$1/environ" 2>/dev/null
}

# pid_of DAEMON: prints its pid if it runs.
pid_of() {
  local pid
  pid=$(cat "$run/$1.pid" 2>/dev/null) || return 1
  [[ $pid =~ ^[0-9]+$ ]] && ours "$pid" "$1" && echo "$pid"
}

# fail DAEMON WHAT: one line that names the log, then the log's end.
fail() {
  local file=$log/$1.log
  [[ -s $file ]] || file=$log/$1.out
  echo "${0##*/}: $1 $2; log: $file" >&2
  tail -n 15 "$file" >&2 2>/dev/null || true
  exit 1
}

# Slurm's daemons listen on the address of the machine's name, or on every
# address. In a host name space of their own the name is "localhost", so they
# stay on loopback and need no entry in /etc/hosts.
as_localhost=(unshare --uts sh -c 'hostname localhost && exec "$@"' sh)
comm=NoInAddrAny,NoCtldInAddrAny
if ! "${as_localhost[@]}" true 2>/dev/null; then # a container that may not do this
  as_localhost=()
  [[ $(getent ahostsv4 "$(uname -n)" | awk 'NR == 1 { print $1 }') == 127.0.0.1 ]] || comm=
fi

# launch DAEMON COMMAND...: in the background, in its own session, with a clean
# environment and none of the caller's open files (a held pipe would hang the caller).
launch() {
  local name=$1 file
  shift
  (
    for file in /proc/self/fd/*; do
      file=${file##*/}
      ((file <= 2)) || exec {file}>&-
    done
    cd /
    exec setsid env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
      "CALTECH_EXP_TESTBED=$state" "SLURM_CONF=$SLURM_CONF" \
      "MYSQL_UNIX_PORT=$run/mysql.sock" "${as_localhost[@]}" "$@"
  ) </dev/null >"$log/$name.out" 2>&1 &
  echo $! >"$run/$name.pid"
}

# ensure DAEMON COMMAND...: starts it unless it runs, after clearing what a killed one left.
ensure() {
  ! pid_of "$1" >/dev/null || return 0
  rm -f "$run/$1."*
  launch "$@"
}

# await DAEMON SECONDS COMMAND...: until COMMAND succeeds; gives up at once if the daemon ends.
await() {
  local name=$1 deadline=$((SECONDS + $2))
  shift 2
  until "$@" >/dev/null 2>&1 </dev/null; do
    kill -0 "$(cat "$run/$name.pid")" 2>/dev/null || fail "$name" "ended while starting"
    ((SECONDS < deadline)) || fail "$name" "does not answer"
    sleep 0.1
  done
}
