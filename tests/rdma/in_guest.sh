#!/bin/bash
# in_guest.sh BINARY [ARG...]: the runner of //tests/rdma's Bazel tests. Runs a test binary in the guest
# (guest.sh), with its results left where Bazel looks for them. Where no guest can be had the test is
# skipped, with the reason: as GoogleTest's own skips it is a case of the test's XML.
set -u
guest=tests/rdma/guest.sh
reason=$("$guest" --check 2>&1)
if [ $? = 77 ]; then
  echo "skipped: $reason"
  text=$(printf '%s' "$reason" | tr '\n' ' ' | sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/"/\&quot;/g')
  [ -z "${XML_OUTPUT_FILE:-}" ] || cat > "$XML_OUTPUT_FILE" <<EOF
<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="1" skipped="1"><testsuite name="rdma" tests="1" skipped="1">
<testcase name="guest" classname="rdma"><skipped message="$text"/></testcase>
</testsuite></testsuites>
EOF
  exit 0
fi
exec "$guest" --bazel --timeout "${RDMA_GUEST_TIMEOUT:-600}" -- "$@"
