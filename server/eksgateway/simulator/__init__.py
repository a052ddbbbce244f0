"""A simulated EKS endpoint that real boto3 and the AWS CLI talk to. It is not AWS."""

from eksgateway.simulator.call_log import CallRecord
from eksgateway.simulator.server import Simulator, serve
from eksgateway.simulator.specs import SpecError

__all__ = ["CallRecord", "Simulator", "SpecError", "serve"]
