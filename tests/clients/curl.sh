#!/usr/bin/env bash
# What the README shows, with curl against a running server:  tests/clients/curl.sh [http://127.0.0.1:8080]
set -euo pipefail
base=${1:-http://127.0.0.1:8080}
images=$(dirname "$0")/../../samples/images
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# status CODE NAME ARGUMENTS...: the request is answered with that status.
status() {
  local expected=$1 name=$2 found
  shift 2
  found=$(curl -sS -o "$out/body" -w '%{http_code}' "$@")
  if [[ $found != "$expected" ]]; then
    echo "FAIL $name: $found, expected $expected: $(head -c 300 "$out/body")"
    exit 1
  fi
  echo "ok   $name: $found $(head -c 100 "$out/body" | tr '\n' ' ' | tr -cd '[:print:]')"
}

json='Content-Type: application/json'
status 200 "live" "$base/health/live"
status 200 "ready" "$base/health/ready"
status 200 "models" "$base/v1/models"
status 200 "metrics" "$base/metrics"
status 200 "OpenAPI" "$base/openapi.json"
status 200 "docs" "$base/docs"
status 200 "page" "$base/"

{ printf '{"messages":[{"role":"user","content":[{"type":"text","text":"Write the report."},{"type":"image_url","image_url":{"url":"data:application/dicom;base64,'
  base64 < "$images/phantom.dcm" | tr -d '\n'; printf '"}}]}]}'; } > "$out/chat.json"
status 200 "chat" "$base/v1/chat/completions" -H "$json" -d @"$out/chat.json"
sed 's/^{/{"stream":true,/' "$out/chat.json" > "$out/stream.json"
status 200 "stream" -N "$base/v1/chat/completions" -H "$json" -d @"$out/stream.json"
[[ $(tail -n 2 "$out/body" | head -n 1) == 'data: [DONE]' ]] || { echo "FAIL the stream does not end in [DONE]"; exit 1; }

status 200 "report, JSON" "$base/v1/reports" -F image=@"$images/phantom.dcm" -F indication=cough
status 200 "report, text" "$base/v1/reports" -F image=@"$images/phantom.dcm" -H 'Accept: text/plain'
status 200 "report, FHIR" "$base/v1/reports" -F image=@"$images/phantom.dcm" -H 'Accept: application/fhir+json'
grep -q '"status":"preliminary"' "$out/body" || { echo "FAIL the FHIR report is not preliminary"; exit 1; }
status 200 "report, DICOM" "$base/v1/reports" --data-binary @"$images/phantom.dcm" -H 'Content-Type: application/dicom' -H 'Accept: application/dicom'
[[ $(dd if="$out/body" bs=1 skip=128 count=4 2> /dev/null) == DICM ]] || { echo "FAIL no DICOM file"; exit 1; }
status 200 "report, events" -N "$base/v1/reports" -F image=@"$images/phantom.dcm" -H 'Accept: text/event-stream'
grep -q '^event: report' "$out/body" || { echo "FAIL no report event"; exit 1; }

status 404 "no path" "$base/v1/none"
status 405 "no method" -X DELETE "$base/v1/models"
status 415 "no JSON" "$base/v1/chat/completions" -d '{}' -H 'Content-Type: text/plain'
status 400 "no messages" "$base/v1/chat/completions" -d '{}' -H "$json"
status 406 "no form" "$base/v1/reports" -F image=@"$images/phantom.dcm" -H 'Accept: image/png'
echo "all lines work"
