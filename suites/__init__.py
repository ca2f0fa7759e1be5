"""What must hold: the cases. Run them by `pytest --cluster=…` in a checkout, by `netproof run --cluster=…` anywhere."""
