"""Server reflection in both versions that clients use, v1 and v1alpha.

grpcio-reflection serves v1alpha only. The two protocols are the same but for their package, so
v1's descriptor is made from v1alpha's, and one servicer answers both.
"""

from __future__ import annotations

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from eksgateway.rpc.methods import CANCELLATIONS, HEALTH, REFLECTION, UPDATES


def add_reflection(server: grpc.aio.Server) -> None:
    """Register both services. Error details are reflectable too, so that grpcurl decodes them."""
    assert error_details_pb2.DESCRIPTOR  # noqa: S101  loading it is what puts it into the pool
    pool = descriptor_pool.Default()
    _add_v1_descriptor(pool)
    servicer = ReflectionServicer([UPDATES, CANCELLATIONS, HEALTH, *REFLECTION], pool=pool)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for service in REFLECTION:
        server.add_registered_method_handlers(service, {"ServerReflectionInfo": handler})


def _add_v1_descriptor(pool: descriptor_pool.DescriptorPool) -> None:
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name = "grpc/reflection/v1/reflection.proto"
    file.package = "grpc.reflection.v1"
    types = [field for message in file.message_type for field in message.field]
    methods = [method for service in file.service for method in service.method]
    for field in types:
        if field.type_name:
            field.type_name = _v1(field.type_name)
    for method in methods:
        method.input_type, method.output_type = _v1(method.input_type), _v1(method.output_type)
    pool.AddSerializedFile(file.SerializeToString())  # adding the same file again is no error


def _v1(name: str) -> str:
    return name.replace("grpc.reflection.v1alpha", "grpc.reflection.v1")
