#!/usr/bin/env bash
# The MLflow server of a deployment: tracking, registry, artifacts.
#
#     mlflow/server.sh [FILE]        FILE: settings, default server.env beside this script
#
# It runs in the foreground, for systemd or a terminal; the database and its user must be there (README.md).
set -euo pipefail

settings="${1:-$(dirname "$0")/server.env}"
if [[ ! -r "$settings" ]]; then
    echo "server.sh: cannot read $settings" >&2
    exit 2
fi
set -a
. "$(realpath "$settings")"
set +a

if ! command -v mlflow >/dev/null; then
    echo "server.sh: no mlflow on the PATH: activate the zoo's environment" >&2
    exit 2
fi
if [[ "$MLFLOW_BACKEND_STORE_URI" == postgresql* ]] && ! python -c "import psycopg2" 2>/dev/null; then
    echo "server.sh: no PostgreSQL driver: pip install 'crystal-tensor-zoo[server]'" >&2
    exit 2
fi

# --serve-artifacts: clients reach the artifacts through the server alone.
exec mlflow server --serve-artifacts
