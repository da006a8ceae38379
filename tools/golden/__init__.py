"""Adapters from published classes to ours, one module a family, for `tools/check_golden.py`."""
