# shellcheck shell=bash
# Sourced by scripts/dev, scripts/test and .ci/run: makes sure that the machine has what they
# need. `set_up run` is enough to build and run; `set_up run test` is for tests as well.
#
# With root and apt it installs what is missing; otherwise it ends with one message that lists
# it all. What is there is left alone. Everything else it fetches goes to .cache/.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # for those who source this
cache=$root/.cache

# what for; how to see that it is there; the Debian package that brings it
requirements() {
  case $1 in
    run)
      echo 'C compiler|command -v cc|gcc libc6-dev'
      echo 'C++ compiler|command -v c++|g++'
      echo 'make|command -v make|make'
      echo 'pkg-config|command -v pkg-config|pkg-config'
      echo 'OpenSSL headers|pkg-config --exists openssl|libssl-dev'
      echo 'zlib headers|pkg-config --exists zlib|zlib1g-dev'
      ;;
    test)
      echo 'Java 17 or later with its compiler|command -v javac|openjdk-17-jdk-headless'
      echo 'Maven|command -v mvn|maven'
      echo 'kcat|command -v kcat|kcat'
      echo 'Node 18 or later with npm|command -v npm|nodejs npm'
      echo 'network namespaces|command -v ip && command -v nft && command -v unshare && command -v prlimit|iproute2 nftables util-linux'
      echo 'Python 3 with venv|python3 -c "import ensurepip, venv"|python3 python3-venv'
      echo 'Go|command -v go|golang-go'
      echo 'PHP 8|command -v php|php-cli'
      echo 'Ruby|command -v ruby|ruby'
      echo 'Mono and its C# compiler|command -v mcs && command -v mono|mono-mcs mono-runtime'
      ;;
  esac
}

set_up() {
  need_rust
  need_packages "$@"
}

# The pin in rust-toolchain.toml, from an installed toolchain: the pinned one, or whichever is
# the default if it is that version under another name ("stable"). Nothing is downloaded.
need_rust() {
  local pin
  pin=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$root/rust-toolchain.toml")
  if ! command -v cargo >/dev/null; then
    stop "cargo is missing: install Rust $pin (https://rustup.rs), then run this again"
  fi
  command -v rustup >/dev/null || return 0 # then cargo itself checks rust-version
  if ! rustup toolchain list | grep -q "^$pin"; then
    local default
    default=$(rustup default 2>/dev/null | cut -d' ' -f1)
    if [[ $(RUSTUP_TOOLCHAIN=$default rustc --version 2>/dev/null) == "rustc $pin "* ]]; then
      export RUSTUP_TOOLCHAIN=$default
    else
      stop "Rust $pin is missing: run 'rustup toolchain install $pin --component clippy,rustfmt', then run this again"
    fi
  fi
}

need_packages() {
  local list names packages
  list=$(missing "$@")
  [[ -n $list ]] || return 0
  names=$(cut -d'|' -f1 <<<"$list" | paste -sd, | sed 's/,/, /g')
  packages=$(cut -d'|' -f3 <<<"$list" | paste -sd' ')
  if [[ $EUID != 0 ]] || ! command -v apt-get >/dev/null; then
    stop "missing: $names; install them (Debian: apt-get install $packages), then run this again"
  fi
  echo "installing what is missing: $names" >&2
  local log=$cache/apt.log
  mkdir -p "$cache"
  # shellcheck disable=SC2086 # a list of packages
  {
    apt-get update && DEBIAN_FRONTEND=noninteractive \
      apt-get install -y --no-install-recommends $packages
  } </dev/null >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    stop "apt-get failed to install $packages; all it said is in $log"
  }
  list=$(missing "$@")
  [[ -z $list ]] || stop "still missing after apt-get install $packages: $(cut -d'|' -f1 <<<"$list" | paste -sd,)"
}

# those lines of the requirements that do not hold
missing() {
  local kind name check package
  for kind in "$@"; do
    while IFS='|' read -r name check package; do
      bash -c "$check" >/dev/null 2>&1 </dev/null || echo "$name|$check|$package"
    done < <(requirements "$kind")
  done
}

# python_environment FOLDER REQUIREMENTS: a virtual environment with exactly these packages.
# Any number of processes may ask at once; one of them makes it.
python_environment() {
  cmp -s "$2" "$1/requirements.txt" && return 0
  mkdir -p "$cache"
  (
    flock 9
    cmp -s "$2" "$1/requirements.txt" && exit 0
    rm -rf "$1"
    python3 -m venv "$1"
    "$1/bin/pip" install --quiet --disable-pip-version-check --requirement "$2" >&2
    cp "$2" "$1/requirements.txt"
  ) 9>"$1.lock"
}

# node_environment FOLDER SOURCE: the programs of a folder, with exactly the packages of its lock
# file. As python_environment, for any number of processes.
node_environment() {
  mkdir -p "$cache"
  (
    flock 9
    if ! cmp -s "$2/package-lock.json" "$1/installed.json"; then
      rm -rf "$1"
      mkdir -p "$1"
      cp "$2/package.json" "$2/package-lock.json" "$1/"
      (cd "$1" && npm ci --silent --no-audit --no-fund --ignore-scripts >&2)
      cp "$2/package-lock.json" "$1/installed.json"
    fi
    cp "$2"/*.mjs "$1/"
  ) 9>"$1.lock"
}

stop() {
  echo "${0##*/}: $1" >&2
  exit 69
}
