#!/usr/bin/env bash
# Two SIPp phones register with the running deployment of environment $ENV, one over UDP and one over TCP, and the second
# calls the first: it rings, answers, and is hung up. Prints each message with its time.
set -euo pipefail
cd "$(dirname "$0")/.."
sipp=$(scripts/need.sh sipp)
output() { scripts/terraform.sh output -raw "$1" 2>/dev/null; }
proxy=$(output sip_proxy) || { echo "call: environment ${ENV:-local} has no running deployment: make up" >&2; exit 1; }
domain=$(output home_domain)
network=${proxy%.*}
logs=$PWD/.state/call/${ENV:-local}
rm -rf "$logs" && mkdir -p "$logs"
scenarios=$PWD/acctest/calls/scenarios
# The scenario's own subscribers; the passwords are the defaults of its variable "passwords".
line() { printf 'SEQUENTIAL\n%s;[authentication username=%s@%s password=%s];%s;300;%s;\n' "$1" "$1" "$domain" "$2" "$3" "$4"; }
line 6505550800 phone-a-secret 00000000-0000-4000-8000-000000000800 6505550801 >"$logs/a.csv"
line 6505550801 phone-b-secret 00000000-0000-4000-8000-000000000801 6505550800 >"$logs/b.csv"
phone() { # name, scenario, address, transport, data, more arguments
  local name=$1 scenario=$2 address=$3 transport=$4 data=$5
  shift 5
  (cd "$logs" && "$sipp" "$proxy" -sf "$scenarios/$scenario.xml" -inf "$logs/$data.csv" -s "$domain" -i "$address" -p 5060 -t "$transport" \
    -m 1 -nostdin -timeout 30 -timeout_error -trace_err -error_file "$logs/$name.errors" -trace_msg -message_file "$logs/$name.messages" \
    "$@" >"$logs/$name.screen" 2>&1)
}
failed() {
  echo "call: $1 failed; SIPp's logs are in ${logs#"$PWD"/}" >&2
  tail -n 20 "$logs/$2.errors" 2>/dev/null >&2 || true
  exit 1
}
began=$(date +%s%N)
phone b-register register "$network.241" u1 b || failed "registering phone B over UDP" b-register
registered=$(date +%s%N)
phone b-answer answer "$network.241" u1 b &
answering=$!
trap 'kill "$answering" 2>/dev/null || true' EXIT
for _ in $(seq 100); do grep -q "$(printf '%02X%02X%02X%02X' $(echo "$network.241" | awk -F. '{print $4, $3, $2, $1}')):13C4" /proc/net/udp && break; sleep 0.05; done
phone a-call caller "$network.240" t1 a || failed "phone A (TCP): register, call, talk, hang up" a-call
wait "$answering" || failed "phone B (UDP): ring, answer, be hung up" b-answer
trap - EXIT
ended=$(date +%s%N)
echo "phone A: sip:6505550800@$domain at $network.240 over TCP, phone B: sip:6505550801@$domain at $network.241 over UDP, proxy $proxy"
# SIPp's message log: a line with the time before each message, then the message itself.
for name in b-register a-call b-answer; do
  awk -v phone="${name%%-*}" '
    /^-+ [0-9]/ { when = $3; next }
    /message (sent|received)/ { way = ($0 ~ /sent/) ? "->" : "<-"; grab = 1; next }
    grab && NF { sub(/\r$/, ""); if ($1 == "SIP/2.0") { text = $2 " " $3 " " $4 } else { text = $1 " " $2 } ; printf "%s  %s %s %s\n", when, toupper(phone), way, text; grab = 0 }
  ' "$logs/$name.messages"
done | sort
printf 'register %d ms; register, call with 500 ms of ringing and 1 s of talk: %d ms\n' $(((registered - began) / 1000000)) $(((ended - registered) / 1000000))
