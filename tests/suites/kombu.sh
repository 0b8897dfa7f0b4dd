# kombu's integration tests over py-amqp, which its source package holds.

prepare() {
    environment "kombu==$KOMBU_VERSION" "amqp==$PY_AMQP_VERSION" pytest pytest-timeout
    source_package kombu "$KOMBU_VERSION"
}

run_tests() {
    RABBITMQ_HOST=127.0.0.1 RABBITMQ_5672_TCP=$port "$python" -m pytest -p no:cacheprovider --timeout 60 -v --tb=short \
        t/integration/test_py_amqp.py
}

results() {
    pytest_results
}
