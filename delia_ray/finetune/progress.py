"""The file in which rank 0 says how far it is; a module of its own, free of torch."""

PROGRESS = "progress.json"

TRACE, SUMMARY = "profile/trace.json.gz", "profile/summary.json"
"""In an arm's folder, where ``finetune.profile`` is set: a trace that opens in
https://ui.perfetto.dev or chrome://tracing, and its figures."""
