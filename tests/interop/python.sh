#!/usr/bin/env bash
# A program of this folder with its packages, which are fetched at the first call.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/setup.sh
source "$here/../../scripts/setup.sh"

python_environment "$cache/interop" "$here/requirements.txt"
exec "$cache/interop/bin/python" "$here/$1" "${@:2}"
