#!/bin/sh
# Sends a campaign from a script, and does what its exit code says:
#
#     nightly.sh CAMPAIGN
#
# The codes are a contract (`wabcast campaign start --help`, README). Run it again after any of
# them: nobody is messaged twice.
set -u
campaign=${1:?usage: nightly.sh CAMPAIGN}

wabcast campaign start "$campaign" --yes --quiet >/dev/null
code=$?

case $code in
0)
    echo "$campaign: everybody was sent to"
    ;;
3)
    # Completed, but not for everybody: keep who and why, ready to be imported again.
    wabcast campaign recipients "$campaign" --csv \
        --status failed --status in_doubt --status skipped >"$campaign-open.csv"
    echo "$campaign: completed; who did not get it is in $campaign-open.csv"
    ;;
4)
    # A window, a daily cap, a signal, a breaker. `wabcast run` goes on by itself where the
    # pause says until when; a person's pause waits for the person.
    echo "$campaign: stopped before the end; go on with: wabcast campaign resume '$campaign'"
    ;;
5)
    echo "$campaign: refused, nothing was sent: wabcast campaign check '$campaign'" >&2
    ;;
10)
    echo "there is no campaign called $campaign" >&2
    ;;
11)
    echo "$campaign: another process is sending it"
    code=0
    ;;
12)
    echo "$campaign: the disk is full or the database cannot be written" >&2
    ;;
*)
    echo "$campaign: exit code $code: wabcast doctor" >&2
    ;;
esac
exit "$code"
