"""The switch from a LiteLLM on Prisma, and back: backup, backfill of the request log, proof that nothing is missing."""
