#!/bin/sh
# Written by `pillarbox service install`, which writes it anew; settings belong into /etc/default/pillarbox.
### BEGIN INIT INFO
# Provides:          pillarbox mail-transport-agent
# Required-Start:    $remote_fs $network
# Required-Stop:     $remote_fs $network
# Should-Start:      $syslog $named
# Should-Stop:       $syslog
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
# Short-Description: Pillarbox: POP3 with APOP, SMTP, and the queue
### END INIT INFO
#
# One server on one home. A lock of the kernel's says who it is, so no other process is ever taken for it, a pid file
# can't be stale, and `stop` waits for all of its processes. Exit status as LSB has it, but for one thing: the start of a
# server that runs already is a failure, 1, since whoever starts twice has made a mistake, and should hear of it.

PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
PILLARBOX=@PILLARBOX@
PILLARBOX_HOME=@HOME@
LOG=/var/log/pillarbox.log # where log.to is "stderr"; beyond that, what happens at the start
START_SECONDS=45           # the server gives up after 30 itself

# shellcheck source=/dev/null
[ ! -r /etc/default/pillarbox ] || . /etc/default/pillarbox
export PATH PILLARBOX_HOME
unset PILLARBOX_COMMAND

say() { echo "pillarbox: $*"; }
fail() { echo "pillarbox: $2" >&2; exit "$1"; }

# 0: it runs, 1: it doesn't.
runs() {
    "$PILLARBOX" status >/dev/null 2>&1
}

start() {
    runs && fail 1 "it runs already on $PILLARBOX_HOME; \`$0 status\` says where, \`$0 restart\` starts it anew"
    began=$(wc -c 2>/dev/null <"$LOG") || began=0
    umask 077
    : >>"$LOG" || fail 1 "$LOG can't be written"
    # Nothing of the caller's goes along but the two variables: no terminal, no folder, no environment.
    cd / || exit 1
    env -i PATH="$PATH" PILLARBOX_HOME="$PILLARBOX_HOME" setsid "$PILLARBOX" serve </dev/null >>"$LOG" 2>&1 &
    server=$!
    left=$START_SECONDS
    until runs; do
        left=$((left - 1))
        if ! kill -0 "$server" 2>/dev/null || [ "$left" -le 0 ]; then
            tail -c +$((began + 1)) "$LOG" >&2
            fail 1 "it did not start; the lines above, from $LOG, say why"
        fi
        sleep 1
    done
    say "started on $PILLARBOX_HOME"
}

stop() {
    if runs; then
        "$PILLARBOX" stop || exit 1
    else
        say "it does not run on $PILLARBOX_HOME"
    fi
}

reload() {
    runs || fail 7 "it does not run on $PILLARBOX_HOME"
    "$PILLARBOX" reload || exit 1
}

status() {
    "$PILLARBOX" status
    case $? in
    0) exit 0 ;;
    1) exit 3 ;;
    *) exit 4 ;;
    esac
}

[ -x "$PILLARBOX" ] || fail 5 "$PILLARBOX is not there: \`service install\` of Pillarbox's new place writes this script anew"
[ "${1:-}" = status ] || [ "$(id -u)" = 0 ] || fail 4 "only root may do that"

case ${1:-} in
start) start ;;
stop) stop ;;
restart) stop && start ;;
reload | force-reload) reload ;;
try-restart) if runs; then stop && start; fi ;;
status) status ;;
*) fail 2 "usage: $0 start|stop|restart|try-restart|reload|force-reload|status" ;;
esac
