#!/bin/sh
# Written by `pillarbox service install`, which writes it anew; settings belong into /etc/default/pillarbox-chain.
#
# The classic programs, each chain of them in the foreground until TERM, as the how-to "APOP on qmail" starts them:
#
#   pillarbox-chain pop3          POP3 with APOP; who has logged in may send for a while
#   pillarbox-chain smtp          mail from other hosts, and from who may send
#   pillarbox-chain deliver       the queue
#   pillarbox-chain age           ends: forgets the grants that have expired; run it every few minutes
#   pillarbox-chain check [NAME]  ends: says what each chain, or that one, lacks (exit status 78), and which lacks nothing
#
# Each is one process that becomes tcpserver, or qmail-start. Log lines go to descriptor 2; tcpserver tells its port on
# descriptor 1 as soon as it listens. Where this is not the how-to's line, the reason stands beside it.

set -u
PROGRAMS=@PROGRAMS@ # a folder of the programs' names; what is not there is looked for in the system's
CHAINS="pop3 smtp deliver"
QMAIL=/var/qmail
RELAY=/etc/relay-ctrl
POP3_ADDRESS=0
POP3_PORT=pop3
POP3_RULES=
POP3_SESSIONS=100
SMTP_ADDRESS=0
SMTP_PORT=smtp
SMTP_RULES=/etc/tcp.smtp.cdb
SMTP_SESSIONS=40
SMTP_USER=qmaild
MEMORY=268435456
DELIVERY=./Maildir/
PILLARBOX_HOME=@HOME@
DEFAULTS=/etc/default/pillarbox-chain

# shellcheck source=/dev/null
[ ! -r "$DEFAULTS" ] || . "$DEFAULTS"
PATH=$PROGRAMS:$QMAIL/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
export PATH PILLARBOX_HOME

say() { echo "pillarbox-chain: $chain: $*"; }

lacks() {
    say "$*" >&2
    lacking=78 # EX_CONFIG
}

need_programs() {
    for program in "$@"; do
        command -v "$program" >/dev/null || lacks "no program $program in $PATH: \`pillarbox link $PROGRAMS\`"
    done
}

need_me() {
    me=
    { read -r me <"$QMAIL/control/me"; } 2>/dev/null
    [ -n "$me" ] || lacks "$QMAIL/control/me does not say this host's name"
}

need_spool() {
    spool=
    { read -r spool <"$RELAY/RELAY_CTRL_DIR"; } 2>/dev/null
    [ -d "$spool" ] || lacks "the folder that $RELAY/RELAY_CTRL_DIR should name is not there"
}

# relay-ctrl-allow writes there as the user who has logged in; who can reach it by another way lets anybody send. No more
# than a warning: an access list may say otherwise.
look_at_spool() {
    [ -d "$spool" ] || return 0
    case $(stat -L -c %a "$spool") in
    *[37]) ;;
    *) say "warning: users can't note their addresses in $spool, so nobody may send: chmod 777 $spool" >&2 ;;
    esac
    folder=$(dirname "$spool")
    while [ "$folder" != / ] && [ "$folder" != . ]; do
        case $(stat -L -c %a "$folder") in *[0246]) return 0 ;; esac
        folder=$(dirname "$folder")
    done
    folder=$(dirname "$spool")
    say "warning: every user of this host can write into $spool, and so let anybody send: chmod 700 $folder" >&2
}

# A file of rules that is named must be there: tcpserver would drop every connection.
need_rules() {
    [ -z "$1" ] || [ -r "$1" ] || lacks "no rules in $1: tcprules $1 $1.tmp < ${1%.cdb}"
}

# The how-to has -u `id -u qmaild`: without such a user tcpserver takes the next word for it, and stays root.
need_user() {
    uid=$(id -u "$1" 2>/dev/null)
    gid=$(id -g "$1" 2>/dev/null)
    case $uid in
    '') lacks "there is no user $1" ;;
    0) lacks "$1 is root, who meets no strangers" ;;
    esac
}

# Has another server the port? The chain's own tcpserver, where it runs already, is none.
look_at_port() { # ADDRESS PORT
    case $2 in
    *[!0-9]*) number=$(getent services "$2/tcp" | sed 's,/.*,,; s,.* ,,') ;;
    *) number=$2 ;;
    esac
    case $number in
    '') lacks "no port $2 in /etc/services" ;;
    0) ;;
    *)
        who=$(holder "$1" "$number")
        [ -z "$who" ] || lacks "port $number is taken, by $who: end that, or say another port in $DEFAULTS"
        ;;
    esac
}

holder() { # ADDRESS NUMBER
    ss -Hltnp "sport = :$2" 2>/dev/null | while read -r _ _ _ there _ who; do
        case "$1 $there" in
        "0 ["*) continue ;; # IPv6 alone
        "0 "* | *" 0.0.0.0:$2" | *" *:$2" | "$1 $1:$2" | "$1 [$1]:$2") ;;
        *) continue ;;
        esac
        pid=${who#*pid=} name=${who#*\"}
        pid=${pid%%,*} name=${name%%\"*}
        [ -n "$pid" ] || name=somebody pid='no number'
        ! is_ours "$pid" || continue
        echo "$name (pid $pid)"
        break
    done
}

is_ours() { # PID
    grep -qsF "/pillarbox-$chain.service" "/proc/$1/cgroup" || grep -qsz "^PILLARBOX_CHAIN=" "/proc/$1/environ"
}

need_pop3() {
    need_programs envdir relay-ctrl-chdir softlimit tcpserver qmail-popup selectcheckpw checkpw checkapoppw \
        relay-ctrl-allow qmail-pop3d
    need_me
    need_spool
    need_rules "$POP3_RULES"
}

need_smtp() {
    need_programs envdir relay-ctrl-chdir softlimit tcpserver relay-ctrl-check qmail-smtpd
    need_me
    need_spool
    need_rules "$SMTP_RULES"
    need_user "$SMTP_USER"
    [ -e "$QMAIL/control/rcpthosts" ] || lacks "no $QMAIL/control/rcpthosts: qmail-smtpd would be an open relay"
}

need_deliver() {
    need_programs qmail-start
    need_me
}

need_age() {
    need_programs envdir relay-ctrl-age
    need_spool
}

# The how-to's line, and: -l spares a look-up of our own name, -c says how many sessions, softlimit how much memory each
# of them may have (the programs' lines had no bound), -1 tells when it listens, -x gives POP3 its rules, too.
pop3() {
    exec envdir "$RELAY" relay-ctrl-chdir softlimit -m "$MEMORY" \
        tcpserver -1 -v -R -H -l "$me" -c "$POP3_SESSIONS" ${POP3_RULES:+-x "$POP3_RULES"} \
        "$POP3_ADDRESS" "$POP3_PORT" qmail-popup "$me" selectcheckpw \
        relay-ctrl-allow qmail-pop3d Maildir
}

smtp() {
    exec envdir "$RELAY" relay-ctrl-chdir softlimit -m "$MEMORY" \
        tcpserver -1 -v ${SMTP_RULES:+-x "$SMTP_RULES"} -R -H -l "$me" -c "$SMTP_SESSIONS" \
        -u "$uid" -g "$gid" "$SMTP_ADDRESS" "$SMTP_PORT" \
        relay-ctrl-check qmail-smtpd
}

# What /var/qmail/rc does, without a csh: the queue inherits no environment of whoever has started it. Its log is on
# descriptor 1, as qmail-send's is.
deliver() {
    exec env -i PATH="$PATH" PILLARBOX_HOME="$PILLARBOX_HOME" PILLARBOX_CHAIN="${PILLARBOX_CHAIN:-}" \
        qmail-start "$DELIVERY" >&2
}

age() {
    exec envdir "$RELAY" relay-ctrl-age
}

check() {
    case $1 in
    pop3 | smtp | deliver | age) ;;
    *)
        echo "pillarbox-chain: no chain \`$1\`; there are pop3, smtp, deliver: mend CHAINS in $DEFAULTS" >&2
        return 78
        ;;
    esac
    chain=$1 lacking=0
    "need_$chain"
    case $chain in
    pop3) look_at_spool && look_at_port "$POP3_ADDRESS" "$POP3_PORT" ;;
    smtp) look_at_port "$SMTP_ADDRESS" "$SMTP_PORT" ;;
    esac
    [ "$lacking" != 0 ] || say "nothing is missing"
    return "$lacking"
}

lacking=0
chain=${1:-}
case $chain in
pop3 | smtp | deliver | age)
    "need_$1"
    [ "$lacking" = 0 ] || exit "$lacking"
    "$1"
    ;;
check)
    answer=0
    for each in ${2:-$CHAINS age}; do check "$each" || answer=78; done
    exit "$answer"
    ;;
*)
    echo "usage: pillarbox-chain pop3|smtp|deliver|age|check" >&2
    exit 2
    ;;
esac
