"""Reads requests as CloudEvents, and writes events as Kafka messages, with the official library.

`read`: one request as JSON from each line of the input; prints the attributes and the data that
the library found in it. `write`: prints one Kafka message on each line.
"""

import base64
import json
import sys
from datetime import datetime, timezone

from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from cloudevents.core.bindings.kafka import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent


def encode(data):
    return base64.b64encode(data).decode()


def text(value):
    if isinstance(value, datetime):
        return value.isoformat()
    return value


def found(data):
    if isinstance(data, bytes):
        return {"bytes": encode(data)}
    if isinstance(data, str):
        return {"text": data}
    return {"json": data}


def read():
    for line in sys.stdin:
        case = json.loads(line)
        body = base64.b64decode(case["body"])
        event = from_http_event(HTTPMessage(headers=case["headers"], body=body))
        attributes = {name: text(value) for name, value in event.get_attributes().items()}
        answer = {"case": case["name"], "attributes": attributes, "data": found(event.get_data())}
        print(json.dumps(answer))


DATA = {
    "json": ("application/json", {"amount": 1050, "note": "café €"}),
    "text": ("text/plain", "café €"),
    "bytes": ("image/png", bytes(range(256))),
}


def write():
    for name, (content_type, data) in DATA.items():
        for mode, to_message in (
            ("binary", to_binary_event),
            ("structured", to_structured_event),
        ):
            attributes = {
                "id": "evt_1",
                "source": "/sdk",
                "type": "payment.captured",
                "time": datetime(2023, 1, 19, 0, 13, 51, tzinfo=timezone.utc),
                "datacontenttype": content_type,
                "tenant": "acme",
                "partitionkey": "pay_1",
                "currencyname": "Euro € 😀",
            }
            message = to_message(CloudEvent(attributes, data))
            headers = {name: encode(value) for name, value in message.headers.items()}
            value = encode(message.value)
            print(json.dumps({"mode": mode, "data": name, "headers": headers, "value": value}))


{"read": read, "write": write}[sys.argv[1]]()
