#!/usr/bin/env bash
# An outside witness: RabbitMQ's own PerfTest against Leveret, and against RabbitMQ where it is installed, one after the
# other, each on a new directory. Usage: bench/perf-test.sh [AMQP_URI]
#
# With a URI it loads the broker there and starts none. Needs Java and Maven, which fetches PerfTest from Maven Central
# (bench/perf-test/pom.xml has the version), and a release build of the server (or LEVERET_BIN). PERF_SECONDS (10) is
# how long each load takes, TMPDIR where the data goes.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
jars=$target/perf-test
seconds=${PERF_SECONDS:-10}
scratch=$(mktemp -d)
started=()

stop() {
    local pid
    for pid in "${started[@]}"; do
        # A group of its own: scripts start the process that counts.
        kill -- "-$pid" 2>/dev/null || true
    done
    wait
    started=()
}
trap 'stop; rm -rf "$scratch"' EXIT

# start COMMAND...: in the background, in a process group of its own.
start() {
    set -m
    "$@" >"$scratch/output" 2>&1 </dev/null &
    started+=($!)
    set +m
}

free_port() {
    local port
    while port=$((20000 + RANDOM % 12000)) && (: >"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo "$port"
}

# answers PORT: waits until who listens there greets as an AMQP broker does.
answers() {
    local greeting
    for _ in {1..600}; do
        greeting=$( (exec 3<>"/dev/tcp/127.0.0.1/$1" && printf 'AMQP\0\0\011\001' >&3 &&
            timeout 5 head -c 1 <&3 | od -An -tx1) 2>/dev/null) || true
        [[ $greeting != *01* ]] || return 0
        sleep 0.1
    done
    cat "$scratch/output" >&2
    return 1
}

perf() {
    java -cp "$jars/*" com.rabbitmq.perf.PerfTest "$@"
}

# load NAME URI: persistent messages of 100 bytes, at most 2,000 unconfirmed, a durable queue.
load() {
    local queue=perf-test-$$ common
    common=(--uri "$2" --flag persistent --size 100 --confirm 2000 --auto-delete false --time "$seconds" --producers 1)
    echo "== $1: confirmed publish"
    perf "${common[@]}" --id publish --queue "$queue-publish" --consumers 0 | tail -n 4
    echo "== $1: publish, deliver, ack one by one; prefetch 2,000"
    perf "${common[@]}" --id end-to-end --queue "$queue-end-to-end" --consumers 1 --qos 2000 | tail -n 4
}

# PerfTest of the version in pom.xml, once.
if ! cmp -s "$root/bench/perf-test/pom.xml" "$jars/pom.xml"; then
    rm -rf "$jars"
    mvn -q -B -f "$root/bench/perf-test/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
        -DincludeScope=runtime "-DoutputDirectory=$jars"
    cp "$root/bench/perf-test/pom.xml" "$jars/"
fi

if (($#)); then
    load "$1" "$1"
    exit
fi

port=$(free_port)
start "${LEVERET_BIN:-$target/release/leveret}" serve --data-dir "$scratch/leveret" --amqp-addr "127.0.0.1:$port" \
    --grpc-addr "127.0.0.1:$(free_port)" --http-addr "127.0.0.1:$(free_port)"
answers "$port"
load "Leveret, fsync=always" "amqp://guest:guest@127.0.0.1:$port"
stop

rabbitmq=${RABBITMQ_SERVER:-/usr/lib/rabbitmq/bin/rabbitmq-server}
if [[ ! -x $rabbitmq ]] || ! command -v epmd >/dev/null; then
    echo "== RabbitMQ is left out: it is not installed"
    exit
fi
mkdir -p "$scratch"/{mnesia,log,home}
echo "[]." >"$scratch/plugins"
port=$(free_port)
mapper=$(free_port)
start epmd -port "$mapper" -address 127.0.0.1
start env HOME="$scratch/home" ERL_EPMD_PORT="$mapper" ERL_EPMD_ADDRESS=127.0.0.1 \
    RABBITMQ_NODENAME=perf-test@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$port" \
    RABBITMQ_DIST_PORT="$(free_port)" RABBITMQ_MNESIA_BASE="$scratch/mnesia" RABBITMQ_LOG_BASE="$scratch/log" \
    RABBITMQ_LOGS="$scratch/log/rabbitmq.log" RABBITMQ_ENABLED_PLUGINS_FILE="$scratch/plugins" \
    RABBITMQ_CONFIG_FILE="$scratch/none" RABBITMQ_CONF_ENV_FILE=/dev/null "$rabbitmq"
answers "$port"
load "RabbitMQ, classic queue, confirms without fsync" "amqp://guest:guest@127.0.0.1:$port"
