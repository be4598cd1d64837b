#!/bin/sh
# A Slurm of one node around a command: tests/helpers/one_node_slurm.sh FOLDER COMMAND...
# Needs root (or unprivileged user namespaces) and Debian's slurmctld, slurmd, slurm-client, munge.
# Daemons, jobs and the command share a host name, a network and process numbers of their own, so
# that nothing of it meets a real Slurm, and nothing is left when the command has ended. FOLDER
# keeps configuration, state and the daemons' logs; job numbers begin with 1 each time.
set -eu

if [ "${1:-}" != --inside ]; then
    mkdir -p "$1"
    users=""
    [ "$(id -u)" = 0 ] || users=--map-root-user
    # shellcheck disable=SC2086
    exec unshare $users --mount --uts --net --pid --fork --kill-child --mount-proc \
        "$0" --inside "$(realpath "$1")" "$@"
fi
folder=$2 # credentials expire soon, because a job that is queued again starts only after that
shift 3 # --inside, the folder, the folder as typed

trap 'exit 143' TERM # the first process of a namespace ignores what it does not trap
hostname one
ip link set lo up
ip address add 10.0.0.1/32 dev lo # a network of nothing but 127.0.0.1 counts as none
echo "127.0.0.1 localhost
10.0.0.1 one" >"$folder/hosts"
mount --bind "$folder/hosts" /etc/hosts
export SLURM_CONF="$folder/slurm.conf"
cat >"$SLURM_CONF" <<CONF
ClusterName=one
SlurmctldHost=one(10.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket,cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobRequeue=1
KillWait=15
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SlurmctldDebug=info
SlurmdDebug=info
NodeName=one NodeAddr=10.0.0.1 CPUs=$(nproc --all) State=UNKNOWN
PartitionName=main Nodes=one Default=YES MaxTime=INFINITE State=UP
CONF
rm -rf "$folder/state" "$folder/spool" # each start is a new Slurm: the last ended in mid-air
mkdir -p "$folder/state" "$folder/spool" "$folder/bin"
# Without a database of accounts sacct knows nothing; submitit asks it what has become of jobs.
cat >"$folder/bin/sacct" <<'SACCT'
#!/bin/sh
echo "JobID|State|NodeList"
scontrol --oneliner show job | awk '{
    split("", job)
    for (k = 1; k <= NF; k++) { at = index($k, "="); job[substr($k, 1, at - 1)] = substr($k, at + 1) }
    id = job["JobId"]; task = job["ArrayTaskId"]
    if (task != "") id = job["ArrayJobId"] "_" (task ~ /^[0-9]+$/ ? task : "[" task "]")
    print id "|" job["JobState"] "|" job["NodeList"]
}'
SACCT
chmod +x "$folder/bin/sacct"
export PATH="$folder/bin:$PATH"
(umask 077 && head -c 128 /dev/urandom >"$folder/munge.key")
munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
    --pid-file="$folder/munge.pid" --log-file="$folder/munge.log" --seed-file="$folder/munge.seed"
slurmctld
slurmd
waited=0
until [ "$(sinfo --noheader --format=%t 2>/dev/null)" = idle ]; do
    waited=$((waited + 1))
    if [ "$waited" -gt 300 ]; then
        echo "Slurm's node did not get ready within 60 seconds; see $folder/*.log" >&2
        exit 69
    fi
    sleep 0.2
done
"$@"
