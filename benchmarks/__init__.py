"""Benchmarks: timings of isthmus and of alternatives in one run, as ratios. They are not tests."""
