"""Verifies each request of standard input with the code of docs/guides/verify/python.md."""

import base64
import sys

from webhook import NotVerified, verify

for line in sys.stdin:
    secret, body, *fields = line.rstrip("\n").split("\t")
    headers = dict(field.split(": ", 1) for field in fields)
    try:
        verify(secret, headers, base64.b64decode(body))
        print("accepted")
    except NotVerified:
        print("refused")
