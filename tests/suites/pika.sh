# pika's acceptance tests.

prepare() {
    local git_dir=$source
    if [[ -z $source ]]; then
        git_dir=$scratch/pika.git
        [[ -d $git_dir ]] || git clone --quiet --bare --depth 1 --branch "$PIKA_TAG" "$PIKA_REPOSITORY" "$git_dir"
    fi
    git -C "$git_dir" archive "$PIKA_TAG" | tar -x -C "$tree"
    grep -rlw 5672 "$tree/tests/acceptance" "$tree/tests/base" | xargs sed -i "s/\b5672\b/$port/g"
    environment "pika==$PIKA_TAG" pytest pytest-timeout tornado twisted gevent
}

run_tests() {
    # The tests import the library from their own tree, which is the pinned one.
    "$python" -m pytest -p no:cacheprovider --timeout 60 -v --tb=short tests/acceptance/*_test.py tests/acceptance/*_tests.py
}

results() {
    pytest_results
}
