"""The right of each open watch to go on: the policy is asked again until the watch ends."""
