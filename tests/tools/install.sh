#!/usr/bin/env bash
# Installs the pinned tools of the tests into tests/.tools, side by side: grpcurl (by go), buf and amqplib (by npm),
# pika, aio-pika and Celery (by pip, each in a Python environment of its own), the clients that use lapin (by cargo,
# outside the workspace), amqp091-go (by go) and the Java client (by Maven and javac), amqp-tools (Debian's package,
# unpacked and not installed), and RabbitMQ, to compare with (by apt, unless Debian's package is there; it needs root or
# sudo without a password), and systemd-analyze and valgrind, if they are not there; and it builds the examples, by the
# lines in their README. An install is tried three times; when it fails, what it said stands in tests/.tools/NAME.skip,
# and the tests that need it are skipped by name.
set -uo pipefail

GRPCURL_VERSION=v1.9.3
BUF_VERSION=1.57.2
PIKA_VERSION=1.4.4
AIO_PIKA_VERSION=10.2.1
# With kombu 5.7.0 and amqp 5.4.2.
CELERY_VERSION=5.7.0
# The current one, and one of those that ask for frames of at most 4096 bytes.
AMQPLIB_VERSION=2.3.1
AMQPLIB_OLD_VERSION=0.5.6
JAVA_CLIENT_VERSION=5.26.0
SLF4J_VERSION=2.0.17
# Debian's archive keeps the newest packaging of a version only.
AMQP_TOOLS_VERSION=0.11.0
# Debian 12's, whatever its last security update.
RABBITMQ_VERSION=3.10
# Debian 12's. Instructions are counted before it translates them, but it says which of them the processor has.
VALGRIND_VERSION=3.19

root=$(cd "$(dirname "$0")/.." && pwd)
tools=$root/.tools
mkdir -p "$tools/bin"

# sources PATH...: stands for these files below clients/: what a client was built from, pins of its libraries included.
sources() {
    (cd "$root/clients" && cat "$@") | sha256sum | head -c 16
}
GO_CLIENT_VERSION=$(sources amqp091-go/{go.mod,go.sum,main.go})
JAVA_CLIENT_SOURCES=$(sources java/Scenarios.java)
LAPIN_VERSION=$(sources lapin/{Cargo.toml,Cargo.lock,src/main.rs})

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

# bin/amqplib and bin/amqplib-old are the packages' directories.
install_amqplib() {
    command -v npm >/dev/null || { echo "npm is not installed"; return 1; }
    npm install --prefix "$tools/amqplib" --no-audit --no-fund --loglevel=error \
        "amqplib@$AMQPLIB_VERSION" "amqplib-old@npm:amqplib@$AMQPLIB_OLD_VERSION" &&
        ln -sfn ../amqplib/node_modules/amqplib-old "$tools/bin/amqplib-old" &&
        ln -sfn ../amqplib/node_modules/amqplib "$tools/bin/amqplib" &&
        node -e "require('$tools/bin/amqplib'), require('$tools/bin/amqplib-old')"
}

# python NAME MODULE PACKAGE...: bin/NAME is a Python in whose environment the packages are.
python() {
    local name=$1 module=$2
    shift 2
    command -v python3 >/dev/null || { echo "python3 is not installed"; return 1; }
    rm -rf "${tools:?}/$name"
    python3 -m venv "$tools/$name" &&
        "$tools/$name/bin/pip" install --quiet --disable-pip-version-check "$@" &&
        "$tools/$name/bin/python" -c "import $module" &&
        printf '#!/bin/sh\nexec "%s/%s/bin/python" "$@"\n' "$tools" "$name" >"$tools/bin/$name" &&
        chmod +x "$tools/bin/$name"
}

install_lapin() {
    CARGO_TARGET_DIR=$tools/lapin-target cargo build --locked --quiet --manifest-path "$root/clients/lapin/Cargo.toml" &&
        cp "$tools/lapin-target/debug/leveret-lapin" "$tools/bin/lapin"
}

install_amqp091_go() {
    command -v go >/dev/null || { echo "go is not installed"; return 1; }
    (cd "$root/clients/amqp091-go" && go build -o "$tools/bin/amqp091-go" .)
}

# maven GROUP:NAME:VERSION DIRECTORY: an artifact of Maven Central into a directory.
maven() {
    mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy "-Dartifact=$1" "-DoutputDirectory=$2"
}

# bin/java-client is a script that runs the scenarios.
install_java_client() {
    local name
    for name in java javac mvn; do
        command -v $name >/dev/null || { echo "$name is not installed"; return 1; }
    done
    rm -rf "$tools/java-client"
    maven "com.rabbitmq:amqp-client:$JAVA_CLIENT_VERSION" "$tools/java-client/lib" &&
        maven "org.slf4j:slf4j-api:$SLF4J_VERSION" "$tools/java-client/lib" &&
        javac -d "$tools/java-client/classes" -cp "$tools/java-client/lib/*" "$root/clients/java/Scenarios.java" &&
        printf '#!/bin/sh\nexec java -XX:TieredStopAtLevel=1 -cp "%s/classes:%s/lib/*" Scenarios "$@"\n' \
            "$tools/java-client" "$tools/java-client" >"$tools/bin/java-client" &&
        chmod +x "$tools/bin/java-client"
}

# bin/amqp-tools is a directory for PATH; its commands find their library by themselves.
install_amqp_tools() {
    local package library command
    for command in apt-get dpkg-deb; do
        command -v $command >/dev/null || { echo "$command is not installed"; return 1; }
    done
    rm -rf "$tools/amqp-tools"
    mkdir -p "$tools/amqp-tools/packages" "$tools/amqp-tools/bin"
    (
        cd "$tools/amqp-tools/packages" || exit
        apt-get download amqp-tools librabbitmq4 || { apt-get update && apt-get download amqp-tools librabbitmq4; }
    ) || return
    for package in "$tools"/amqp-tools/packages/*.deb; do
        dpkg-deb -x "$package" "$tools/amqp-tools/root" || return
    done
    [[ $(ls "$tools/amqp-tools/packages") == *amqp-tools_"$AMQP_TOOLS_VERSION"-* ]] ||
        { echo "Debian has another version:"; ls "$tools/amqp-tools/packages"; return 1; }
    library=$(dirname "$(find "$tools/amqp-tools/root" -name 'librabbitmq.so.4')")
    for command in publish consume get declare-queue delete-queue; do
        printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s/root/usr/bin/amqp-%s "$@"\n' \
            "$library" "$tools/amqp-tools" $command >"$tools/amqp-tools/bin/amqp-$command"
        chmod +x "$tools/amqp-tools/bin/amqp-$command"
    done
    "$tools/amqp-tools/bin/amqp-publish" --help >/dev/null && ln -sfn ../amqp-tools/bin "$tools/bin/amqp-tools"
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

# bin/systemd-analyze, to verify the unit with.
install_systemd_analyze() {
    if ! command -v systemd-analyze >/dev/null; then
        command -v apt-get >/dev/null || { echo "neither systemd-analyze nor apt-get is there"; return 1; }
        local as_root=()
        ((EUID == 0)) || as_root=(sudo -n)
        "${as_root[@]}" apt-get update &&
            "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends systemd || return 1
    fi
    systemd-analyze --version && ln -sf "$(command -v systemd-analyze)" "$tools/bin/systemd-analyze"
}

# bin/valgrind, to count the server's instructions with.
install_valgrind() {
    if ! command -v valgrind >/dev/null; then
        command -v apt-get >/dev/null || { echo "neither valgrind nor apt-get is there"; return 1; }
        local as_root=()
        ((EUID == 0)) || as_root=(sudo -n)
        "${as_root[@]}" apt-get update &&
            "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
                apt-get install -y --no-install-recommends "valgrind=1:$VALGRIND_VERSION.*" || return 1
    fi
    [[ $(valgrind --version) == valgrind-"$VALGRIND_VERSION".* ]] ||
        { echo "the valgrind that is installed is not $VALGRIND_VERSION"; return 1; }
    # No link: Debian's is a script that finds the rest beside its own name.
    valgrind --tool=callgrind --callgrind-out-file=/dev/null true &&
        printf '#!/bin/sh\nexec "%s" "$@"\n' "$(command -v valgrind)" >"$tools/bin/valgrind" &&
        chmod +x "$tools/bin/valgrind"
}

# The install lines of examples/README.md, in a copy of the examples: bin/example-NAME is that copy, with all of them.
install_example() {
    local name=$1 lines
    lines=$(sed -n "/^<!-- install: $name -->/,/^\`\`\`$/p" "$root/../examples/README.md" | grep -v -e '^<!--' -e '^```')
    [[ $lines ]] || { echo "examples/README.md has no install lines of $name"; return 1; }
    mkdir -p "$tools/examples/examples"
    rm -rf "$tools/examples/examples/$name"
    cp -r "$root/../examples/$name" "$tools/examples/examples/"
    (cd "$tools/examples/examples" && bash -euo pipefail -c "$lines") &&
        ln -sfn ../examples/examples "$tools/bin/example-$name"
}

EXAMPLES_VERSION=$(cd "$root/.." && find examples proto -type f | grep -v /target/ | sort | xargs cat | sha256sum | head -c 16)
rm -rf "$tools/examples/proto"
mkdir -p "$tools/examples"
cp -r "$root/../proto" "$tools/examples/proto"

# Most of the time goes into waiting for the network.
try grpcurl "$GRPCURL_VERSION" install_grpcurl &
try buf "$BUF_VERSION" install_buf &
try pika "$PIKA_VERSION" python pika pika "pika==$PIKA_VERSION" &
try celery "$CELERY_VERSION" python celery celery "celery==$CELERY_VERSION" kombu==5.7.0 amqp==5.4.2 &
try aio-pika "$AIO_PIKA_VERSION" python aio-pika aio_pika "aio-pika==$AIO_PIKA_VERSION" &
try amqplib "$AMQPLIB_VERSION $AMQPLIB_OLD_VERSION" install_amqplib &
try amqp091-go "$GO_CLIENT_VERSION" install_amqp091_go &
try java-client "$JAVA_CLIENT_VERSION $JAVA_CLIENT_SOURCES" install_java_client &
# One after the other: apt has one lock.
{
    try rabbitmq "$RABBITMQ_VERSION" install_rabbitmq
    try amqp-tools "$AMQP_TOOLS_VERSION" install_amqp_tools
    try systemd-analyze any install_systemd_analyze
    try valgrind "$VALGRIND_VERSION" install_valgrind
} &
try lapin "$LAPIN_VERSION" install_lapin &
for example in amqp-{python,node,go,java} grpc-{python,node,go,java}; do
    try "example-$example" "$EXAMPLES_VERSION" install_example "$example" &
done
wait
exit 0
