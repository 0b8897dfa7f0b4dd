#!/usr/bin/env bash
# Builds the Debian package: target/debian/leveret_*.deb. Needs cargo-deb (`cargo install cargo-deb --locked`).
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
cargo build --release --locked -p leveret-server
leveret=$target/release/leveret
# Where the assets in server/Cargo.toml are, wherever cargo builds.
out=$PWD/target/packaging
rm -rf "$out"
mkdir -p "$out/man"
"$leveret" man "$out/man"
gzip -9n "$out"/man/*.1
for shell in bash zsh fish; do "$leveret" completions $shell >"$out/leveret.$shell"; done
"$leveret" serve --print-config >"$out/leveret.toml"
cargo deb --no-build --locked -p leveret-server "$@"
