#!/bin/sh
# Builds the container image `ostro` (or the name given) from what `cargo xtask dist` left in target/dist.
set -eu
cd "$(dirname "$0")/.."
image=${1:-ostro}

engine=
for candidate in docker podman; do
    if command -v "$candidate" >/dev/null 2>&1 && "$candidate" info >/dev/null 2>&1; then
        engine=$candidate
        break
    fi
done
if [ -z "$engine" ]; then
    echo "build-image: neither docker nor podman runs here: start one, or run this where one does" >&2
    exit 1
fi

for file in bin/ostro bin/ostro-sample bin/envoy README.md LICENSE; do
    if [ ! -f "target/dist/$file" ]; then
        echo "build-image: target/dist/$file is missing: run \`cargo xtask dist\` first" >&2
        exit 1
    fi
done

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp Dockerfile "$context/"
cp -R target/dist "$context/dist"
"$engine" build --tag "$image" "$context"
