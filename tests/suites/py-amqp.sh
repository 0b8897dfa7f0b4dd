# py-amqp's integration tests, which its source package holds.

prepare() {
    environment "amqp==$PY_AMQP_VERSION" pytest pytest-timeout pytest-rerunfailures
    source_package amqp "$PY_AMQP_VERSION"
}

run_tests() {
    RABBITMQ_HOST=127.0.0.1 RABBITMQ_5672_TCP=$port "$python" -m pytest -p no:cacheprovider --timeout 60 -v --tb=short \
        -k "not tls" t/integration/test_rmq.py
}

results() {
    pytest_results
}
