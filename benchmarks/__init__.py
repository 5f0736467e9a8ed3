"""Side-by-side timings in one run, as ratios; never part of the tests."""
