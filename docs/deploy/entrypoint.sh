#!/bin/sh
# The password of the database comes from a file, never from the command line.
set -eu
secret=/run/secrets/database_password
if [ -r "$secret" ]; then
    PGPASSWORD=$(cat "$secret")
    export PGPASSWORD
fi
exec rwkvsearch "$@"
