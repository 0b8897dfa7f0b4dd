# The tests of amqp091-go that are for a broker, and its unit tests with them. Those of its recovery drop connections by
# RabbitMQ's management API, for which management.py stands in.

prepare() {
    local module
    module=$(cd "$scratch" && go mod download -json "github.com/rabbitmq/amqp091-go@$AMQP091_GO_VERSION" |
        sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
    cp -r "$module/." "$tree"
    chmod -R u+w "$tree"
    between=$(free_port) http=$(free_port)
    sed -i -E "s#(localhost|127\.0\.0\.1):5672/?\"#\1:$between/\"#g" \
        "$tree"/{integration,connection,recovery,reconnect,examples,example_client}_test.go
    sed -i "s/\b15672\b/$http/g" "$tree/recovery_test.go" "$tree/internal/utils/http.go"
}

run_tests() {
    local management status=0
    python3 "$here/management.py" "$between" "$http" "$port" &
    management=$!
    AMQP_URL=amqp://guest:guest@127.0.0.1:$between/ go test -tags integration -v -timeout 10m -count 1 . || status=$?
    kill "$management"
    return "$status"
}

results() {
    sed -nE -e 's/^ *--- PASS: ([^ ]+).*/PASSED \1/p' -e 's/^ *--- FAIL: ([^ ]+).*/FAILED \1/p' \
        -e 's/^ *--- SKIP: ([^ ]+).*/SKIPPED \1/p'
}
