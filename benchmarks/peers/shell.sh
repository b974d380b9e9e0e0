#!/bin/sh
# shell.sh COUNT URL: ten curls at a time. It writes nothing down, so it begins anew each time.
where="$2/v25.0/106540352242922/messages"
seq 0 "$(($1 - 1))" | xargs -P 10 -I{} sh -c '
    curl -s -o /dev/null -H "authorization: Bearer a-token-of-no-one" \
        -H "content-type: application/json" "$0" -d "{\"messaging_product\":\"whatsapp\",
        \"recipient_type\":\"individual\",\"to\":\"+49151$((10000000 + $1))\",\"type\":\"text\",
        \"text\":{\"body\":\"Hello Ann$1 Smith, your order $1 is on its way to Berlin.\"}}"' \
    "$where" {}
