#!/usr/bin/env python3
"""A merchant's endpoint that shares no code with Postrider.

Verifies every request with the standardwebhooks library, appends one JSON line per request to
the log, and only then answers: who saw an answer finds its line. Prints its port once it
listens. Runs until SIGTERM or SIGINT, or until the pipe at its standard input closes.

Several of them may share one log: each line is one appending write.

A log line holds
  arrived_ms  when the request's last byte was read, ms since the epoch
  path        as requested, with the query
  id, timestamp, attempt
              the headers webhook-id, webhook-timestamp, postrider-attempt; null if missing
  verdict     "ok", or why the library refused
  sha256      of the body, hex
  sender      the id of the process that opened the connection, with --senders; null if it is not
              on this machine, or was gone before it could be found
  event       the member "id" if the body is a JSON object, else null
  status      the answer
"""

import argparse
import asyncio
import hashlib
import json
import os
import signal
import socket
import stat
import struct
import sys
import time
from http import HTTPStatus

from standardwebhooks.webhooks import Webhook

HEAD_BYTES_MAX = 64 * 1024


def main():
    arguments = parse_arguments()
    secrets = read_secrets(arguments)
    script = Script(arguments)
    log = os.open(arguments.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    senders = Senders(arguments.senders) if arguments.senders else None
    asyncio.run(serve(arguments.port, lambda: Connection(secrets, script, log, senders)))


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log", required=True, metavar="FILE", help="appended to")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    keys = parser.add_mutually_exclusive_group(required=True)
    keys.add_argument("--secret", metavar="whsec_…", help="one secret for all paths")
    keys.add_argument(
        "--secrets", metavar="FILE", help='JSON: {"/path": "whsec_…", "*": "whsec_…"}'
    )
    parser.add_argument(
        "--always",
        type=rule,
        action="append",
        default=[],
        metavar="PREFIX=STATUS",
        help="answer paths that start with PREFIX with STATUS",
    )
    parser.add_argument(
        "--fail-first",
        type=rule,
        action="append",
        default=[],
        metavar="PREFIX=N",
        help="answer the first N requests of each webhook-id with 500, then 200",
    )
    parser.add_argument(
        "--fail-share",
        type=rule,
        action="append",
        default=[],
        metavar="PREFIX=PERCENT",
        help="answer the first attempt of so many events with 500, the second of a third of them "
        "too; which ones, depends on the event's id alone",
    )
    parser.add_argument(
        "--refuse",
        type=rule,
        action="append",
        default=[],
        metavar="PREFIX=STATUS",
        help="answer what the library refuses with STATUS, before all other rules",
    )
    parser.add_argument(
        "--delay",
        type=rule,
        action="append",
        default=[],
        metavar="PREFIX=MS",
        help="answer paths that start with PREFIX after MS milliseconds",
    )
    parser.add_argument(
        "--senders", metavar="NAME", help="find out which process of this name sends; Linux only"
    )
    return parser.parse_args()


def rule(text):
    prefix, _, number = text.rpartition("=")
    if not prefix.startswith("/") or not number.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: expected /PREFIX=NUMBER")
    return prefix, int(number)


def read_secrets(arguments):
    """From path to verifier; "*" stands for every other path."""
    if arguments.secret:
        by_path = {"*": arguments.secret}
    else:
        with open(arguments.secrets, encoding="utf-8") as file:
            by_path = json.load(file)
    return {path: Webhook(secret) for path, secret in by_path.items()}


class Script:
    """Which status a request gets, and when."""

    def __init__(self, arguments):
        self.refuse = arguments.refuse
        self.always = arguments.always
        self.fail_first = arguments.fail_first
        self.fail_share = arguments.fail_share
        self.delays = arguments.delay
        self.seen = {}

    def status(self, path, verdict, webhook_id, attempt, event):
        for prefix, status in self.refuse:
            if path.startswith(prefix) and verdict != "ok":
                return status
        for prefix, status in self.always:
            if path.startswith(prefix):
                return status
        for prefix, failures in self.fail_first:
            if path.startswith(prefix):
                count = self.seen.get((path, webhook_id), 0) + 1
                self.seen[path, webhook_id] = count
                return 500 if count <= failures else 200
        for prefix, percent in self.fail_share:
            if path.startswith(prefix):
                return 500 if attempt <= failing_attempts(str(event), percent) else 200
        return 200

    def delay_s(self, path):
        return next((ms / 1000 for prefix, ms in self.delays if path.startswith(prefix)), 0)


def failing_attempts(event, percent):
    """How many attempts of an event fail under --fail-share."""
    drawn = int.from_bytes(hashlib.sha256(event.encode()).digest()[:4]) % 300
    if drawn >= percent * 3:
        return 0
    return 2 if drawn < percent else 1


class Senders:
    """Which process of a name a connection is from: the kernel says which socket (sock_diag(7)),
    and /proc whose it is (proc(5)). Asked once per connection, so it has to be quick."""

    # nlmsghdr and inet_diag_req_v2 up to the ports: one socket, in any state
    REQUEST = struct.Struct("=IHHII BBBBI")
    SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, NETLINK_SOCK_DIAG = 20, 1, 4
    # of the inode in inet_diag_msg behind nlmsghdr
    INODE_AT = 84

    def __init__(self, name):
        self.name = name
        self.diagnosis = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, self.NETLINK_SOCK_DIAG)
        self.pids = []
        self.owners = {}

    def find(self, transport):
        """The process id; None if the process has none of the name, or is gone."""
        ends = (transport.get_extra_info(name) for name in ("peername", "sockname"))
        inode = self.inode(*ends)
        if inode and inode not in self.owners:
            self.look(self.pids)
        if inode and inode not in self.owners:
            everyone = filter(str.isdigit, os.listdir("/proc"))
            self.pids = [pid for pid in everyone if self.is_named(pid)]
            self.look(self.pids)
        return self.owners.get(inode)

    def inode(self, peer, own):
        head = self.REQUEST.pack(
            72, self.SOCK_DIAG_BY_FAMILY, self.NLM_F_REQUEST, 0, 0,
            socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF,
        )  # fmt: skip
        ports = struct.pack("!HH", peer[1], own[1])
        addresses = (socket.inet_aton(end[0]) + bytes(12) for end in (peer, own))
        # no interface, no cookie
        self.diagnosis.send(head + ports + b"".join(addresses) + bytes(4) + b"\xff" * 8)
        answer = self.diagnosis.recv(4096)
        if len(answer) < self.INODE_AT + 4:
            return 0
        return struct.unpack_from("=I", answer, self.INODE_AT)[0]

    def look(self, pids):
        self.owners = {}
        for pid in pids:
            folder = f"/proc/{pid}/fd"
            try:
                targets = [os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)]
            except OSError:  # it ended, or closed one meanwhile
                continue
            for target in targets:
                if target.startswith("socket:["):
                    self.owners[int(target[8:-1])] = int(pid)

    def is_named(self, pid):
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8") as name:
                return name.read().strip() == self.name
        except OSError:
            return False


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive and content-length, which is all a webhook sender needs."""

    def __init__(self, secrets, script, log, senders):
        self.senders = senders
        self.sender = None
        self.secrets = secrets
        self.script = script
        self.log = log
        self.buffer = b""
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport
        if self.senders:
            self.sender = self.senders.find(transport)

    def data_received(self, data):
        self.buffer += data
        while not self.transport.is_closing():
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self.buffer) > HEAD_BYTES_MAX:
                    self.refuse(431)
                return
            path, headers = parse_head(self.buffer[:end])
            length = headers.get("content-length", "0")
            if path is None or not length.isdigit():
                return self.refuse(400)
            if "transfer-encoding" in headers:
                return self.refuse(411)
            body_end = end + 4 + int(length)
            if len(self.buffer) < body_end:
                return
            body = self.buffer[end + 4 : body_end]
            self.buffer = self.buffer[body_end:]
            self.receive(path, headers, body)

    def receive(self, path, headers, body):
        arrived_ms = time.time_ns() // 1_000_000
        webhook_id = headers.get("webhook-id")
        attempt = headers.get("postrider-attempt")
        event = event_id(body)
        number = int(attempt) if attempt and attempt.isdigit() else 1
        verdict = self.verdict(path, headers, body)
        status = self.script.status(path, verdict, webhook_id, number, event)
        line = {
            "arrived_ms": arrived_ms,
            "path": path,
            "id": webhook_id,
            "timestamp": headers.get("webhook-timestamp"),
            "attempt": attempt,
            "verdict": verdict,
            "sha256": hashlib.sha256(body).hexdigest(),
            "sender": self.sender,
            "event": event,
            "status": status,
        }
        os.write(self.log, json.dumps(line).encode() + b"\n")
        delay_s = self.script.delay_s(path)
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, self.answer, status)
        else:
            self.answer(status)

    def verdict(self, path, headers, body):
        verifier = self.secrets.get(path) or self.secrets.get("*")
        if verifier is None:
            return "no secret for this path"
        try:
            verifier.verify(body, headers, json_parse=False)
        except Exception as error:  # the library raises more than its own type
            return f"{type(error).__name__}: {error}"
        return "ok"

    def answer(self, status, extra=b""):
        try:
            phrase = HTTPStatus(status).phrase
        except ValueError:
            phrase = "Scripted"
        head = f"HTTP/1.1 {status} {phrase}\r\ncontent-length: 0\r\n".encode()
        self.transport.write(head + extra + b"\r\n")

    def refuse(self, status):
        self.answer(status, b"connection: close\r\n")
        self.transport.close()


def parse_head(head):
    """The path and the headers by lower-case name; the path is None if this is not HTTP."""
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return (words[1] if len(words) == 3 else None), headers


def event_id(body):
    try:
        event = json.loads(body)
    except ValueError:  # not JSON, or not UTF-8
        return None
    return event.get("id") if isinstance(event, dict) else None


async def serve(port, connection):
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    if stat.S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
        loop.add_reader(sys.stdin.fileno(), lambda: sys.stdin.buffer.read1() or ended.set())
    server = await loop.create_server(connection, "127.0.0.1", port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await ended.wait()


if __name__ == "__main__":
    main()
