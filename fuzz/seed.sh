#!/usr/bin/env bash
# Fills fuzz/corpus with what the repository has.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p fuzz/corpus/{chat_request,data_uri,raster,dicom,safetensors_header,lexicon}
find tests/fixtures samples/images -type f -size -64k \( -name '*.png' -o -name '*.jpg' -o -name '*.gif' -o -name '*.webp' -o -name '*.bmp' -o -name '*.tif*' \) \
  -exec cp -t fuzz/corpus/raster {} +
# The first byte chooses the frame.
find tests/fixtures -type f -name '*.dcm' -size -64k | while read -r file; do
  { printf '\0'; cat "$file"; } > "fuzz/corpus/dicom/$(basename "$file")"
done
find tests/goldens -name 'model.safetensors' -size -200k | while read -r file; do
  cp "$file" "fuzz/corpus/safetensors_header/$(echo "$file" | tr / _)"
done
printf 'data:image/png;base64,iVBORw0KGgo=' > fuzz/corpus/data_uri/png
printf 'iVBORw0KGgo' > fuzz/corpus/data_uri/bare
printf 'data:application/dicom;base64,AAAA\n' > fuzz/corpus/data_uri/dicom
printf 'pleural effusion\nnodule\tC0034079\n' > fuzz/corpus/lexicon/tsv
printf 'C0000005|ENG|P|L0000005|PF|S0007492|Y|A26634265||M0019694|D012711|MSH|PEP|D012711|effusion|0|N|256|\n' > fuzz/corpus/lexicon/rrf
printf '{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo=","detail":"low"}}]}],"temperature":0.5,"top_p":0.9,"top_k":4,"min_p":0.1,"max_tokens":5,"stop":["a","b"],"seed":7,"n":2,"logprobs":true,"top_logprobs":2,"logit_bias":{"5":-1},"stream":true,"stream_options":{"include_usage":true},"response_format":{"type":"json_object"}}' > fuzz/corpus/chat_request/full
printf '{"messages":[{"role":"system","content":"s"},{"role":"user","content":"x"}]}' > fuzz/corpus/chat_request/small
for folder in fuzz/corpus/*; do echo "$folder: $(find "$folder" -type f | wc -l) files"; done
