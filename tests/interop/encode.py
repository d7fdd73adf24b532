"""Writes values as serializers that others wrote do, framed for a schema registry.

Prints for each as JSON on a line: the schema as a registry would answer, the framed value and the
header of the record, where the schema is named there, in base64; and what the value is as JSON.
"""

import base64
import datetime
import decimal
import json
import uuid

from confluent_kafka.schema_registry import (
    Schema,
    SchemaReference,
    SchemaRegistryClient,
    header_schema_id_serializer,
)
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf import duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2

MONEY = {
    "type": "record",
    "name": "Money",
    "namespace": "shop.common",
    "fields": [
        {
            "name": "value",
            "type": {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 4},
        },
        {"name": "currency", "type": {"type": "fixed", "name": "Code", "size": 3}},
    ],
}

PAYMENT = {
    "type": "record",
    "name": "Payment",
    "namespace": "shop",
    "fields": [
        {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "amount", "type": "shop.common.Money"},
        {"name": "fee", "type": ["null", "shop.common.Money"], "default": None},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "time", "type": {"type": "int", "logicalType": "time-millis"}},
        {"name": "local", "type": {"type": "long", "logicalType": "local-timestamp-millis"}},
        {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["NEW", "PAID"]}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "extra", "type": {"type": "map", "values": ["null", "long", "string"]}},
        {"name": "rate", "type": "float"},
        {"name": "weight", "type": "double"},
        {"name": "raw", "type": "bytes"},
        {"name": "sequence", "type": "long"},
        {"name": "final", "type": "boolean"},
        {"name": "parent", "type": ["null", "Payment"], "default": None},
    ],
}


def payment(sequence, parent=None):
    return {
        "id": str(uuid.UUID(int=7)),
        "amount": {"value": decimal.Decimal("-12345678901234567890.1200"), "currency": b"EUR"},
        "fee": {"value": decimal.Decimal("0.0100"), "currency": b"EUR"},
        "at": datetime.datetime(2026, 1, 31, 12, 0, 0, 123456, datetime.timezone.utc),
        "day": datetime.date(1969, 7, 20),
        "time": datetime.time(23, 59, 59, 999000),
        "local": datetime.datetime(2026, 1, 31, 12, 0),
        "state": "PAID",
        "tags": ["é", '"quoted"'],
        "extra": {"a": None, "b": 1, "c": "x"},
        "rate": 0.5,
        "weight": 0.1,
        "raw": b"\x00\xff",
        "sequence": sequence,
        "final": True,
        "parent": parent,
    }


def payment_as_json(sequence, parent=None):
    return {
        "id": "00000000-0000-0000-0000-000000000007",
        "amount": {"value": "-12345678901234567890.1200", "currency": "RVVS"},
        "fee": {"value": "0.0100", "currency": "RVVS"},
        "at": "2026-01-31T12:00:00.123456Z",
        "day": "1969-07-20",
        "time": "23:59:59.999",
        "local": "2026-01-31T12:00:00.000",
        "state": "PAID",
        "tags": ["é", '"quoted"'],
        "extra": {"a": None, "b": 1, "c": "x"},
        "rate": 0.5,
        "weight": 0.1,
        "raw": "AP8=",
        "sequence": sequence,
        "final": True,
        "parent": parent,
    }


PROTO = """
syntax = "proto3";
package shop;
import "google/protobuf/duration.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";

message Unused { string name = 1; }

message Order {
  enum State { NEW = 0; PAID = 1; }
  message Empty {}
  message Line {
    string sku_code = 1;
    sint64 amount_minor = 2;
    fixed64 big = 3;
  }
  repeated Line lines = 1;
  State state = 2;
  map<string, int32> counts = 3;
  google.protobuf.Timestamp created_at = 4;
  google.protobuf.Duration lasted = 5;
  google.protobuf.Struct extra = 6;
  google.protobuf.Int64Value limit = 7;
  bytes raw = 8;
  double share = 9;
  repeated int32 numbers = 10;
  oneof payer { string card = 11; string iban = 12; }
  optional bool checked = 13;
}
"""


def proto_messages():
    """What a compiler makes of PROTO."""
    file = descriptor_pb2.FileDescriptorProto(name="order.proto", package="shop", syntax="proto3")
    for module in (duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2):
        file.dependency.append(module.DESCRIPTOR.name)
    field = descriptor_pb2.FieldDescriptorProto

    def add(message, number, name, kind, type_name=None, label=field.LABEL_OPTIONAL, **more):
        message.field.add(
            number=number, name=name, type=kind, type_name=type_name, label=label, **more
        )

    add(file.message_type.add(name="Unused"), 1, "name", field.TYPE_STRING)
    order = file.message_type.add(name="Order")
    state = order.enum_type.add(name="State")
    state.value.add(name="NEW", number=0)
    state.value.add(name="PAID", number=1)
    order.nested_type.add(name="Empty")
    line = order.nested_type.add(name="Line")
    add(line, 1, "sku_code", field.TYPE_STRING)
    add(line, 2, "amount_minor", field.TYPE_SINT64)
    add(line, 3, "big", field.TYPE_FIXED64)
    entry = order.nested_type.add(name="CountsEntry")
    entry.options.map_entry = True
    add(entry, 1, "key", field.TYPE_STRING)
    add(entry, 2, "value", field.TYPE_INT32)
    many = field.LABEL_REPEATED
    add(order, 1, "lines", field.TYPE_MESSAGE, ".shop.Order.Line", many)
    add(order, 2, "state", field.TYPE_ENUM, ".shop.Order.State")
    add(order, 3, "counts", field.TYPE_MESSAGE, ".shop.Order.CountsEntry", many)
    add(order, 4, "created_at", field.TYPE_MESSAGE, ".google.protobuf.Timestamp")
    add(order, 5, "lasted", field.TYPE_MESSAGE, ".google.protobuf.Duration")
    add(order, 6, "extra", field.TYPE_MESSAGE, ".google.protobuf.Struct")
    add(order, 7, "limit", field.TYPE_MESSAGE, ".google.protobuf.Int64Value")
    add(order, 8, "raw", field.TYPE_BYTES)
    add(order, 9, "share", field.TYPE_DOUBLE)
    add(order, 10, "numbers", field.TYPE_INT32, None, many)
    order.oneof_decl.add(name="payer")
    order.oneof_decl.add(name="_checked")
    add(order, 11, "card", field.TYPE_STRING, oneof_index=0)
    add(order, 12, "iban", field.TYPE_STRING, oneof_index=0)
    add(order, 13, "checked", field.TYPE_BOOL, oneof_index=1, proto3_optional=True)
    pool = descriptor_pool.Default()
    described = pool.AddSerializedFile(file.SerializeToString())
    described = pool.FindFileByName("order.proto")
    order = described.message_types_by_name["Order"]
    return (
        message_factory.GetMessageClass(order),
        message_factory.GetMessageClass(order.nested_types_by_name["Line"]),
    )


def order():
    message = ORDER(
        state=1,
        counts={"a": 1, "b": -2},
        raw=b"\x00\xff",
        share=0.1,
        numbers=[1, -1, 2**31 - 1],
        iban="DE00",
        checked=False,
    )
    message.lines.add(sku_code="x", amount_minor=-(2**53) - 1, big=2**64 - 1)
    message.lines.add()
    message.created_at.FromJsonString("2026-01-31T12:00:00.123Z")
    message.lasted.FromJsonString("-1.500s")
    message.extra.update({"deep": [1, {"a": None}], "yes": True})
    message.limit.value = 2**53 + 1
    return message


ORDER, LINE = proto_messages()


def case(name, kind, schema, value, header, expected, references=()):
    encode = lambda part: None if part is None else base64.b64encode(part).decode()
    print(
        json.dumps(
            {
                "name": name,
                "kind": kind,
                "schema": schema,
                "references": [{"name": n, "schema": text} for n, text in references],
                "value": encode(value),
                "header": encode(header),
                "expected": expected,
            }
        )
    )


def serialized(make, value):
    """With the schema's number before the value, and with its GUID in a header."""
    for place, conf in [
        ("value", {}),
        ("header", {"schema.id.serializer": header_schema_id_serializer}),
    ]:
        headers = []
        context = SerializationContext("payments", MessageField.VALUE, headers)
        written = make(conf)(value, context)
        header = dict(headers).get("__value_schema_id")
        assert (header is None) == (place == "value"), headers
        yield place, written, header


def main():
    registry = SchemaRegistryClient.new_client({"url": "mock://"})
    money = json.dumps(MONEY)
    registry.register_schema("money", Schema(money, "AVRO"))
    reference = SchemaReference("shop.common.Money", "money", 1)
    schema = Schema(json.dumps(PAYMENT), "AVRO", [reference])
    make = lambda conf: AvroSerializer(registry, schema, conf=conf)
    value = payment(2**53 + 1, parent=payment(-(2**63)))
    expected = payment_as_json(2**53 + 1, parent=payment_as_json(-(2**63)))
    for place, written, header in serialized(make, value):
        references = [("shop.common.Money", money)]
        text = schema.schema_str
        case(f"avro, {place}", "AVRO", text, written, header, expected, references)

    text = json.dumps({"title": "Payment", "type": "object"})
    make = lambda conf: JSONSerializer(text, registry, conf=conf)
    value = {"amount": "10.50", "note": "é"}
    for place, written, header in serialized(make, value):
        case(f"json schema, {place}", "JSON", text, written, header, value)

    for message in (order(), LINE(sku_code="y")):
        make = lambda conf: ProtobufSerializer(type(message), registry, conf=conf)
        expected = json_format.MessageToDict(message)
        name = type(message).__name__
        for place, written, header in serialized(make, message):
            case(f"protobuf {name}, {place}", "PROTOBUF", PROTO, written, header, expected)


main()
