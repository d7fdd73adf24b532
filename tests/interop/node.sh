#!/usr/bin/env bash
# verify.mjs with its packages, which are fetched at the first call.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/setup.sh
source "$here/../../scripts/setup.sh"

node_environment "$cache/node" "$here"
exec node "$cache/node/verify.mjs"
