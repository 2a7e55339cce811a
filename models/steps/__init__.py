"""First-order steps: momentum, Adam, and steps divided by a scaling."""
