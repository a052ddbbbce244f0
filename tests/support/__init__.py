"""What tests share: real components, started on port 0 and stopped afterwards."""
