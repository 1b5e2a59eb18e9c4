# Runs in the new namespaces, as their first process. $1: the folder that may be written to, $2: whether the rest is made
# read-only; then the command. It waits until the process outside has looked whether it is isolated.
sandbox=$1; protect=$2; shift 2
ip link set lo up 2>/dev/null
# What listens on Unix sockets of this machine does so here.
mount -t tmpfs -o mode=755,size=64m relight-sandbox /run || exit 125
if [ "$protect" = yes ]; then
    mount --bind "$sandbox" "$sandbox" || exit 125
    while read -r _ at _; do
        at=$(printf '%b' "$at")
        case $at in
            "$sandbox" | /run | /run/* | /proc | /proc/* | /dev | /dev/* | /sys | /sys/*) ;;
            *) mount -o remount,bind,ro "$at" 2>/dev/null ;;
        esac
    done </proc/self/mounts
fi
cd "$sandbox" || exit 125
# Mounting leaves notes of its own.
rm -rf /run/mount
mkdir /run/.relight-ready && mount -n -t tmpfs -o size=4k relight-ready /run/.relight-ready || exit 125
read -r go && [ "$go" = go ] || exit 125
exec "$@" </dev/null
