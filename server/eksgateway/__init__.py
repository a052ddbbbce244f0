"""A gRPC gateway that cancels Amazon EKS updates: decided by policy, recorded first, watched to the end."""
