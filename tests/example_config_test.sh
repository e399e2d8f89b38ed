#!/bin/sh
# example_config_test.sh PROTOC SCHEMA CONFIG: CONFIG is a ServerConfig; what it holds is not empty.
set -eu
bytes=$("$1" --proto_path=. --encode=engram.v1.ServerConfig "$2" <"$3" | wc -c)
[ "$bytes" -gt 0 ]
# An unknown field has to be found, or this test proves nothing.
if echo 'no_such_field: 1' | "$1" --proto_path=. --encode=engram.v1.ServerConfig "$2" >/dev/null 2>&1; then exit 1; fi
