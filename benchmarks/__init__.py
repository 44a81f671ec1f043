"""Benchmarks: what Limen costs, each figure beside its limit in the same run.

Vocabulary: *ours* is Limen as it ships, real processes included; the *peer* is what the same machine does without
Limen's work (bare WireGuard, OpenSSH's server, a real OpenBao, plain SQL), or a limit that the design sets. *ratio* is
always ours divided by peer; whether more or less is better stands in the metric.

Rules:

- Ours and peer run interleaved in one run, on the same machine, with the same client; the figure is the median.
- Absolute figures depend on the machine, ratios count. No test asserts a time.
- A benchmark removes all that it made, whatever happened, and ends within a few minutes; ``--quick`` only shows that
  it works.

``python -m benchmarks NAME [--json FILE] [--quick]``; :mod:`benchmarks.__main__` lists the names.
"""
