#!/bin/sh
# Written by `pillarbox service install`, which writes it anew; settings belong into /etc/default/pillarbox-chain.
### BEGIN INIT INFO
# Provides:          pillarbox-chain mail-transport-agent
# Required-Start:    $remote_fs $network
# Required-Stop:     $remote_fs $network
# Should-Start:      $syslog $named
# Should-Stop:       $syslog
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
# Short-Description: POP3 with APOP, SMTP and the queue, as chains of the classic programs
### END INIT INFO
#
# Starts what the how-to "APOP on qmail" starts, by /usr/local/sbin/pillarbox-chain. What that script got wrong, and this
# one does not:
#
#  1. stop killed every tcpserver of the machine. Here each chain carries a random token in its environment, which all its
#     sessions inherit, and only processes that have it are ended: a number that now is another process's counts for nothing.
#  2. Sessions outlived stop, and start ran into them. Here stop gives them GRACE seconds, ends them, and waits.
#  3. A second start said "Starting qmail", and nothing started. Here it says that it runs already, with exit status 1.
#  4. stop with nothing running printed the usage of kill. Here it says so; as LSB has it, that is a success.
#  5. The exit status was always 0. Here it is LSB's; a start has worked when tcpserver listens.
#  6. It needed csh, /sbin/pidof and /var/lock/subsys. Here: sh, and util-linux (setsid, flock).
#  7. There was no restart, reload or status. What dies is not started again by itself here either: systemd does that.
#  8. splogger ran as root. Here it is LOG_USER's.
#  9. Without a user qmaild the SMTP server ran as root. 10. POP3 had no rules, and no bounds for memory and sessions.
#     See pillarbox-chain for both.
# 11. Grants stayed for ever. /etc/cron.d/pillarbox-chain runs relay-ctrl-age.
# 12. and 13. The race in making .password, and errors that went to the client, are mended in the how-to and the programs.

set -u
CHAIN=/usr/local/sbin/pillarbox-chain
PROGRAMS=@PROGRAMS@
QMAIL=/var/qmail
CHAINS="pop3 smtp deliver"
RUN=/run/pillarbox-chain
LOG_USER=qmaill
GRACE=10         # seconds that sessions have to end by themselves
START_SECONDS=10 # until tcpserver listens
QUEUE_SECONDS=3  # that qmail-start must live to count as started: it tells nobody when it is ready
DEFAULTS=/etc/default/pillarbox-chain

# shellcheck source=/dev/null
[ ! -r "$DEFAULTS" ] || . "$DEFAULTS"
PATH=$PROGRAMS:$QMAIL/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH

say() { echo "pillarbox-chain: $*"; }
fail() { echo "pillarbox-chain: $2" >&2; exit "$1"; }

# Sets pid and token to what the chain's file says; both are empty where it was never started.
recall() {
    pid='' token=''
    { read -r pid token <"$RUN/$1"; } 2>/dev/null
    case $pid in '' | *[!0-9]*) pid='' ;; esac
    case $token in '' | *[!0-9a-f-]*) pid='' token='' ;; esac
}

# Does that process carry the token? One that has ended, or took over the number of one that has, does not.
carries() {
    [ -n "$1" ] && grep -qszxF -e "PILLARBOX_CHAIN=$token" "/proc/$1/environ"
}

runs() {
    recall "$1"
    carries "$pid"
}

# The numbers of all processes that carry the token: the chain itself, and its sessions.
processes() {
    [ -n "$token" ] || return 0
    grep -lszxF -e "PILLARBOX_CHAIN=$token" /proc/[0-9]*/environ | sed 's,/proc/,,; s,/.*,,'
}

# Sends a signal to the chain's processes, as long as there are any, for so many seconds. Fails when some are left.
end() { # SIGNAL SECONDS
    tries=$(($2 * 5))
    while :; do
        found=$(processes)
        [ -n "$found" ] || return 0
        # shellcheck disable=SC2086  # several numbers
        [ "$1" = 0 ] || kill -"$1" $found 2>/dev/null
        [ "$tries" -gt 0 ] || return 1
        tries=$((tries - 1))
        sleep 0.2
    done
}

log_of() {
    case $1 in
    pop3) echo pop3d 3 ;;
    smtp) echo smtp 3 ;;
    *) echo qmail 2 ;;
    esac
}

start_one() {
    if runs "$1"; then
        echo "pillarbox-chain: $1 runs already (pid $pid); \`$0 restart\` starts it anew" >&2
        return 1
    fi
    if ! "$CHAIN" check "$1" >/dev/null; then
        echo "pillarbox-chain: $1 was not started; the lines above say what it lacks" >&2
        return 1
    fi
    # Sessions of a tcpserver that was killed keep the token, and so stay ours.
    [ -n "$token" ] || read -r token </proc/sys/kernel/random/uuid
    launch "$1"
    wait_for "$1"
}

# In the background, without the caller's terminal, folder and environment; descriptor 9 is our lock.
launch() {
    id -u "$LOG_USER" >/dev/null 2>&1 || LOG_USER=nobody
    rm -f "$RUN/$1" "$RUN/$1.port"
    # shellcheck disable=SC2016,SC2046  # the inner shell's variables; the tag and the facility
    env -i PATH="$PATH" PILLARBOX_CHAIN="$token" setsid sh -c \
        'cd / && echo "$$ $PILLARBOX_CHAIN" >"$1.new" && mv "$1.new" "$1" && exec "$2" "$3"' \
        sh "$RUN/$1" "$CHAIN" "$1" </dev/null 9>&- 2>&1 >"$RUN/$1.port" |
        env -i PATH="$PATH" setsid setuidgid "$LOG_USER" splogger $(log_of "$1") 9>&- >/dev/null 2>&1 &
}

wait_for() {
    tag=$(log_of "$1")
    tries=$((START_SECONDS * 5))
    alive=$((QUEUE_SECONDS * 5))
    while [ "$tries" -gt 0 ]; do
        sleep 0.2
        tries=$((tries - 1))
        if ! runs "$1"; then
            [ -z "$pid" ] || break # it has been there, and is gone
            continue
        fi
        alive=$((alive - 1))
        if [ "$1" = deliver ] && [ "$alive" -le 0 ]; then
            say "$1 started (pid $pid)"
            return 0
        elif [ "$1" != deliver ] && [ -s "$RUN/$1.port" ]; then
            say "$1 started (pid $pid, port $(head -n 1 "$RUN/$1.port"))"
            return 0
        fi
    done
    echo "pillarbox-chain: $1 did not start; the log of ${tag% *} says why, and so does \`$CHAIN $1\`" >&2
    return 1
}

stop_one() {
    if runs "$1"; then
        kill -TERM "$pid" 2>/dev/null # tcpserver takes no more; its sessions, and deliveries, may come to their end
    elif [ -z "$(processes)" ]; then
        say "$1 does not run"
        rm -f "$RUN/$1" "$RUN/$1.port"
        return 0
    fi
    end 0 "$GRACE" || end TERM 2 || end KILL 5 || fail 1 "$1 can't be ended: $(processes | tr '\n' ' ')"
    rm -f "$RUN/$1" "$RUN/$1.port"
    say "$1 stopped"
}

each() { # ACTION
    status=0
    for chain in $CHAINS; do "$1" "$chain" || status=1; done
    return "$status"
}

# Strangers first, the queue last.
stop() {
    for chain in pop3 smtp deliver; do stop_one "$chain"; done
}

# tcpserver would die of HUP, and need not be told: rules and control files are read for each connection.
reload() {
    runs deliver || fail 7 "deliver does not run; rules and control files of the others are read for each connection"
    kill -HUP "$pid"
    say "deliver reads its configuration again; rules and control files of the others are read for each connection"
}

status() {
    answer=0
    for chain in $CHAINS; do
        if runs "$chain"; then
            [ "$chain" = deliver ] || sessions=", $(($(processes | wc -l) - 1)) processes of sessions"
            say "$chain runs (pid $pid${sessions:-})"
        else
            say "$chain does not run"
            answer=3
            [ -z "$pid" ] || { [ -z "$(processes)" ] || say "but sessions of it do: $(processes | tr '\n' ' ')"; }
        fi
        sessions=
    done
    return "$answer"
}

[ -x "$CHAIN" ] || fail 5 "$CHAIN is not there"
[ "$(id -u)" = 0 ] || fail 4 "only root may do that"

case ${1:-} in
start | stop | restart | try-restart)
    umask 022
    mkdir -p "$RUN" || exit 1
    exec 9>"$RUN/lock"
    flock -n 9 || fail 1 "another start or stop is under way"
    ;;
esac

case ${1:-} in
start) each start_one ;;
stop) stop ;;
restart) stop && each start_one ;;
try-restart) if runs pop3 || runs smtp || runs deliver; then stop && each start_one; fi ;;
reload | force-reload) reload ;;
status) status ;;
*) fail 2 "usage: $0 start|stop|restart|try-restart|reload|force-reload|status" ;;
esac
