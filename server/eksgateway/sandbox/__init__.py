"""The sandbox and the demo: a gateway, its callers and a simulated EKS on one machine."""
