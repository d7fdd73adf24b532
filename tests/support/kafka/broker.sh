#!/usr/bin/env bash
# One Apache Kafka broker, run for whoever holds the other end of standard input: alone on
# 127.0.0.1, or with --member ID HOST VOTERS a member of a cluster, in a network namespace where
# HOST is its own (ports 9092 and 9093). VOTERS is what controller.quorum.voters is.
#
# A line in is an order, a line out its answer:
#   start   ready HOST:PORT PID [JMX_PORT] | failed LOG REASON   same ports and data every time
#   stop    stopped     in order (SIGTERM)
#   kill    stopped     without warning (SIGKILL)
#   freeze  frozen      SIGSTOP: alive to the network, dead to everyone
#   thaw    thawed
# Other arguments are NAME=VALUE, settings beside those of server.properties or in place of them;
# @…@ is filled in there too.
# KAFKA_HEAP_OPTS and KAFKA_JVM_PERFORMANCE_OPTS are what they are to Kafka's own start scripts;
# without them it is small and starts soon. With BROKER_JMX it tells its counters at JMX_PORT, on
# 127.0.0.1 as well.
# End of input (the owner ended, however it ended) kills the broker and removes its data.
# Ready means: the log says so, the port answers, and groups have their coordinator.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
jars=$("$here/jars.sh")
runs=$(dirname "$jars")/run
run=$runs/$$
start_seconds_max=90
broker=
jmx_port=
starts=0
log=$run/broker.log
node=1
host=127.0.0.1
voters=
if [[ ${1:-} == --member ]]; then
  node=$2 host=$3 voters=$4
  shift 4
  # several start at once, perhaps on a machine that has other work
  start_seconds_max=240
fi
settings=("$@")

main() {
  command -v java >/dev/null || {
    echo "failed - java is missing: install it (Debian: apt-get install openjdk-17-jre-headless)"
    exit 69
  }
  trap finish EXIT
  trap 'exit 143' TERM INT HUP
  trap '' PIPE
  sweep
  mkdir -p "$run"
  local order
  while read -r order; do
    case $order in
      start) start ;;
      stop) end TERM && answer stopped ;;
      kill) end KILL && answer stopped ;;
      freeze) kill -STOP "$broker" && answer frozen ;;
      thaw) kill -CONT "$broker" && answer thawed ;;
      *) answer "unknown order: $order" ;;
    esac
  done
}

answer() { echo "$*" 2>/dev/null || true; }

start() {
  [[ -f $run/server.properties ]] || configure
  starts=$((starts + 1))
  log=$run/broker-$starts.log
  local heap=${KAFKA_HEAP_OPTS:--Xms192m -Xmx192m}
  local jvm=${KAFKA_JVM_PERFORMANCE_OPTS:--XX:+UseSerialGC -XX:TieredStopAtLevel=1}
  local jmx=()
  if [[ -n $jmx_port ]]; then
    jmx=(
      -Dcom.sun.management.jmxremote=true
      -Dcom.sun.management.jmxremote.host=127.0.0.1 -Djava.rmi.server.hostname=127.0.0.1
      "-Dcom.sun.management.jmxremote.port=$jmx_port"
      "-Dcom.sun.management.jmxremote.rmi.port=$jmx_port"
      -Dcom.sun.management.jmxremote.authenticate=false -Dcom.sun.management.jmxremote.ssl=false
    )
  fi
  # shellcheck disable=SC2086 # each is several words
  java $heap $jvm "${jmx[@]}" \
    -Djava.net.preferIPv4Stack=true -Dlog4j2.configurationFile="$here/log4j2.xml" \
    -cp "$jars/*" kafka.Kafka "$run/server.properties" </dev/null >"$log" 2>&1 &
  broker=$!
  local deadline=$((SECONDS + start_seconds_max))
  until ready; do
    if ! kill -0 "$broker" 2>/dev/null; then
      fail "the broker ended before it was ready"
      return
    elif ((SECONDS >= deadline)); then
      fail "the broker was not ready after $start_seconds_max s"
      return
    fi
    sleep 0.1
  done
  answer "ready $host:$port $broker${jmx_port:+ $jmx_port}"
}

ready() { grep -qs 'Kafka Server started' "$log" && coordinator_answers; }

# The first FindCoordinator makes Kafka create __consumer_offsets, which takes seconds that the
# first test would otherwise wait. The request by hand, because no client is needed otherwise:
# length, api key 10, version 0, correlation id 1, no client id, the group "warm-up". The answer
# is length, correlation id and an error code, which is 0 once the coordinator is there.
coordinator_answers() {
  local request='\x00\x00\x00\x13\x00\x0a\x00\x00\x00\x00\x00\x01\xff\xff\x00\x07warm-up'
  local code
  # shellcheck disable=SC2059 # the format is the request
  code=$(
    exec 2>/dev/null 3<>"/dev/tcp/$host/$port"
    printf "$request" >&3
    timeout 5 head -c 10 <&3 | od -An -tx1 -j8 -N2
  ) || return 1
  [[ $code == ' 00 00' ]]
}

configure() {
  local controller_port quorum=--standalone
  if [[ -n $voters ]]; then
    port=9092 controller_port=9093
    # whoever names voters has no quorum to make
    quorum=
    settings=("controller.quorum.voters=$voters" "${settings[@]}")
  else
    port=$(free_port)
    controller_port=$(free_port)
  fi
  [[ -z ${BROKER_JMX:-} ]] || jmx_port=$(free_port)
  # the last of a name counts
  {
    cat "$here/server.properties"
    ((${#settings[@]} == 0)) || printf '%s\n' "${settings[@]}"
  } | sed -e "s|@port@|$port|g" -e "s|@controller_port@|$controller_port|g" \
    -e "s|@data@|$run/data|g" -e "s|@node@|$node|g" -e "s|@host@|$host|g" \
    >"$run/server.properties"
  [[ -z $voters ]] || sed -i '/^controller.quorum.bootstrap.servers=/d' "$run/server.properties"
  # shellcheck disable=SC2086 # no argument where there are voters
  java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$jars/*" \
    -Dlog4j2.configurationFile="$here/log4j2.xml" kafka.tools.StorageTool \
    format $quorum -t MkU3OEVBNTcwNTJENDM2Qg -c "$run/server.properties" \
    </dev/null >"$run/format.log" 2>&1 || cat "$run/format.log" >&2
}

# Below the range the kernel takes for outgoing connections, so that nothing sits on the port
# while the broker is down between two starts.
free_port() {
  local candidate
  while :; do
    candidate=$((20000 + SRANDOM % 12000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$candidate") 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
}

end() {
  [[ -n $broker ]] || return 0
  kill "-$1" "$broker" 2>/dev/null || true
  kill -CONT "$broker" 2>/dev/null || true # a frozen one could not obey
  wait "$broker" 2>/dev/null || true
  broker=
}

# keeps the folder: its log tells why
fail() {
  end KILL
  mv "$run" "$runs/failed-$$"
  mkdir -p "$run"
  answer "failed $runs/failed-$$/${log##*/} $1"
}

finish() {
  end KILL
  rm -rf "$run"
}

# what a run left that was itself killed
sweep() {
  local left
  for left in "$runs"/[0-9]*; do
    [[ ! -d $left ]] || kill -0 "${left##*/}" 2>/dev/null || rm -rf "$left"
  done
}

main
