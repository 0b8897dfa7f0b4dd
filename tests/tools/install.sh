#!/usr/bin/env bash
# Installs the pinned tools of the tests into tests/.tools: grpcurl (by go), buf (by npm), pika (by pip, in a Python
# environment of its own), the client that uses lapin (by cargo, outside the workspace) and RabbitMQ, to compare with (by
# apt, unless Debian's package is there; it needs root or sudo without a password). An install is tried three
# times; when it fails, what it said stands in tests/.tools/NAME.skip, and the tests that need it are skipped by name.
set -uo pipefail

GRPCURL_VERSION=v1.9.3
BUF_VERSION=1.57.2
PIKA_VERSION=1.4.4
# Debian 12's, whatever its last security update.
RABBITMQ_VERSION=3.10
# lapin's version stands in clients/lapin/Cargo.lock.
LAPIN_VERSION=$(cat "$(dirname "$0")"/../clients/lapin/{Cargo.toml,Cargo.lock,src/main.rs} | sha256sum | head -c 16)

root=$(cd "$(dirname "$0")/.." && pwd)
tools=$root/.tools
mkdir -p "$tools/bin"

# try NAME VERSION COMMAND...: installs unless this version is there.
try() {
    local name=$1 version=$2
    shift 2
    if [[ -e $tools/bin/$name && $(cat "$tools/$name.version" 2>/dev/null) == "$version" ]]; then
        return
    fi
    rm -f "$tools/$name.skip" "$tools/bin/$name"
    local attempt log=$tools/$name.log
    : >"$log"
    for attempt in 1 2 3; do
        echo "attempt $attempt: $*" >>"$log"
        if "$@" >>"$log" 2>&1 </dev/null; then
            echo "$version" >"$tools/$name.version"
            echo "installed $name $version"
            return
        fi
        sleep $((attempt * 2))
    done
    { echo "install of $name $version failed three times"; tail -n 5 "$log"; } >"$tools/$name.skip"
    echo "could not install $name $version, see $tools/$name.skip" >&2
}

install_grpcurl() {
    command -v go >/dev/null || { echo "go is not installed"; return 1; }
    GOBIN=$tools/bin go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@$GRPCURL_VERSION"
}

install_buf() {
    command -v npm >/dev/null || { echo "npm is not installed"; return 1; }
    npm install --prefix "$tools/npm" --no-audit --no-fund --loglevel=error "@bufbuild/buf@$BUF_VERSION" &&
        ln -sf ../npm/node_modules/.bin/buf "$tools/bin/buf" && "$tools/bin/buf" --version
}

# bin/pika is a Python in whose environment pika is.
install_pika() {
    command -v python3 >/dev/null || { echo "python3 is not installed"; return 1; }
    rm -rf "$tools/pika"
    python3 -m venv "$tools/pika" &&
        "$tools/pika/bin/pip" install --quiet --disable-pip-version-check "pika==$PIKA_VERSION" &&
        "$tools/pika/bin/python" -c 'import pika' &&
        printf '#!/bin/sh\nexec "%s/pika/bin/python" "$@"\n' "$tools" >"$tools/bin/pika" &&
        chmod +x "$tools/bin/pika"
}

install_lapin() {
    CARGO_TARGET_DIR=$tools/lapin-target cargo build --locked --quiet --manifest-path "$root/clients/lapin/Cargo.toml" &&
        cp "$tools/lapin-target/debug/leveret-lapin" "$tools/bin/lapin"
}

# bin/rabbitmq is the package's own script, which starts a node of any user's. The node that the package would start by
# itself is kept from it.
install_rabbitmq() {
    local script=/usr/lib/rabbitmq/bin/rabbitmq-server
    if [[ ! -x $script ]]; then
        command -v apt-get >/dev/null || { echo "neither rabbitmq-server nor apt-get is there"; return 1; }
        local as_root=()
        ((EUID == 0)) || as_root=(sudo -n)
        "${as_root[@]}" apt-get update &&
            "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 SYSTEMD_OFFLINE=1 \
                apt-get install -y --no-install-recommends "rabbitmq-server=$RABBITMQ_VERSION.*" || return 1
    fi
    local found
    found=$(find /usr/lib/rabbitmq/lib -maxdepth 1 -name "rabbitmq_server-$RABBITMQ_VERSION.*" | head -n 1)
    [[ $found ]] || { echo "the rabbitmq-server that is installed is not $RABBITMQ_VERSION"; return 1; }
    command -v epmd >/dev/null || { echo "there is no epmd beside rabbitmq-server"; return 1; }
    ln -sf "$script" "$tools/bin/rabbitmq"
}

try grpcurl "$GRPCURL_VERSION" install_grpcurl
try buf "$BUF_VERSION" install_buf
try pika "$PIKA_VERSION" install_pika
try lapin "$LAPIN_VERSION" install_lapin
try rabbitmq "$RABBITMQ_VERSION" install_rabbitmq
exit 0
