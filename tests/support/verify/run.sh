#!/usr/bin/env bash
# receiver.py with its Python packages, which are fetched at the first call.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/setup.sh
source "$here/../../../scripts/setup.sh"

python_environment "$cache/venv" "$here/requirements.txt"
exec "$cache/venv/bin/python" "$here/receiver.py" "$@"
