"""Bazel's ActionResult by Google's own protobuf library, as far as remote_execution.proto is needed: to check ours against."""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELD = descriptor_pb2.FieldDescriptorProto
_MESSAGES = {
    "Digest": [("hash", 1, _FIELD.TYPE_STRING, ""), ("size_bytes", 2, _FIELD.TYPE_INT64, "")],
    "OutputFile": [
        ("path", 1, _FIELD.TYPE_STRING, ""),
        ("digest", 2, _FIELD.TYPE_MESSAGE, "Digest"),
        ("is_executable", 4, _FIELD.TYPE_BOOL, ""),
    ],
    "ExecutedActionMetadata": [("worker", 1, _FIELD.TYPE_STRING, "")],
    "ActionResult": [
        ("output_files", 2, _FIELD.TYPE_MESSAGE, "*OutputFile"),
        ("exit_code", 4, _FIELD.TYPE_INT32, ""),
        ("stdout_digest", 6, _FIELD.TYPE_MESSAGE, "Digest"),
        ("execution_metadata", 9, _FIELD.TYPE_MESSAGE, "ExecutedActionMetadata"),
    ],
}


def _action_result() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="axforge_tests.proto", package="axforge_tests", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, other in fields:
            label = _FIELD.LABEL_REPEATED if other.startswith("*") else _FIELD.LABEL_OPTIONAL
            type_name = f".axforge_tests.{other.lstrip('*')}" if other else None
            message.field.add(name=field, number=number, type=kind, label=label, type_name=type_name)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("axforge_tests.ActionResult"))


ActionResult = _action_result()


def with_worker(data: bytes) -> bytes:
    """An action result as bazel-remote stores it: with the name of who sent it."""
    result = ActionResult.FromString(data)
    result.execution_metadata.worker = "worker"
    return bytes(result.SerializeToString())
