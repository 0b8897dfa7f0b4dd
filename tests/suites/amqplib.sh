# amqplib's tests, by Node's own runner. Those of its codec need no broker and are run with the rest.

prepare() {
    (
        cd "$tree"
        npm pack --silent "amqplib@$AMQPLIB_VERSION" >/dev/null
        tar -xzf amqplib-*.tgz --strip-components 1
        npm install --no-audit --no-fund --loglevel=error --no-save claire@0.4.1
    )
    # The port that it takes when none is given: most tests give none.
    sed -i "s/ 5672 / $port /" "$tree/lib/connect.js"
}

run_tests() {
    URL=amqp://localhost:$port timeout 600 node --test --test-timeout=60000 --test-reporter=tap
}

results() {
    python3 "$here/tap.py"
}
