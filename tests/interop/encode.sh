#!/usr/bin/env bash
# encode.py with its packages, which are fetched at the first call.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/setup.sh
source "$here/../../scripts/setup.sh"

python_environment "$cache/interop" "$here/requirements.txt"
exec "$cache/interop/bin/python" "$here/encode.py"
