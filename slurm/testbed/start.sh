#!/usr/bin/env bash
# Starts a real one-node Slurm cluster on this machine (see README.md).
# Run it again at any time: it starts what is missing and leaves the rest alone.
set -euo pipefail
umask 022
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$here/common.sh"

node=gpu01
packages=(slurm-wlm slurmdbd mariadb-server munge)

install_packages() {
  local package missing=()
  for package in "${packages[@]}"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
      missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -y)
  local install=("${apt[@]}" install --no-install-recommends "${missing[@]}")
  { "${install[@]}" || { "${apt[@]}" update && "${install[@]}"; }; } >"$log/apt.log" 2>&1 </dev/null ||
    fail apt "cannot install ${missing[*]}"
}

configure() {
  local cpus mem def_mem
  cpus=$(nproc)
  ((cpus >= 2)) || cpus=2
  mem=$(awk '/^MemTotal:/ { print int($2 / 1024 * 0.9) }' /proc/meminfo)
  def_mem=$((mem / (2 * cpus)))
  ((def_mem <= 1024)) || def_mem=1024
  fill() { # fill TEMPLATE TARGET COMMUNICATION MODE
    sed -e "s|@STATE@|$state|g" -e "s|@COMM@|$3|; /^CommunicationParameters=\$/d" \
      -e "s|@NODE@|$node|" -e "s|@CPUS@|$cpus|g" -e "s|@MEM@|$mem|" \
      -e "s|@DEF_MEM@|$def_mem|" -e "s|@MAX_ARRAY_SIZE@|${MAX_ARRAY_SIZE:-1001}|" \
      -e "s|@ENFORCE@|${ENFORCE:-}|; /^AccountingStorageEnforce=\$/d" \
      "$here/$1" >"$2"
    chmod "$4" "$2"
  }
  # NoInAddrAny is for the daemons only: srun would listen on the real host name's address.
  fill slurm.conf.in "$etc/slurm.conf" "${comm#NoInAddrAny,}" 644
  fill slurm.conf.in "$etc/slurmd.conf" "$comm" 644
  fill slurmdbd.conf.in "$etc/slurmdbd.conf" "$comm" 600 # slurmdbd insists on the mode
  cp "$here/gres.conf" "$etc/gres.conf"
  # Commands without SLURM_CONF look here.
  mkdir -p "${system_conf%/*}"
  cp "$etc/slurm.conf" "$system_conf"
}

munge_answers() { munge -n -S "$run/munged.socket" | unmunge -S "$run/munged.socket"; }
mariadb_answers() { mariadb-admin --no-defaults -u root -S "$run/mysql.sock" status; }
node_up() { sinfo -h -N -n "$node" -o %T | grep -qxE 'idle|mixed|allocated|completing'; }
healthy() {
  local daemon
  for daemon in "${daemons[@]}"; do pid_of "$daemon" || return 1; done
  cmp "$etc/slurm.conf" "$system_conf" && munge_answers && mariadb_answers &&
    node_up && squeue -h && sacctmgr -n -i list cluster && sacct -n -X
}
limit() { sed -n 's/^MaxArraySize=//p' "$etc/slurm.conf"; }
report() { # one line
  local note=
  [[ -n $comm ]] || note=" (daemons listen on every address: see README.md)"
  echo "testbed $1: cluster testbed, node $node, $(sinfo -h -N -n "$node" -p gpu -o '%c CPUs, %m MB, %G')," \
    "MaxArraySize $(limit), state in $state$note"
}

((EUID == 0)) || die "must run as root: sudo bash $0"
[[ -e /etc/debian_version ]] || die "knows only Debian and its relatives: run it in a Debian container"
[[ ${MAX_ARRAY_SIZE:-1001} =~ ^[1-9][0-9]*$ ]] || die "MAX_ARRAY_SIZE must be a number, not '$MAX_ARRAY_SIZE'"
if [[ -e $system_conf ]]; then
  [[ $(head -n 1 "$system_conf") == "$mark"* ]] ||
    die "$system_conf was not written by the testbed: move it away first"
  other=$(sed -n '2s/^# state folder: //p' "$system_conf")
  [[ $other == "$state" || ! -d $other ]] ||
    die "another testbed is there: CALTECH_EXP_TESTBED=$other bash $here/stop.sh first"
fi
if [[ ! -e $owned && -n $(ls -A "$state" 2>/dev/null) ]]; then
  die "$state is not empty and not the testbed's: set CALTECH_EXP_TESTBED to another folder"
fi
mkdir -p "$etc" "$run" "$log" "$state/state" "$state/spool"
touch "$owned"
install_packages

running=0
for daemon in "${daemons[@]}"; do ! pid_of "$daemon" >/dev/null || running=1; done
if ((running)) && [[ -n ${MAX_ARRAY_SIZE:-} && $(limit) != "$MAX_ARRAY_SIZE" ]]; then
  die "it runs with MaxArraySize $(limit), not $MAX_ARRAY_SIZE: bash $here/stop.sh first"
fi
if healthy >/dev/null 2>&1 </dev/null; then
  report "already running"
  exit 0
fi
# Daemons that still run keep the configuration they were started with.
if ! { ((running)) && cmp -s "$etc/slurm.conf" "$system_conf"; }; then configure; fi

[[ -s $run/key ]] || (umask 077 && head -c 1024 /dev/urandom >"$run/key")
ensure munged munged --foreground --force --origin=127.0.0.1 --key-file="$run/key" \
  --socket="$run/munged.socket" --pid-file="$run/munged.self" --seed-file="$run/munged.seed"

if [[ ! -d $state/mysql ]]; then # moved into place when complete: a killed start leaves no half
  rm -rf "$state/mysql.new"
  mariadb-install-db --no-defaults --user=root --datadir="$state/mysql.new" --skip-test-db \
    --auth-root-authentication-method=socket --skip-name-resolve >"$log/mariadbd.out" 2>&1 </dev/null ||
    fail mariadbd "cannot create its data folder"
  mv "$state/mysql.new" "$state/mysql"
fi
# slurmdbd wants the long lock wait; --user=root because the state folder is root's.
ensure mariadbd mariadbd --no-defaults --user=root --datadir="$state/mysql" --skip-networking \
  --socket="$run/mysql.sock" --pid-file="$run/mariadbd.self" --log-error="$log/mariadbd.log" \
  --innodb-lock-wait-timeout=900
await munged 10 munge_answers
await mariadbd 30 mariadb_answers

ensure slurmdbd slurmdbd -D
await slurmdbd 30 sacctmgr -n -i list cluster
# The cluster must be known before slurmctld first speaks to slurmdbd.
[[ -n $(sacctmgr -n -P list cluster testbed format=cluster) ]] ||
  sacctmgr -i add cluster testbed >>"$log/slurmdbd.out" 2>&1 || fail slurmdbd "cannot add the cluster"
if [[ -z $(sacctmgr -n -P list assoc user=root account=testbed format=user) ]]; then
  { sacctmgr -i add account testbed cluster=testbed &&
    sacctmgr -i add user root account=testbed &&
    sacctmgr -i modify user root set defaultaccount=testbed; } >>"$log/slurmdbd.out" 2>&1 ||
    fail slurmdbd "cannot add the account"
fi

ensure slurmctld slurmctld -D -f "$etc/slurm.conf"
await slurmctld 30 squeue -h
ensure slurmd slurmd -D -f "$etc/slurmd.conf" -N "$node"
await slurmd 30 node_up
await slurmdbd 10 sacct -n -X
report started
