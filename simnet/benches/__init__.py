"""What `simnet bench` measures, one file for each part; `simnet/bench.py` is the door."""
