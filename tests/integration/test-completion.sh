#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Asks bash what it would complete, with the file that is installed.
#
# usage: test-completion.sh HOLDFAST
set -u
holdfast=$(realpath "$1")
root=$(realpath "$(dirname "$0")/../..")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/vms" "$work/run" "$work/state"
ln -s "$holdfast" "$work/bin/holdfast"
touch "$work/vms/web.conf" "$work/vms/wiki.conf" "$work/vms/db.conf"
mkdir -p "$work/state/web/frozen/3fa20c11"
export PATH="$work/bin:$PATH" HOLDFAST_VMS_DIR="$work/vms" HOLDFAST_RUN_DIR="$work/run" \
	HOLDFAST_STATE_DIR="$work/state"
# shellcheck source=/dev/null
. "$root/data/completion/holdfast"

echo 1..17
n=0 failed=0
# completes WANTED WORD...: the last word is the one that is typed; WANTED and what is offered are sorted.
completes() {
	local wanted=$1 got
	shift
	COMP_LINE="$*"
	COMP_POINT=${#COMP_LINE}
	_holdfast
	got=$(printf '%s\n' ${COMPREPLY[@]+"${COMPREPLY[@]}"} | sort | tr '\n' ' ')
	n=$((n + 1))
	if [ "${got% }" = "$wanted" ]; then
		echo "ok $n - $*"
	else
		echo "not ok $n - $*"
		echo "# offered: $got"
		echo "# wanted:  $wanted"
		failed=1
	fi
}

completes "standby start status stop" holdfast st
completes "freeze" holdfast free
completes "wiki" holdfast stop wi
completes "db web web@3fa20c11 wiki" holdfast status ""
completes "web@3fa20c11" holdfast release ""
completes "3fa20c11" holdfast offload web@
completes "3fa20c11" holdfast status web@3f
completes "--json" holdfast list --js
completes "--no-wait" holdfast stop web --no
completes "corrected fatal info recoverable" holdfast freeze web --severity ""
completes "" holdfast freeze web --reason ""
completes "pacemaker" holdfast start web --manager ""
completes "acquire await" holdfast lease a
completes "check-cluster check-config" holdfast help check
completes "--strict" holdfast check-cluster --str
completes "" holdfast nonsense ""
completes "--lease" holdfast run web --leas
exit $failed
