# shellcheck shell=bash disable=SC2034
# What every script of the testbed starts with: where things are, how to report, when a piece is up to date.
set -euo pipefail
umask 022  # what is made here ends up in images
testbed=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
home=${NETPROOF_TESTBED_HOME:-$HOME/.cache/netproof-testbed}
[[ $home == /* ]] || home=$PWD/$home
programs=$home/programs
manifests=$home/manifests

# The engine belongs to the machine, not to one cache folder: another checkout's `up` finds it, and any `down` can stop it.
engine_home=/usr/local/lib/netproof-testbed  # not /run: the runtime wrapper in it must be executable
engine_pid=/run/netproof-testbed.pid         # gone after a reboot, as the engine is

say() { echo "testbed: $*" >&"${console:-2}"; }
die() { say "$*"; exit 1; }

# piece NAME: from here on all output goes to a log, whose end is shown if the script fails.
piece() {
    piece_name=$1 log=$home/log/$1.log
    mkdir -p "$home/log" "$home/keys"
    exec {console}>&2 >"$log" 2>&1
    trap 'status=$?; ((status == 0)) || { say "$piece_name failed; the end of $log:"; tail -n 20 "$log" >&$console; }' EXIT
}
building() { SECONDS=0; say "building $*"; }
built() { say "built $* in $SECONDS s"; }

# A key is a digest of all that a piece is made from. A piece whose recorded key is the present one is up to date, so
# a changed version, script or manifest rebuilds what depends on it, and a warm call costs next to nothing.
key() {  # key ABSOLUTE-PATH-OR-WORD...
    local input
    for input in "$@"; do
        if [[ $input == /* ]]; then find "$input" -type f -print0 | sort -z | xargs -0 cat; else echo "$input"; fi
    done | sha256sum | cut -c 1-16
}
current() { [[ $(cat "$home/keys/$1" 2>/dev/null) == "$2" ]]; }  # current NAME KEY
record() { echo "$2" >"$home/keys/$1"; }                         # record NAME KEY

fresh() { rm -rf "$1" && mkdir -p "$1" && echo "$1"; }  # fresh FOLDER: empty, whatever an interrupted call left in it

version() {  # version MODULE PATH: the version of PATH in go/MODULE/go.mod
    awk -v path="$2" '$1 == path && $2 ~ /^v/ { print $2; exit }' "$testbed/go/$1/go.mod"
}
export CGO_ENABLED=0 GOWORK=off  # static programs; and go/ is no part of a workspace that the checkout may lie in
go_build() {  # go_build MODULE TAGS LDFLAGS NAME=PACKAGE...: into $programs/MODULE, all in one call, which keeps every core busy
    local module=$1 tags=$2 ldflags=$3 key new pair package
    shift 3
    key=$(key "$testbed/go/$module" "$tags" "$ldflags" "$@")
    current "$module-${1%%=*}" "$key" && return
    building "${*%%=*}"
    mkdir -p "$programs/$module"
    new=$(fresh "$programs/new")
    go -C "$testbed/go/$module" build -trimpath -tags "$tags" -ldflags "-s -w $ldflags" -o "$new/" "${@#*=}"
    for pair in "$@"; do
        package=${pair#*=}
        [[ $package =~ /v[0-9]+$ ]] && package=${package%/*}  # as go names a program
        mv "$new/${package##*/}" "$programs/$module/${pair%%=*}"
    done
    rmdir "$new"
    record "$module-${1%%=*}" "$key"
    built "${*%%=*}"
}

# Images carry the key of what they were made from; a tag that comes from elsewhere carries none and is made anew.
label=netproof.testbed
have() {  # have KEY IMAGE...
    local found key=$1; shift
    found=$(docker image inspect -f "{{index .Config.Labels \"$label\"}}" "$@" 2>/dev/null) && [[ $(sort -u <<<"$found") == "$key" ]]
}
program_image() {  # program_image KEY IMAGE PROGRAM: nothing but one static program
    local name=${3##*/}
    tar -c --owner=0 --group=0 --transform='s,^,usr/local/bin/,' -C "${3%/*}" "$name" |
        docker import -c "LABEL $label=$1" -c 'ENV PATH=/usr/local/bin' -c "ENTRYPOINT [\"/usr/local/bin/$name\"]" - "$2"
}
