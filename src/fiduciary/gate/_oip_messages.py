"""The messages of oip.proto as classes, from its compiled descriptor (`make proto` writes _oip_pb2.py).

They live in a descriptor pool of their own, because another library in the same process may define messages of the
same names, and they are made by whatever protobuf runtime is installed, because generated classes are bound to one.
"""

from __future__ import annotations

import base64
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from fiduciary.gate._oip_pb2 import DESCRIPTOR

SERVICE = "inference.GRPCInferenceService"

_file = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(DESCRIPTOR))
_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file)


def message(name: str) -> Any:
    """The class of a message by its name, such as `ModelInferRequest`."""
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"inference.{name}"))


ModelInferRequest = message("ModelInferRequest")
ModelInferResponse = message("ModelInferResponse")
ModelMetadataResponse = message("ModelMetadataResponse")
