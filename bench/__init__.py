"""`make bench`: what the request log costs and what it brings, always against a baseline of the same run."""
