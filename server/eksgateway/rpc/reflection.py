"""Server reflection in both versions that clients use, v1 and v1alpha.

grpcio-reflection serves v1alpha only. The versions differ in their package alone, so one servicer answers
both. Its pool also finds methods, and values by their enum, and adds the JSON names of fields; protobuf's
does none of these.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

import grpc
from google.protobuf import descriptor, descriptor_pb2, descriptor_pool, text_format
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from eksgateway.rpc.methods import CANCELLATIONS, HEALTH, REFLECTION, UPDATES


def add_reflection(server: grpc.aio.Server) -> None:
    assert error_details_pb2.DESCRIPTOR  # noqa: S101  importing it adds it to the pool, for grpcurl
    pool = descriptor_pool.Default()
    _add_v1_descriptor(pool)
    services = [UPDATES, CANCELLATIONS, HEALTH, *REFLECTION]
    servicer = ReflectionServicer(services, pool=_Pool(pool))
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for service in REFLECTION:
        server.add_registered_method_handlers(service, {"ServerReflectionInfo": handler})


class _Pool:
    """The part of a descriptor pool that ``ReflectionServicer`` uses."""

    def __init__(self, pool: descriptor_pool.DescriptorPool) -> None:
        self._pool = pool
        self.FindMessageTypeByName = pool.FindMessageTypeByName
        self.FindExtensionByNumber = pool.FindExtensionByNumber
        self.FindAllExtensions = pool.FindAllExtensions

    def FindFileByName(self, name: str) -> _File:
        return _File(self._pool.FindFileByName(name))

    def FindFileContainingSymbol(self, symbol: str) -> _File:
        try:
            return _File(self._pool.FindFileContainingSymbol(symbol))
        except KeyError:
            parent, _, name = symbol.rpartition(".")
            file = self._pool.FindFileContainingSymbol(parent)
            if name not in self._children(parent):
                raise
            return _File(file)

    def _children(self, parent: str) -> Collection[str]:
        """The methods of a service, or the values of an enum."""
        with suppress(KeyError):
            return self._pool.FindServiceByName(parent).methods_by_name
        with suppress(KeyError):
            return self._pool.FindEnumTypeByName(parent).values_by_name
        return ()


class _File:
    """The part of a file descriptor that ``ReflectionServicer`` uses."""

    def __init__(self, file: descriptor.FileDescriptor) -> None:
        self._file = file
        self.name = file.name

    @property
    def dependencies(self) -> list[_File]:
        return [_File(file) for file in self._file.dependencies]

    def CopyToProto(self, proto: descriptor_pb2.FileDescriptorProto) -> None:
        """Without JSON names tools would show `created_at` in JSON."""
        self._file.CopyToProto(proto)
        for message in proto.message_type:
            _add_json_names(message)


def _add_json_names(message: descriptor_pb2.DescriptorProto) -> None:
    for field in message.field:
        if not field.json_name:
            first, *others = field.name.split("_")
            field.json_name = first + "".join(word[:1].upper() + word[1:] for word in others)
    for nested in message.nested_type:
        _add_json_names(nested)


def _add_v1_descriptor(pool: descriptor_pool.DescriptorPool) -> None:
    alpha = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(alpha)
    text = text_format.MessageToString(alpha).replace("v1alpha", "v1")
    file = text_format.Parse(text, descriptor_pb2.FileDescriptorProto())
    file.name = "grpc/reflection/v1/reflection.proto"  # as in grpc's repository, and not as in grpcio's
    pool.AddSerializedFile(file.SerializeToString())  # adding the same file again is allowed
