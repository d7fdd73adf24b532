#!/usr/bin/env bash
# guides.sh LANGUAGE FOLDER: builds and runs the program of that language in guides/ with the code
# of a page, which lies in FOLDER/code. Requests come in on standard input, a line each; a verdict
# goes out for each.
set -euo pipefail

guides=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/guides
cd "$2"

case $1 in
  python)
    cp "$guides/main.py" . && cp code webhook.py
    exec python3 main.py
    ;;
  node)
    cp "$guides/main.mjs" . && cp code webhook.mjs
    exec node main.mjs
    ;;
  go)
    mkdir webhook
    cp "$guides/main.go" . && cp code webhook/webhook.go
    printf 'module guides\n\ngo 1.18\n' >go.mod
    GOTOOLCHAIN=local GOPROXY=off GOFLAGS=-mod=mod go build -o program .
    exec ./program
    ;;
  java)
    cp "$guides/Main.java" . && cp code Webhook.java
    javac -Xlint:all -Werror Main.java Webhook.java
    exec java -cp . Main
    ;;
  php)
    cp "$guides/main.php" . && cp code webhook.php
    exec php main.php
    ;;
  ruby)
    cp "$guides/main.rb" . && cp code webhook.rb
    exec ruby -w main.rb
    ;;
  csharp)
    # .NET is not among Debian's packages; Mono is, and has what the page needs
    cp "$guides/Main.cs" . && cp code Webhook.cs
    mcs -warnaserror -out:program.exe Main.cs Webhook.cs
    exec mono program.exe
    ;;
  *)
    echo "${0##*/}: no program for $1" >&2
    exit 64
    ;;
esac
