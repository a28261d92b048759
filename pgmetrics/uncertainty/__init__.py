"""Standard errors, intervals, tests and verdicts."""
