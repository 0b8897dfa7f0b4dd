#!/usr/bin/env bash
# What users of rabbitmq-c's amqp-tools write, with the broker's port in AMQP_PORT. A check that fails says in which
# line, and what is wrong.
set -euo pipefail

at=(--server 127.0.0.1 --port "$AMQP_PORT")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "line ${BASH_LINENO[0]}: $*" >&2
    exit 1
}

equal() {
    [[ $1 == "$2" ]] || { echo "line ${BASH_LINENO[0]}: got '$1', want '$2'" >&2; exit 1; }
}

# refused TEXT COMMAND...: ends badly and says why.
refused() {
    local text=$1
    shift
    if "$@" >"$work/said" 2>&1 </dev/null; then
        fail "$* is no error"
    fi
    grep -qF -- "$text" "$work/said" || fail "$* says '$(cat "$work/said")', and not '$text'"
}

restart_broker() {
    echo "restart the broker"
    read -r answer
    equal "$answer" restarted
}

# publish ROUTING-KEY BODY: persistent. There are no confirms: the tool ends with close-ok, which comes after all.
publish() {
    amqp-publish "${at[@]}" -r "$1" -p -b "$2" "${@:3}"
}

get() {
    amqp-get "${at[@]}" -q tools || fail "nothing to get"
}

declare_and_delete() {
    equal "$(amqp-declare-queue "${at[@]}" -d -q tools)" tools
    # The same again; and not as another queue.
    amqp-declare-queue "${at[@]}" -d -q tools >/dev/null
    refused "406" amqp-declare-queue "${at[@]}" -q tools
    amqp-delete-queue "${at[@]}" -q tools >/dev/null
    amqp-declare-queue "${at[@]}" -d -q tools >/dev/null
    # A name made by the server.
    [[ $(amqp-declare-queue "${at[@]}" -q '') == amq.gen-* ]] || fail "no name"
}

publish_and_get() {
    publish tools one
    printf 'two\nthree\n' | amqp-publish "${at[@]}" -r tools -p -l
    equal "$(get)" one
    equal "$(get)" two
    equal "$(get)" three
    if amqp-get "${at[@]}" -q tools; then fail "the queue is not empty"; fi
}

consume() {
    for n in $(seq 20); do echo "$n"; done | amqp-publish "${at[@]}" -r tools -p -l
    # Each message is the input of a program, and acknowledged when that ends well.
    amqp-consume "${at[@]}" -q tools -p 3 -c 5 cat >"$work/five"
    equal "$(tr -d '\n' <"$work/five")" 12345
    amqp-consume "${at[@]}" -q tools -c 15 cat >"$work/rest"
    equal "$(tr -d '\n' <"$work/rest")" 67891011121314151617181920
    # One that ends badly has the message given back.
    publish tools again
    amqp-consume "${at[@]}" -q tools -c 1 false || true
    equal "$(get)" again
    # An exclusive queue of its own, bound to an exchange.
    amqp-consume "${at[@]}" -e amq.topic -r 'tools.#' -x -c 2 cat >"$work/topic" &
    local consumer=$!
    for _ in $(seq 100); do
        kill -0 "$consumer" 2>/dev/null || break
        amqp-publish "${at[@]}" -e amq.topic -r tools.here -b topic
        sleep 0.05
    done
    wait "$consumer"
    equal "$(cat "$work/topic")" topictopic
}

errors() {
    refused "404" amqp-consume "${at[@]}" -q nowhere cat
    refused "403" amqp-declare-queue "${at[@]}" -q amq.mine
    refused "530" amqp-declare-queue "${at[@]}" --vhost nowhere -q tools
    refused "403" amqp-declare-queue "${at[@]}" --password wrong -q tools
    publish tools here
    refused "406" amqp-delete-queue "${at[@]}" -q tools -e
    equal "$(get)" here
}

large() {
    head -c 300000 /dev/urandom | base64 -w 0 >"$work/large"
    amqp-publish "${at[@]}" -r tools -p <"$work/large"
    get | cmp - "$work/large"
}

reconnect() {
    for n in $(seq 50); do echo "$n"; done | amqp-publish "${at[@]}" -r tools -p -l
    equal "$(get)" 1
    amqp-declare-queue "${at[@]}" -q transient >/dev/null
    restart_broker
    equal "$(amqp-consume "${at[@]}" -q tools -c 49 cat)" "$(seq 2 50)"
    refused "404" amqp-get "${at[@]}" -q transient
}

if [[ $1 != declare_and_delete ]]; then
    amqp-declare-queue "${at[@]}" -d -q tools >/dev/null
fi
"$1"
amqp-delete-queue "${at[@]}" -q tools >/dev/null
