"""What simnet promises, as tests. The tree mirrors the rooms of the house."""
